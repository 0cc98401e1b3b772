#!/usr/bin/env bash
# Random kills: `fastserve batch` on five ranks, two of them spares, loses a rank at random moments, the leader among
# them, until the time is up. A job that ended for want of ranks, or with its leader, is started again, and goes on. In
# the end every request must be answered once, with the text of a run that nobody disturbed, and nothing may be left. There
# must have been twelve kills a minute.
# Usage: soak_kills.sh PROGRAM MINUTES [SEED]
#   e.g. tests/failover/soak_kills.sh build/fastserve 10
set -u
program=$(realpath "$1")
minutes=$2
RANDOM=${3:-1}
here=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/failover/answers.bash
. "$here/tests/failover/answers.bash"
work=$(mktemp -d)
job=''
trap 'end_all; rm -rf "$work"' EXIT
cd "$work" || exit 1
ranks=5
options=(--spare-ranks 2 --threads 1 --max-batch 8)
failures=0 kills=0 leaders=0 starts=0 rounds=0 finished=0
jobs=() # what their shared memory is named after

fail() {
  echo "FAILED: $*"
  tail -20 err 2>/dev/null
  failures=$((failures + 1))
}

make_input 150 0 80

start() {
  starts=$((starts + 1))
  timeout -k 50 1h "$here/scripts/mpirun_here.sh" --survive "$ranks" "$program" batch \
    "$work/in.jsonl" "$out" --model "$here/models/demo" "${options[@]}" >stdout 2>err &
  job=$!
}

# All processes of this test, or of the job that writes to OUT.
processes() { pgrep -f "^$program batch $work/in.jsonl ${1:-}"; }

# When this is ended itself.
end_all() {
  [ -n "$job" ] || return 0
  processes | xargs -r kill -KILL
  kill "$job" 2>/dev/null
}

# Processes of the job, one a line: PID RANK JOB.
members() {
  local pid
  for pid in $(processes "$out "); do
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | awk -F= -v pid="$pid" '
      $1 == "OMPI_COMM_WORLD_RANK" { rank = $2 }
      $1 == "PMIX_NAMESPACE" { job = $2 }
      END { if (rank != "") print pid, rank, job }'
  done
}

# The rank that leads: the first one, or that which took over last.
leader() {
  local last
  last=$(sed -n 's/^fastserve: rank \([0-9]*\) .* leads from here on: .*/\1/p' err | tail -1)
  echo "${last:-0}"
}

# Kills one of the living, whichever it is.
kill_one() {
  local pid rank
  [ "${#living[@]}" -gt 0 ] || return
  read -r pid rank _ <<<"${living[RANDOM % ${#living[@]}]}"
  [ "$rank" -ne "$(leader)" ] || leaders=$((leaders + 1))
  kill -KILL "$pid" 2>/dev/null || return
  kills=$((kills + 1))
}

timeout 600 "$program" batch "$work/in.jsonl" "$work/undisturbed.jsonl" --model "$here/models/demo" --threads 1 >stdout 2>err ||
  fail "the undisturbed run: exit code $?"
expect undisturbed.jsonl

# A job that neither ends nor goes on is a failure, not a thing to wait for.
stuck_after=60
end=$((SECONDS + $(awk -v m="$minutes" 'BEGIN { print int(m * 60) }')))
least=$(awk -v m="$minutes" 'BEGIN { print int(m * 12) }')
# Whether there is time left; a machine that is busy with other things gets two minutes more.
time_left() { [ "$SECONDS" -lt "$end" ] || { [ "$kills" -lt "$least" ] && [ "$SECONDS" -lt $((end + 120)) ]; }; }
while time_left; do
  rounds=$((rounds + 1))
  out=$work/round$rounds.jsonl
  code=1
  while [ "$code" -ne 0 ]; do
    start
    grown=$SECONDS size=0
    # Kills at random moments, 0 to 4 seconds apart, as long as the time lasts.
    while kill -0 "$job" 2>/dev/null; do
      sleep "$((RANDOM % 4)).$((RANDOM % 10))"
      # From the start-up table on: a rank that dies in MPI_Init takes the job with it (docs/reliability.md).
      mapfile -t living < <(members)
      [ "${#living[@]}" -eq 0 ] || jobs+=("${living[0]##* }")
      if time_left && grep -q '^rank ' err; then kill_one; fi
      now=$(wc -c 2>/dev/null <"$out" || echo 0)
      [ "$now" = "$size" ] || { size=$now grown=$SECONDS; }
      if [ $((SECONDS - grown)) -gt "$stuck_after" ]; then
        fail "round $rounds: nothing happens for $stuck_after s; living: $(members | tr '\n' ';')"
        pgrep -P "$job" | xargs -r kill -KILL
        members | while read -r pid _; do kill -KILL "$pid"; done
      fi
    done
    wait "$job"
    code=$?
    [ "$failures" -lt 5 ] || break 2
  done
  finished=$((finished + 1))
  same "round $rounds" "$out"
done

job=''
sleep 0.5
left=$(processes || true)
[ -z "$left" ] || fail "processes are left: $left"
for name in $(printf '%s\n' "${jobs[@]}" | sort -u); do
  left=$(find /dev/shm -name "*_segment.*.$(printf '%x' "$name").*")
  [ -z "$left" ] || fail "shared memory is left: $left"
done
[ "$kills" -ge "$least" ] || fail "only $kills kills, expected $least"
echo "$minutes minutes: $kills kills ($leaders of leaders), $finished batches of $(requests) requests finished in $starts starts, $failures failures"
[ "$failures" -eq 0 ]
