#!/usr/bin/env bash
# `fastserve batch` while its leader dies, alone or with others: another rank takes over, and the answers are those of
# a run that nobody disturbed, every id once, exit code 0 in the status file, and nothing of the job is left behind.
# Usage: test_leader.sh PROGRAM CASE       (the cases are the functions case_* below)
set -u
program=$1
which=$2
here=$(cd "$(dirname "$0")/../.." && pwd)
mpirun="$here/scripts/mpirun_here.sh"
demo="$here/models/demo"
work=$(mktemp -d)
failures=0
kills=0
ranks=4
options=()
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

fail() {
  echo "FAILED: $*"
  echo "--- stderr"
  tail -20 err 2>/dev/null
  failures=$((failures + 1))
}

# COUNT requests of about PROMPT words and ANSWER tokens: greedy and drawn, some with two answers, with
# log-probabilities, with a stop string, some that are errors.
make_input() {
  awk -v n="$1" -v prompt="$2" -v answer="$3" 'BEGIN {
    for (i = 0; i < n; ++i) {
      text = "The " i "th king of"
      for (w = 0; w < prompt; ++w) text = text " " (w * 7 + i) % 97 " ships"
      more = ""
      if (i % 11 == 3) more = more ",\"n\":2"
      if (i % 13 == 5) more = more ",\"logprobs\":2"
      if (i % 7 == 2) more = more ",\"stop\":[\"e s\"]"
      if (i % 17 == 9) more = more ",\"presence_penalty\":0.5"
      if (i % 50 == 49) more = more ",\"top_p\":-3"
      printf "{\"custom_id\":\"r%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"%s\",\"max_tokens\":%d,\"temperature\":%s,\"seed\":%d,\"ignore_eos\":true%s}}\n",
        i, text, answer + (i * 7) % 50, i % 2 ? "0.7" : "0", i, more
    }
  }' >in.jsonl
}

normal() { sed 's/"created":[0-9]*/"created":0/' "$1" | LC_ALL=C sort; }
requests() { wc -l <in.jsonl; }

begin() {
  out=$1
  rm -f "$out" "$out".*
  timeout 250 "$mpirun" --survive "$ranks" "$program" batch in.jsonl "$out" --model "$demo" --threads 1 \
    --max-batch 16 "${options[@]}" >stdout 2>err &
  job=$!
}

# pid_of RANK: waits until there is one.
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

wait_for() {
  local patience=1000
  while ! eval "$1" && [ "$patience" -gt 0 ] && kill -0 "$job" 2>/dev/null; do
    sleep 0.02
    patience=$((patience - 1))
  done
}
# shellcheck disable=SC2016 # it is for eval
# Until the first answers are on disk: every stage is busy then.
wait_for_answers() { wait_for '[ -s "$out" ]'; }
wait_for_line() {
  wait_for "grep -q '$1' err"
  grep -q "$1" err || fail "never said: $1"
}

# finish WHAT CODE LEADERS...: the job's end, what it leaves, and who took over.
finish() {
  local what=$1 wanted=$2 code leader left patience=50
  shift 2
  wait "$job"
  code=$?
  [ "$code" -eq "$wanted" ] || fail "$what: exit code $code"
  for leader in "$@"; do
    grep -q "rank $leader .*leads from here on" err || fail "$what: rank $leader did not take over"
  done
  [ "$(grep -c 'leads from here on' err)" -eq $# ] || fail "$what: other ranks took over than $*"
  while left=$(pgrep -f "^$program batch in.jsonl $out ") && [ "$patience" -gt 0 ]; do
    sleep 0.1
    patience=$((patience - 1))
  done
  [ -z "$left" ] || fail "$what: processes are left: $left"
  left=$(find /dev/shm -name "vader_segment.*.$(cat job_id).*")
  [ -z "$left" ] || fail "$what: shared memory is left: $left"
  grep -h 'is lost\|epoch\|leads\|leaves' err | sed "s/^fastserve: /  $what: /"
}

# same WHAT: the output is that of the undisturbed run.
same() {
  normal "$out" >now.normal
  cmp -s now.normal undisturbed.normal || fail "$1: differs from the undisturbed run"
  [ "$(wc -l <now.normal)" -eq "$(requests)" ] || fail "$1: $(wc -l <now.normal) lines for $(requests) requests"
  [ "$(grep -o '"custom_id":"[^"]*"' now.normal | sort -u | wc -l)" -eq "$(requests)" ] || fail "$1: ids repeat"
}

undisturbed() {
  begin undisturbed.jsonl
  wait "$job" || fail "the undisturbed run: exit code $?"
  normal undisturbed.jsonl >undisturbed.normal
  [ "$(wc -l <undisturbed.normal)" -eq "$(requests)" ] || fail "the undisturbed run is not whole"
}

# -- cases --------------------------------------------------------------------

case_decode() {
  make_input 400 0 150
  undisturbed
  begin decode.jsonl
  wait_for_answers
  strike KILL 0
  finish "the leader in decode" 0 1
  same "the leader in decode"
  # What the standby knew was not drawn again.
  grep -q ' [1-9][0-9]* answers go on' err || fail "nothing went on where it was"
}

case_prefill() {
  make_input 600 60 1
  undisturbed
  begin prefill.jsonl
  wait_for_line 'weights ready'
  sleep 0.3
  strike KILL 0
  finish "the leader in prefill" 0 1
  same "the leader in prefill"
}

# The new leader, too, in peace and while it takes over.
case_twice() {
  make_input 400 0 150
  undisturbed
  begin twice.jsonl
  wait_for_answers
  strike KILL 0
  wait_for_line 'answers go on'
  sleep 0.5
  strike KILL 1
  finish "one leader after the other" 0 1 2
  same "one leader after the other"
  begin during.jsonl
  wait_for_answers
  strike KILL 0
  wait_for_line 'rank 1 .*leads'
  strike KILL 1
  finish "the new leader at once" 0 1 2
  same "the new leader at once"
}

# With another stage, with the standby, and with all but the last rank.
case_stage() {
  make_input 400 0 150
  undisturbed
  begin stage.jsonl
  wait_for_answers
  strike KILL 0 2
  finish "the leader and a stage" 0 1
  same "the leader and a stage"
  begin both.jsonl
  wait_for_answers
  strike KILL 0 1
  finish "the leader and the standby" 0 2
  same "the leader and the standby"
}

case_most() {
  make_input 400 0 150
  undisturbed
  begin most.jsonl
  wait_for_answers
  strike KILL 0 1 2
  finish "all but the last rank" 0 3
  same "all but the last rank"
}

# The standby first: another rank is it, and knows what it has to know.
case_standby() {
  make_input 400 0 150
  undisturbed
  begin standby.jsonl
  wait_for_answers
  strike KILL 1
  wait_for_line 'epoch 2'
  sleep 0.5
  strike KILL 0
  finish "the standby, then the leader" 0 2
  same "the standby, then the leader"
  grep -q ' [1-9][0-9]* answers go on' err || fail "nothing went on where it was"
}

# A leader that wakes up when another one leads.
case_stopped() {
  make_input 400 0 150
  undisturbed
  begin stopped.jsonl
  wait_for_answers
  local pid
  pid=$(pid_of 0)
  strike STOP 0
  wait_for_line 'leads from here on'
  kill -CONT "$pid" 2>/dev/null
  finish "a stopped leader" 0 1
  same "a stopped leader"
  [ ! -d "/proc/$pid" ] || fail "the zombie is still there"
  # For less than the deadline: nothing happens.
  begin paused.jsonl
  wait_for_answers
  strike STOP 0
  sleep 0.5
  strike CONT 0
  finish "a paused leader" 0
  same "a paused leader"
}

# A spare takes the leader's layers over, and only these.
case_spare() {
  ranks=5
  options=(--spare-ranks 1)
  make_input 400 0 150
  undisturbed
  begin spare.jsonl
  wait_for_answers
  strike KILL 0
  finish "a spare for the leader" 0 1
  same "a spare for the leader"
  grep -q 'epoch .* 4 stages on ranks 4, 1, 2, 3' err || fail "the spare did not take over"
}

# A new leader is drained as the old one is; the next job goes on.
case_drain() {
  make_input 400 0 150
  undisturbed
  begin drain.jsonl
  wait_for_answers
  strike KILL 0
  wait_for_line 'answers go on'
  kill -USR1 "$job"
  finish "a drained new leader" 75 1
  [ "$(wc -l <"$out")" -lt "$(requests)" ] || echo "  (it was finished before the signal came)"
  "$mpirun" --survive 2 "$program" batch in.jsonl "$out" --model "$demo" --threads 1 2>err || fail "goes on: exit code $?"
  same "a job behind a drained one"
}

# Without a standby the others end, as the leader's death always ended a job.
case_off() {
  make_input 200 0 150
  options=(--standby off --fence-ms 2000)
  begin off.jsonl
  wait_for_answers
  strike KILL 0
  finish "no standby" 1
  [ "$(grep -c 'leaves: no word of the leader' err)" -eq 3 ] || fail "no standby: the others did not leave"
}

"case_$which"
echo "$which: $kills kills, $failures failures"
[ "$failures" -eq 0 ]
