#!/usr/bin/env bash
# `fastserve batch` while ranks die: the answers of a run in which ranks are killed or stopped at given moments must
# be those of a run that nobody disturbed, every id once, exit code 0, and nothing of the job may be left behind.
# Usage: test_failover.sh PROGRAM CASE...       (the cases are the functions case_* below)
set -u
program=$1
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
mpirun="$here/scripts/mpirun_here.sh"
demo="$here/models/demo"
work=$(mktemp -d)
failures=0
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

fail() {
  echo "FAILED: $*"
  echo "--- stderr"; tail -20 err 2>/dev/null
  failures=$((failures + 1))
}

# COUNT requests of about PROMPT words and ANSWER tokens, half of them drawn at random.
make_input() {
  awk -v n="$1" -v prompt="$2" -v answer="$3" 'BEGIN {
    for (i = 0; i < n; ++i) {
      text = "The " i "th king of"
      for (w = 0; w < prompt; ++w) text = text " " (w * 7 + i) % 97 " ships"
      printf "{\"custom_id\":\"r%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"%s\",\"max_tokens\":%d,\"temperature\":%s,\"seed\":%d,\"ignore_eos\":true}}\n",
        i, text, answer + (i * 7) % 50, i % 2 ? "0.7" : "0", i
    }
  }' >in.jsonl
}

normal() { sed 's/"created":[0-9]*/"created":0/' "$1" | LC_ALL=C sort; }
requests() { wc -l <in.jsonl; }

# begin OUT: starts the job in the background.
begin() {
  out=$1
  rm -f "$out" "$out".*
  begin_again
}
begin_again() {
  timeout 200 "$mpirun" --survive "$ranks" "$program" batch in.jsonl "$out" --model "$demo" --threads 1 \
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

# strike SIGNAL RANK
strike() {
  local pid
  pid=$(pid_of "$2")
  if [ -z "$pid" ] || ! kill -"$1" "$pid" 2>/dev/null; then
    fail "no rank $2 to send $1 to"
    return
  fi
  [ "$1" != KILL ] || kills=$((kills + 1))
}

# Until the first answers are on disk: every stage is busy then.
wait_for_answers() {
  local patience=1000
  while [ ! -s "$out" ] && [ "$patience" -gt 0 ] && kill -0 "$job" 2>/dev/null; do
    sleep 0.02
    patience=$((patience - 1))
  done
}

wait_for_line() {
  local patience=1000
  while ! grep -q "$1" err && [ "$patience" -gt 0 ] && kill -0 "$job" 2>/dev/null; do
    sleep 0.02
    patience=$((patience - 1))
  done
  grep -q "$1" err || fail "never said: $1"
}

# finish WHAT [LOST RANKS...]: the job's end, and what it leaves.
finish() {
  local what=$1 code rank left
  shift
  wait "$job"
  code=$?
  [ "$code" -eq 0 ] || fail "$what: exit code $code"
  for rank in "$@"; do
    grep -q "rank $rank is lost: no sign of life for" err || fail "$what: the loss of rank $rank was not seen"
  done
  [ "$(grep -c 'is lost' err)" -eq $# ] || fail "$what: $(grep -c 'is lost' err) losses seen, $# ranks were lost"
  normal "$out" >now.normal
  cmp -s now.normal undisturbed.normal || fail "$what: differs from the undisturbed run"
  [ "$(wc -l <now.normal)" -eq "$(requests)" ] || fail "$what: $(wc -l <now.normal) lines for $(requests) requests"
  [ "$(grep -o '"custom_id":"[^"]*"' now.normal | sort -u | wc -l)" -eq "$(requests)" ] || fail "$what: ids repeat"
  sleep 0.2
  left=$(pgrep -f "^$program batch in.jsonl $out " || true)
  [ -z "$left" ] || fail "$what: processes are left: $left"
  left=$(find /dev/shm -name "vader_segment.*.$(cat job_id).*")
  [ -z "$left" ] || fail "$what: shared memory is left: $left"
  grep -h 'is lost\|epoch' err | sed "s/^fastserve: /  $what: /"
}

# The answers to expect. Cases of one input share them.
undisturbed() {
  ! cmp -s in.jsonl known.jsonl || return 0
  cp in.jsonl known.jsonl
  begin undisturbed.jsonl
  wait "$job" || fail "the undisturbed run: exit code $?"
  normal undisturbed.jsonl >undisturbed.normal
  [ "$(wc -l <undisturbed.normal)" -eq "$(requests)" ] || fail "the undisturbed run is not whole"
}

# -- cases --------------------------------------------------------------------

case_decode() {
  make_input 300 0 150
  undisturbed
  local rank
  for rank in 1 2 3; do
    begin "decode$rank.jsonl"
    wait_for_answers
    strike KILL "$rank"
    finish "rank $rank in decode" "$rank"
  done
}

case_prefill() {
  make_input 600 60 1
  undisturbed
  local rank
  for rank in 1 2 3; do
    begin "prefill$rank.jsonl"
    wait_for_line 'weights ready'
    sleep 0.3
    strike KILL "$rank"
    finish "rank $rank in prefill" "$rank"
  done
}

# While the model is loaded, or just before: the job begins without it.
case_start() {
  make_input 200 0 60
  undisturbed
  local rank
  for rank in 1 3; do
    begin "start$rank.jsonl"
    wait_for_line 'weights ready'
    strike KILL "$rank"
    finish "rank $rank at the start" "$rank"
  done
}

# In MPI_Init or what follows it, where nobody has a deadline: the job ends by itself, and goes on when started again.
case_init() {
  make_input 200 0 60
  undisturbed
  options=(--start-timeout 6)
  begin init.jsonl
  strike KILL 2
  if wait "$job"; then
    normal "$out" | cmp -s - undisturbed.normal || fail "killed at once: differs from the undisturbed run"
    echo "  killed at once: the job went on"
    return
  fi
  echo "  killed at once: $(grep -h 'start-timeout\|non-zero\|exited' err | sort -u | head -1)"
  begin_again
  finish "started again after a death in the start"
}

# One after the other, and the second while the job is getting over the first.
case_twice() {
  make_input 300 0 150
  undisturbed
  begin twice.jsonl
  wait_for_answers
  strike KILL 3
  wait_for_line 'epoch 2'
  strike KILL 1
  finish "two in a row" 3 1
  begin during.jsonl
  wait_for_answers
  strike KILL 1
  sleep 0.9
  strike KILL 2
  finish "during a failover" 1 2
  begin all.jsonl
  wait_for_answers
  strike KILL 1
  strike KILL 2
  strike KILL 3
  finish "all but the leader" 1 2 3
}

# A rank that was only silent finds out that its part is over.
case_stopped() {
  make_input 300 0 150
  undisturbed
  begin stopped.jsonl
  wait_for_answers
  local pid
  pid=$(pid_of 2)
  strike STOP 2
  wait_for_line 'epoch 2'
  strike CONT 2
  wait_for_line 'rank 2 .*leaves: '
  [ ! -d "/proc/$pid" ] || sleep 0.5
  [ ! -d "/proc/$pid" ] || fail "the zombie is still there"
  finish "a stopped rank" 2
  # Shorter than the deadline: nobody is taken for dead.
  begin paused.jsonl
  wait_for_answers
  strike STOP 2
  sleep 0.4
  strike CONT 2
  finish "a paused rank"
}

# A spare takes the layers over, and no other rank loads anything; the death of a spare changes nothing.
case_spare() {
  ranks=5
  options=(--spare-ranks 1)
  make_input 300 0 150
  undisturbed
  local kind
  for kind in hot cold; do
    options=(--spare-ranks 1 --spares "$kind")
    begin "$kind.jsonl"
    wait_for_answers
    strike KILL 2
    finish "a $kind spare" 2
    grep -q 'epoch 2 .* 4 stages on ranks 0, 1, 4, 3' err || fail "the spare did not take over"
  done
  begin idle.jsonl
  wait_for_answers
  strike KILL 4
  finish "the spare itself" 4
  ! grep -q 'epoch 2' err || fail "a spare's death stopped the pipeline"
}

# Two pipelines: the loss of a rank stalls its own alone, which is put up again of the rank that is left or of a
# spare, or given up. The undisturbed run has one pipeline.
case_replica() {
  make_input 400 0 150
  undisturbed
  options=(--replicas 2)
  begin whole.jsonl
  pid_of 0 >/dev/null
  finish "two pipelines"
  begin one.jsonl
  wait_for_answers
  strike KILL 3
  finish "a rank of one pipeline" 3
  grep -q 'pipeline 1: epoch 3 .* 1 stage on rank 2' err || fail "the pipeline was not put up again"
  ! grep -q 'pipeline 0: ' err || fail "the other pipeline was stopped"
  begin each.jsonl
  wait_for_answers
  strike KILL 3
  wait_for_line 'pipeline 1: epoch 3'
  strike KILL 1
  finish "a rank of each pipeline in a row" 3 1
  grep -q 'pipeline 0: epoch 4 .* 1 stage on rank 0' err || fail "the leader's pipeline was not put up again"
  begin all.jsonl
  wait_for_answers
  strike KILL 2
  strike KILL 3
  finish "all ranks of one pipeline" 2 3
  grep -q 'pipeline 1: given up' err || fail "a pipeline without ranks was not given up"
  ! grep -q 'pipeline 0: ' err || fail "the other pipeline was stopped"
  ranks=5
  options=(--replicas 2 --spare-ranks 1)
  begin spare.jsonl
  wait_for_answers
  strike KILL 2
  finish "with a spare for both" 2
  grep -q 'pipeline 1: epoch 3 .* 2 stages on ranks 4, 3' err || fail "the spare did not take over"
  ! grep -q 'pipeline 0: ' err || fail "the other pipeline was stopped"
}

# A console with nothing to do.
case_idle() {
  local before after
  mkfifo prompts
  "$mpirun" --survive 4 "$program" console --model "$demo" --threads 1 --max-tokens 30 --temperature 0 <prompts \
    >answers 2>err &
  job=$!
  exec 3>prompts
  echo "The king of" >&3
  local patience=500
  while [ ! -s answers ] && [ "$patience" -gt 0 ]; do sleep 0.02; patience=$((patience - 1)); done
  sleep 0.5
  kill -KILL "$(pgrep -f "^$program console --model $demo --threads 1 --max-tokens 30 --temperature 0$" | while read -r p; do
    tr '\0' '\n' <"/proc/$p/environ" | grep -qx 'OMPI_COMM_WORLD_RANK=2' && echo "$p"
  done)"
  kills=$((kills + 1))
  wait_for_line 'epoch 2'
  before=$(wc -c <answers)
  echo "The king of" >&3
  exec 3>&-
  wait "$job" || fail "exit code $?"
  after=$(wc -c <answers)
  [ "$after" -eq $((2 * before)) ] || fail "the same prompt got other answers: $(cat answers)"
  cmp -s <(head -c "$before" answers) <(tail -c "$before" answers) || fail "the answers differ"
}

for which in "$@"; do
  ranks=4 options=() kills=0
  "case_$which"
  echo "$which: $kills kills, $failures failures"
done
[ "$failures" -eq 0 ]
