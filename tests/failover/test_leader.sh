#!/usr/bin/env bash
# `fastserve batch` while its leader dies, alone or with others: another rank takes over, and the answers are those of
# a run that nobody disturbed, every id once, exit code 0 in the status file, and nothing of the job is left behind.
# Usage: test_leader.sh PROGRAM CASE...     (the cases are the functions case_* below)
set -u
# shellcheck source=tests/failover/failover.bash
. "$(dirname "$0")/failover.bash"

# finish WHAT CODE LEADERS...: the job's end, and who took over.
finish() {
  local what=$1 leader
  end_of "$what" "$2"
  shift 2
  for leader in "$@"; do
    grep -q "rank $leader .*leads from here on" err || fail "$what: rank $leader did not take over"
  done
  [ "$(grep -c 'leads from here on' err)" -eq $# ] || fail "$what: other ranks took over than $*"
}

# -- cases --------------------------------------------------------------------

case_decode() {
  some_answers
  undisturbed
  begin_known decode.jsonl
  wait_for_answers
  strike KILL 0
  finish "the leader in decode" 0 1
  same "the leader in decode" "$out"
  # What the standby knew was not drawn again.
  grep -q ' [1-9][0-9]* answers go on' err || fail "nothing went on where it was"
}

case_prefill() {
  long_prompts
  undisturbed
  begin_known prefill.jsonl
  wait_for_answers
  strike KILL 0
  finish "the leader in prefill" 0 1
  [ "$struck_at" -lt $(($(requests) / 2)) ] || fail "the leader in prefill: half was answered before"
  same "the leader in prefill" "$out"
}

# The new leader, too, in peace and while it takes over.
case_twice() {
  some_answers
  undisturbed
  begin_known twice.jsonl
  wait_for_answers
  strike KILL 0
  wait_for_line 'answers go on'
  wait_for_more
  strike KILL 1
  finish "one leader after the other" 0 1 2
  same "one leader after the other" "$out"
  until_hit during
}
during() {
  begin_known during.jsonl
  wait_for_answers
  strike KILL 0
  wait_for_line 'rank 1 .*leads'
  strike KILL 1
  finish "the new leader at once" 0 1 2
  same "the new leader at once" "$out"
  # Only the last one came to say it.
  [ "$(grep -c 'answers go on' err)" -ne 1 ] || hit=yes
}

# With another stage, with the standby, and with all but the last rank.
case_stage() {
  some_answers
  undisturbed
  begin_known stage.jsonl
  wait_for_answers
  strike KILL 0 2
  finish "the leader and a stage" 0 1
  same "the leader and a stage" "$out"
  begin_known both.jsonl
  wait_for_answers
  strike KILL 0 1
  finish "the leader and the standby" 0 2
  same "the leader and the standby" "$out"
}

case_most() {
  some_answers
  undisturbed
  begin_known most.jsonl
  wait_for_answers
  strike KILL 0 1 2
  finish "all but the last rank" 0 3
  same "all but the last rank" "$out"
}

# The standby first: another rank is it, and knows what it has to know.
case_standby() {
  more_answers
  undisturbed
  begin_known standby.jsonl
  wait_for_answers
  strike KILL 1
  wait_for_line 'epoch 2'
  wait_for_more
  strike KILL 0
  finish "the standby, then the leader" 0 2
  same "the standby, then the leader" "$out"
  grep -q ' [1-9][0-9]* answers go on' err || fail "nothing went on where it was"
}

# A leader that was silent for less than the deadline goes on as if nothing had happened; one that wakes up when another
# one leads is over.
case_stopped() {
  more_answers
  undisturbed
  options=(--deadline-ms 4000)
  begin_known stopped.jsonl
  wait_for_answers
  strike STOP 0
  sleep 1.1 # answers are written a second after the last ones
  strike CONT 0
  wait_for_more
  ! grep -q 'leads from here on\|is lost' err || fail "a paused leader was taken for dead"
  strike STOP 0
  wait_for_line 'leads from here on'
  kill -CONT "${pids[0]}" 2>/dev/null
  finish "a stopped leader" 0 1
  same "a stopped leader" "$out"
  [ ! -d "/proc/${pids[0]}" ] || fail "the zombie is still there"
}

# A spare takes the leader's layers over, and only these.
case_spare() {
  ranks=5
  options=(--spare-ranks 1)
  some_answers
  undisturbed
  begin_known spare.jsonl
  wait_for_answers
  strike KILL 0
  finish "a spare for the leader" 0 1
  same "a spare for the leader" "$out"
  grep -q 'epoch .* 4 stages on ranks 4, 1, 2, 3' err || fail "the spare did not take over"
}

# A new leader is drained as the old one is; the next job goes on.
case_drain() {
  more_answers
  undisturbed
  begin_known drain.jsonl
  wait_for_answers
  strike KILL 0
  wait_for_line 'answers go on'
  pkill -USR1 -P "$job" # timeout would not hand it on
  finish "a drained new leader" 75 1
  [ "$(lines "$out")" -lt "$(requests)" ] || fail "a drained new leader: it was finished before the signal came"
  timeout -k 50 250 "$mpirun" --survive 2 "$program" batch "$work/in.jsonl" "$out" --model "$demo" --threads 1 2>err ||
    fail "goes on: exit code $?"
  same "a job behind a drained one" "$out"
}

# Without a standby the others end, as the leader's death always ended a job.
case_off() {
  some_answers
  options=(--standby off --fence-ms 2000)
  begin_known off.jsonl
  wait_for_answers
  strike KILL 0
  finish "no standby" 1
  [ "$(grep -c 'leaves: no word of the leader' err)" -eq 3 ] || fail "no standby: the others did not leave"
}

run_cases "$@"
