# What test_failover.sh and test_leader.sh share: a `fastserve batch` on ranks of this machine, blows at its processes,
# and the answers of an undisturbed run to compare with. Sourced, with PROGRAM and the cases as arguments.
program=$(realpath "$1")
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/failover/answers.bash
. "$here/tests/failover/answers.bash"
mpirun="$here/scripts/mpirun_here.sh"
demo="$here/models/demo"
work=$(mktemp -d)
failures=0
most_waits=1000 # 20 s
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

fail() {
  echo "FAILED: $*"
  echo "--- stderr"
  tail -20 err 2>/dev/null
  failures=$((failures + 1))
}

# What most cases are about: five seconds of work, of which the first answers take one.
long_answers() { make_input 220 0 120; }
# Half of that work, where all of it stands still until a death is seen.
some_answers() { make_input 200 0 50; }
long_prompts() { make_input 130 60 1; }

# begin OUT: starts the job in the background.
begin() {
  out=$1
  rm -f "$out" "$out".*
  begin_again
}
begin_again() {
  : >err # a job before this one said things, too
  timeout 250 "$mpirun" --survive "$ranks" "$program" batch in.jsonl "$out" --model "$demo" --threads 1 \
    --max-batch 16 "${options[@]}" >stdout 2>err &
  job=$!
}

# The process of a rank; waits until there is one.
pid_of() {
  local patience=200 pid
  while [ "$patience" -gt 0 ]; do
    for pid in $(pgrep -f "^$program batch in.jsonl $out "); do
      if tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$1"; then
        echo "$pid"
        # What the job's shared memory is named after.
        tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^PMIX_NAMESPACE=//p' | xargs printf '%x' >job_id
        return
      fi
    done
    sleep 0.02
    patience=$((patience - 1))
  done
}

# strike SIGNAL RANK...: all at once
strike() {
  local signal=$1 rank pid pids=()
  shift
  for rank in "$@"; do
    pid=$(pid_of "$rank")
    [ -n "$pid" ] || fail "no rank $rank to send $signal to"
    pids+=("$pid")
  done
  kill -"$signal" "${pids[@]}" 2>/dev/null || fail "not sent: $signal to ranks $*"
  [ "$signal" != KILL ] || kills=$((kills + $#))
}

# end_of WHAT CODE: the job's end, and that nothing of it is left.
end_of() {
  local code left patience=50
  wait "$job"
  code=$?
  [ "$code" -eq "$2" ] || fail "$1: exit code $code"
  while left=$(pgrep -f "^$program batch in.jsonl $out ") && [ "$patience" -gt 0 ]; do
    sleep 0.1
    patience=$((patience - 1))
  done
  [ -z "$left" ] || fail "$1: processes are left: $left"
  left=$(find /dev/shm -name "vader_segment.*.$(cat job_id).*")
  [ -z "$left" ] || fail "$1: shared memory is left: $left"
  grep -h 'is lost\|epoch\|leads\|leaves' err | sed "s/^fastserve: /  $1: /"
}

# The answers to expect. Cases of one input share them.
undisturbed() {
  ! cmp -s in.jsonl known.jsonl || return 0
  cp in.jsonl known.jsonl
  begin undisturbed.jsonl
  wait "$job" || fail "the undisturbed run: exit code $?"
  expect undisturbed.jsonl
}

run_cases() {
  local which
  for which in "$@"; do
    ranks=4 options=() kills=0
    "case_$which"
    echo "$which: $kills kills, $failures failures"
  done
  [ "$failures" -eq 0 ]
}
