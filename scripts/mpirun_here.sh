#!/bin/sh
# Runs a program on N ranks of this machine, as the tests do: usage: mpirun_here.sh [--survive] N COMMAND [ARGUMENT...]
# Works as root, in containers and with more ranks than cores; adds nothing to the program's output; stdin goes
# to rank 0; the exit code is the program's.
#
# --survive: the job goes on when a rank dies (for fastserve; docs/reliability.md). mpirun then ends with 0 whatever
# happens, so the exit code comes from a file that fastserve writes when it ends by itself; 1 when there is none.
set -eu

survive=no
if [ "${1:-}" = --survive ]; then
  survive=yes
  shift
fi
if [ $# -lt 2 ]; then
  echo "usage: $0 [--survive] RANKS COMMAND [ARGUMENT...]" >&2
  exit 2
fi
ranks=$1
shift
# With --enable-recovery mpirun waits for ever for a program that it cannot start.
if ! command -v "$1" >/dev/null; then
  echo "$0: there is no program $1" >&2
  exit 127
fi

# Variables rather than flags: other MPI libraries ignore them.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Containers forbid reading another process's memory (CMA), and Open MPI warns before it does without.
export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism:-none}"
export OMPI_MCA_btl_base_warn_component_unused=0
export OMPI_MCA_orte_execute_quiet=1
# One machine: no network, so none is searched for.
export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}" OMPI_MCA_btl="${OMPI_MCA_btl:-self,vader}"
# Ranks on shared cores give way while they wait.
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"

flags=
if mpirun --version 2>/dev/null | grep -q "Open MPI\|OpenRTE"; then
  flags="--oversubscribe --bind-to none"
fi
# shellcheck disable=SC2086
[ "$survive" = yes ] || exec mpirun $flags -n "$ranks" "$@"

FASTSERVE_STATUS_FILE=$(mktemp)
export FASTSERVE_STATUS_FILE
exec 3<&0  # the shell gives what runs in the background no stdin but this
# shellcheck disable=SC2086
mpirun $flags --enable-recovery -n "$ranks" "$@" <&3 3<&- &
job=$!
trap 'kill -TERM "$job" 2>/dev/null' TERM
trap : INT # a terminal tells mpirun, too
trap 'kill -USR1 "$job" 2>/dev/null' USR1
# mpirun may wait for a node that is gone: not for long, once the program has ended. Nor does it always end by itself
# when ranks die before all have met: PMIx may lock up in it, so that it neither starts the other ranks nor buries the
# dead. When it had some that live and has had none for a while, it will have none; nor when it has none to begin with.
(
  trap - TERM INT USR1
  patience=30
  alone=0
  while [ ! -s "$FASTSERVE_STATUS_FILE" ] && [ "$alone" -lt "$patience" ]; do
    sleep 1
    kill -0 "$job" 2>/dev/null || exit 0
    if pgrep -r D,R,S,T,t -P "$job" >/dev/null; then
      patience=10
      alone=0
    else
      alone=$((alone + 1))
    fi
  done
  [ ! -s "$FASTSERVE_STATUS_FILE" ] || sleep 10
  kill -KILL "$job" 2>/dev/null
) >/dev/null 2>&1 </dev/null 3<&- &
guard=$!

# wait returns early when a signal arrives.
code=0
wait "$job" || code=$?
while kill -0 "$job" 2>/dev/null; do
  code=0
  wait "$job" || code=$?
done
kill "$guard" 2>/dev/null || true
if [ -s "$FASTSERVE_STATUS_FILE" ]; then
  code=$(cat "$FASTSERVE_STATUS_FILE")
elif [ "$code" -eq 137 ]; then
  echo "$0: mpirun was killed, or hung without a living rank and was ended; run it again" >&2
  code=1
elif [ "$code" -eq 0 ]; then
  echo "$0: the job ended without saying how" >&2
  code=1
fi
rm -f "$FASTSERVE_STATUS_FILE"
exit "$code"
