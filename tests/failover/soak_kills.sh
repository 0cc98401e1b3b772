#!/usr/bin/env bash
# Random kills: `fastserve batch` on five ranks, two of them spares, loses a rank at random moments, the leader among
# them, until the time is up. A job that ended for want of ranks, or with its leader, is started again, and goes on. In
# the end every request must be answered once, with the text of a run that nobody disturbed, and nothing may be left.
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
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
ranks=5
options=(--spare-ranks 2 --threads 1 --max-batch 16)
failures=0 kills=0 leaders=0 starts=0 rounds=0 finished=0
before=$(find /dev/shm -name "*_segment.*" 2>/dev/null | LC_ALL=C sort)
touch began

fail() {
  echo "FAILED: $*"
  tail -20 err 2>/dev/null
  failures=$((failures + 1))
}

make_input 300 0 100

start() {
  starts=$((starts + 1))
  "$here/scripts/mpirun_here.sh" --survive "$ranks" "$program" batch in.jsonl "$out" --model "$here/models/demo" \
    "${options[@]}" >stdout 2>err &
  job=$!
}

# Processes of the job, one a line: PID RANK.
members() {
  local pid rank
  for pid in $(pgrep -f "^$program batch in.jsonl $out "); do
    rank=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p')
    [ -z "$rank" ] || echo "$pid $rank"
  done
}

# Kills one of the job's processes, whichever it is.
kill_one() {
  local all pid rank
  mapfile -t all < <(members)
  [ "${#all[@]}" -gt 0 ] || return
  read -r pid rank <<<"${all[RANDOM % ${#all[@]}]}"
  kill -KILL "$pid" 2>/dev/null || return
  kills=$((kills + 1))
  [ "$rank" -ne 0 ] || leaders=$((leaders + 1))
}

out=undisturbed.jsonl
start
wait "$job" || fail "the undisturbed run"
expect undisturbed.jsonl
starts=0

# A job that neither ends nor goes on is a failure, not a thing to wait for.
stuck_after=60
end=$((SECONDS + $(awk -v m="$minutes" 'BEGIN { print int(m * 60) }')))
while [ "$SECONDS" -lt "$end" ]; do
  rounds=$((rounds + 1))
  out=round$rounds.jsonl
  code=1
  while [ "$code" -ne 0 ]; do
    start
    grown=$SECONDS size=0
    # Kills at random moments, 0 to 4 seconds apart, as long as the time lasts.
    while kill -0 "$job" 2>/dev/null; do
      sleep "$((RANDOM % 4)).$((RANDOM % 10))"
      # From the start-up table on: a rank that dies in MPI_Init takes the job with it (docs/reliability.md).
      if [ "$SECONDS" -lt "$end" ] && grep -q '^rank ' err; then kill_one; fi
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

sleep 0.5
left=$(pgrep -f "^$program batch in.jsonl " || true)
[ -z "$left" ] || fail "processes are left: $left"
left=$(comm -13 <(echo "$before") <(find /dev/shm -name "*_segment.*" 2>/dev/null | LC_ALL=C sort))
[ -z "$left" ] || fail "shared memory is left: $left"
echo "$minutes minutes: $kills kills ($leaders of leaders), $finished batches of 300 requests finished in $starts starts, $failures failures"
[ "$failures" -eq 0 ]
