#!/bin/sh
# Runs a program on N ranks of this machine, as the tests do: usage: mpirun_here.sh N COMMAND [ARGUMENT...]
# Works as root, in containers and with more ranks than cores; adds nothing to the program's output; stdin goes
# to rank 0; the exit code is the program's.
set -eu

if [ $# -lt 2 ]; then
  echo "usage: $0 RANKS COMMAND [ARGUMENT...]" >&2
  exit 2
fi
ranks=$1
shift

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

if mpirun --version 2>/dev/null | grep -q "Open MPI\|OpenRTE"; then
  exec mpirun --oversubscribe --bind-to none -n "$ranks" "$@"
fi
exec mpirun -n "$ranks" "$@"
