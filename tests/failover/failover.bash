# What test_failover.sh and test_leader.sh share: a `fastserve batch` on ranks of this machine, blows at its processes,
# and the answers of an undisturbed run to compare with. Sourced, with PROGRAM and the cases as arguments.
program=$(realpath "$1")
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/failover/answers.bash
. "$here/tests/failover/answers.bash"
mpirun="$here/scripts/mpirun_here.sh"
work=$(mktemp -d)
failures=0
most_waits=1000 # 20 s
job='' pids=()
trap 'end_all; rm -rf "$work"' EXIT
cd "$work" || exit 1
# Commands name files by this folder, so that the processes of another test are never taken for this one's.
demo="$work/demo"
ln -s "$here/models/demo" "$demo"

fail() {
  echo "FAILED: $*"
  echo "--- stderr"
  tail -20 err 2>/dev/null
  failures=$((failures + 1))
}

# The processes of the jobs of this test; those that write to OUT.
members() { pgrep -f "^$program [a-z]+ .*${1:-$work/}"; }

# A job that a test leaves when it is ended itself.
end_all() {
  [ -n "$job" ] || return 0
  members | xargs -r kill -KILL
  kill "$job" 2>/dev/null
}

# What stands still until a death is seen: little work is enough. With --max-batch 8 a third of it is not read yet when the
# first answers are there.
some_answers() { make_input 90 0 25; }
# For a death that stops nothing, or one that comes when answers go on after another blow, which are written once a second:
# three seconds of work or more on two cores; the deadline is one.
more_answers() { make_input 200 0 50; }
# Two such deaths in a row.
most_answers() { make_input 220 0 120; }
# The first answer is one token long: with it there, most of the prompts are still to be read.
long_prompts() { make_input 40 60 1; }
few_answers() { make_input 12 0 5; }

# begin OUT: starts the job in the background.
begin() {
  out=$work/$1
  rm -f "$out" "$out".*
  begin_again
}
begin_again() {
  : >err # a job before this one said things, too
  rm -f job_id
  pids=()
  timeout -k 50 250 "$mpirun" --survive "$ranks" "$program" batch "$work/in.jsonl" "$out" --model "$demo" --threads 1 \
    --max-batch 8 "${options[@]}" >stdout 2>err &
  job=$!
}
# A job whose processes are known before they are to be struck.
begin_known() {
  local rank
  begin "$1"
  for ((rank = 0; rank < ranks; ++rank)); do find_rank "$rank"; done
}

# find_rank RANK: its process, in pids[RANK]; waits until there is one.
find_rank() {
  local patience=${most_waits:?} pid
  [ -z "${pids[$1]:-}" ] || return 0
  while [ "$patience" -gt 0 ] && kill -0 "$job" 2>/dev/null; do
    for pid in $(members "$out "); do
      if grep -qzx "OMPI_COMM_WORLD_RANK=$1" "/proc/$pid/environ" 2>/dev/null; then
        pids[$1]=$pid
        # What the job's shared memory is named after.
        [ -s job_id ] || sed -zn 's/^PMIX_NAMESPACE=//p' "/proc/$pid/environ" | tr -d '\0' | xargs printf '%x' >job_id
        return
      fi
    done
    sleep 0.02
    patience=$((patience - 1))
  done
}

# strike SIGNAL RANK...: all at once
strike() {
  local signal=$1 rank targets=()
  shift
  for rank in "$@"; do
    find_rank "$rank"
    [ -n "${pids[$rank]:-}" ] || fail "no rank $rank to send $signal to"
    targets+=("${pids[$rank]}")
  done
  kill -"$signal" "${targets[@]}" 2>/dev/null || fail "not sent: $signal to ranks $*"
  struck_at=$(lines "$out")
  [ "$struck_at" -lt "$(requests)" ] || fail "the batch was over before $signal to ranks $*"
  [ "$signal" != KILL ] || kills=$((kills + $#))
}

# end_of WHAT CODE: the job's end, and that nothing of it is left.
end_of() {
  local code left patience=200
  find_rank 0 # a rank there was, struck or not
  wait "$job"
  code=$?
  job=''
  [ "$code" -eq "$2" ] || fail "$1: exit code $code"
  while left=$(members "$out ") && [ "$patience" -gt 0 ]; do
    sleep 0.1
    patience=$((patience - 1))
  done
  [ -z "$left" ] || fail "$1: processes are left: $left"
  [ -s job_id ] || fail "$1: what its shared memory is called is not known"
  left=$(find /dev/shm -name "vader_segment.*.$(cat job_id).*")
  [ -z "$left" ] || fail "$1: shared memory is left: $left"
  grep -h 'is lost\|epoch\|leads\|leaves' err | sed "s/^fastserve: /  $1: /"
}

# The answers to expect, of one process that has it all. Cases of one input share them.
undisturbed() {
  local known
  known=known.$(cksum <in.jsonl | tr ' ' .)
  if [ ! -e "$known" ]; then
    rm -f undisturbed.jsonl*
    timeout 250 "$program" batch "$work/in.jsonl" "$work/undisturbed.jsonl" --model "$demo" --threads 1 >stdout 2>err ||
      fail "the undisturbed run: exit code $?"
    expect undisturbed.jsonl
    cp undisturbed.normal "$known"
  fi
  cp "$known" undisturbed.normal
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
