#!/usr/bin/env bash
# `fastserve batch` while ranks die: the answers of a run in which ranks are killed or stopped at given moments must
# be those of a run that nobody disturbed, every id once, exit code 0, and nothing of the job may be left behind.
# Usage: test_failover.sh PROGRAM CASE...       (the cases are the functions case_* below)
set -u
# shellcheck source=tests/failover/failover.bash
. "$(dirname "$0")/failover.bash"

# finish WHAT [LOST RANKS...]: the job's end, and what it leaves.
finish() {
  local what=$1 rank
  shift
  end_of "$what" 0
  for rank in "$@"; do
    grep -q "rank $rank is lost: no sign of life for" err || fail "$what: the loss of rank $rank was not seen"
  done
  [ "$(grep -c 'is lost' err)" -eq $# ] || fail "$what: $(grep -c 'is lost' err) losses seen, $# ranks were lost"
  same "$what" "$out"
}

# -- cases --------------------------------------------------------------------

case_decode() {
  some_answers
  undisturbed
  local rank
  for rank in 1 2 3; do
    begin_known "decode$rank.jsonl"
    wait_for_answers
    strike KILL "$rank"
    finish "rank $rank in decode" "$rank"
  done
}

case_prefill() {
  long_prompts
  undisturbed
  local rank
  for rank in 1 2 3; do
    begin_known "prefill$rank.jsonl"
    wait_for_answers
    strike KILL "$rank"
    finish "rank $rank in prefill" "$rank"
    [ "$struck_at" -lt $(($(requests) / 2)) ] || fail "rank $rank in prefill: half was answered before"
  done
}

# While the model is loaded, and just after: the job begins without the rank.
case_start() {
  few_answers
  undisturbed
  until_hit loading
  begin after.jsonl
  wait_for_line 'weights ready'
  strike KILL 1
  finish "rank 1 at the start" 1
}
# Nothing is said of it, and it takes some hundredths of a second: its file is mapped when it begins, and the table of
# ranks has a rank that was through with it.
loading() {
  begin loading.jsonl
  find_rank 3
  until grep -q 'model\.safetensors' "/proc/${pids[3]}/maps" 2>/dev/null || ! kill -0 "${pids[3]}" 2>/dev/null; do :; done
  strike KILL 3
  finish "rank 3 while loading" 3
  grep -q '^ *3  ' err || hit=yes
}

# In MPI_Init or what follows it, where nobody has a deadline: the job ends by itself, and goes on when started again.
case_init() {
  few_answers
  undisturbed
  options=(--start-timeout 3)
  begin init.jsonl
  strike KILL 2
  local code=0
  wait "$job" || code=$?
  options=()
  if [ "$code" -eq 0 ]; then
    normal "$out" | cmp -s - undisturbed.normal || fail "killed at once: differs from the undisturbed run"
    echo "  killed at once: the job went on"
    return
  fi
  [ "$code" -ne 124 ] || fail "killed at once: the job did not end by itself"
  echo "  killed at once: $(grep -h 'start-timeout\|died while\|non-zero\|exited\|hung' err | sort -u | head -1)"
  begin_again
  finish "started again after a death in the start"
}

# While the ranks measure their speeds, which they do together. The loss of one is seen at once on the same machine; one
# that hangs, or died on another, only by the time that the start may take.
case_measure() {
  few_answers
  options=(--start-timeout 5 --speeds measure)
  begin measure.jsonl
  wait_for_line 'measuring'
  strike KILL 2
  end_of "killed while measuring" 1
  [ "$(grep -c '^fastserve: ' err)" -eq 1 ] || fail "not one line"
  grep -q '^fastserve: rank 2 .* died while the ranks started' err || fail "the death was not told"
  begin hangs.jsonl
  wait_for_line 'measuring'
  strike STOP 2
  wait_for_line 'not started within 5 s'
  strike KILL 2
  end_of "stopped while measuring" 1
  [ ! -s measure.jsonl ] || fail "there are answers of the first"
  [ ! -s hangs.jsonl ] || fail "there are answers of the second"
}

# One after the other, and the second while the job is getting over the first.
case_twice() {
  some_answers
  undisturbed
  begin_known twice.jsonl
  wait_for_answers
  strike KILL 3
  wait_for_line 'epoch 2'
  strike KILL 1
  finish "two in a row" 3 1
  until_hit during
  begin_known all.jsonl
  wait_for_answers
  strike KILL 1 2 3
  finish "all but the leader" 1 2 3
}
# The second dies when the first is missed by nobody yet, and is missed itself when the new pipeline is waiting for it.
during() {
  begin_known during.jsonl
  wait_for_answers
  strike KILL 1
  sleep 0.5
  strike KILL 2
  finish "during a failover" 1 2
  if ! grep -q 'epoch 2 ' err && grep -q 'epoch 3 after [1-9][0-9][0-9]* ms: 2 stages on ranks 0, 3' err; then hit=yes; fi
}

# A rank that was silent for less than the deadline is not taken for dead, one that was for longer finds out that its part
# is over.
case_stopped() {
  more_answers
  undisturbed
  options=(--deadline-ms 4000)
  begin_known stopped.jsonl
  wait_for_answers
  strike STOP 2
  sleep 1.1 # answers are written a second after the last ones
  strike CONT 2
  wait_for_more
  ! grep -q 'is lost' err || fail "a paused rank was taken for dead"
  strike STOP 2
  wait_for_line 'epoch 2'
  strike CONT 2
  wait_for_line 'rank 2 .*leaves: '
  # shellcheck disable=SC2016 # it is for eval
  wait_for '[ ! -d "/proc/${pids[2]}" ]'
  [ ! -d "/proc/${pids[2]}" ] || fail "the zombie is still there"
  finish "a stopped rank" 2
}

# A spare takes the layers over, and no other rank loads anything; the death of a spare changes nothing.
case_spare() {
  ranks=5
  some_answers
  undisturbed
  local kind
  for kind in hot cold; do
    options=(--spare-ranks 1 --spares "$kind")
    begin_known "$kind.jsonl"
    wait_for_answers
    strike KILL 2
    finish "a $kind spare" 2
    grep -q 'epoch 2 .* 4 stages on ranks 0, 1, 4, 3' err || fail "the spare did not take over"
  done
  more_answers
  undisturbed
  options=(--spare-ranks 1)
  begin_known idle.jsonl
  wait_for_answers
  strike KILL 4
  finish "the spare itself" 4
  ! grep -q 'epoch 2' err || fail "a spare's death stopped the pipeline"
}

# Two pipelines: the loss of a rank stalls its own alone, which is put up again of the rank that is left or of a
# spare, or given up. The undisturbed run has one pipeline.
case_replica() {
  most_answers
  undisturbed
  options=(--replicas 2)
  begin_known each.jsonl
  wait_for_answers
  strike KILL 3
  wait_for_line 'pipeline 1: epoch 3 .* 1 stage on rank 2'
  ! grep -q 'pipeline 0: ' err || fail "the other pipeline was stopped"
  strike KILL 1
  finish "a rank of each pipeline in a row" 3 1
  grep -q 'pipeline 0: epoch 4 .* 1 stage on rank 0' err || fail "the leader's pipeline was not put up again"
  more_answers
  undisturbed
  begin_known all.jsonl
  wait_for_answers
  strike KILL 2 3
  finish "all ranks of one pipeline" 2 3
  grep -q 'pipeline 1: given up' err || fail "a pipeline without ranks was not given up"
  ! grep -q 'pipeline 0: ' err || fail "the other pipeline was stopped"
  ranks=5
  options=(--replicas 2 --spare-ranks 1)
  begin_known spare.jsonl
  wait_for_answers
  strike KILL 2
  finish "with a spare for both" 2
  grep -q 'pipeline 1: epoch 3 .* 2 stages on ranks 4, 3' err || fail "the spare did not take over"
  ! grep -q 'pipeline 0: ' err || fail "the other pipeline was stopped"
}

# A console with nothing to do.
case_idle() {
  ask_alone "$demo"
  mkfifo prompts
  out=$demo
  timeout -k 50 250 "$mpirun" --survive 4 "$program" console --model "$demo" "${asked[@]}" <prompts >answers 2>err &
  job=$!
  exec 3>prompts
  echo "The king of" >&3
  find_rank 2
  wait_for 'cmp -s answers alone'
  kill -KILL "${pids[2]}"
  kills=$((kills + 1))
  wait_for_line 'epoch 2'
  echo "The king of" >&3
  exec 3>&-
  wait "$job" || fail "exit code $?"
  job=''
  same_twice
}

run_cases "$@"
