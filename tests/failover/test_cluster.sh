#!/usr/bin/env bash
# Failover on a real Slurm cluster of three nodes (scripts/virtual_cluster): ranks, nodes and links die under `srun`, and
# the answers must be those of an undisturbed run, every id once. Needs root and Slurm; exits with 77 (skipped) without.
# Usage: test_cluster.sh PROGRAM [CASE...]
set -u
program=$(realpath "$1")
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/failover/cluster.bash
. "$here/tests/failover/cluster.bash"

options=()
most_waits=1500 # 30 s
ranks=3 input=/dev/null
# run COMMAND...: on the nodes, in the background; rank 0 reads $input.
run() {
  rm -f status
  timeout 200 "$cluster" srun --mpi=pmix --input=0 -N3 -n"$ranks" -c1 --chdir="$work" "$work/fastserve" "$@" --model demo \
    "${options[@]}" <"$input" 2>err 3>&- &
  job=$!
}
# begin OUT
begin() {
  out=$1
  rm -f "$out" "$out".*
  run batch in.jsonl "$out" --threads 1 --max-batch 8 >stdout
}
# strike RANK...: kills these ranks of the job, all at once.
strike() {
  local pid rank found=()
  for pid in $(pgrep -f "^$work/fastserve "); do
    for rank in "$@"; do
      if tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "SLURM_PROCID=$rank"; then found+=("$pid"); fi
    done
  done
  [ ${#found[@]} -eq $# ] || fail "found ${#found[@]} processes for the ranks $*"
  kill -KILL "${found[@]}"
  struck_at=$(lines "$out")
  [ "$struck_at" -lt "$(requests)" ] || fail "the batch was over before ranks $* were killed"
}
# over WHAT: the end of the job, which FastServe tells by its file; srun may wait for a node that is gone.
over() {
  local patience=1200
  while [ ! -s status ] && [ "$patience" -gt 0 ]; do
    sleep 0.1
    patience=$((patience - 1))
  done
  [ "$(cat status 2>/dev/null)" = 0 ] || fail "$1: status '$(cat status 2>/dev/null)'"
  grep -h 'is lost\|epoch\|leaves\|leads' err | sed "s/^fastserve: /  $1: /"
  "$cluster" scancel --user=root
  wait "$job" 2>/dev/null
  nothing_left "$1"
}
# finish WHAT LOST [LEADERS]: so many ranks were lost, and so many others took a leader's place.
finish() {
  over "$1"
  [ "$(grep -c 'is lost' err)" -eq "$2" ] || fail "$1: $(grep -c 'is lost' err) losses seen, expected $2"
  [ "$(grep -c 'leads from here on' err)" -eq "${3:-0}" ] || fail "$1: not ${3:-0} other leaders"
  same "$1" "$out"
}
# Until all nodes may work again.
wait_for_nodes() {
  local patience=300
  while [ "$("$cluster" sinfo -h -N -t idle -o %N | sort -u | wc -l)" -lt 3 ] && [ "$patience" -gt 0 ]; do
    sleep 0.2
    patience=$((patience - 1))
  done
  [ "$patience" -gt 0 ] || fail "nodes did not come back: $("$cluster" sinfo -h -N)"
}

case_rank() {
  local rank
  for rank in 1 2; do
    begin "rank$rank.jsonl"
    wait_for_answers
    strike "$rank"
    finish "SIGKILL under srun, rank $rank" 1
  done
}

# The leader, alone, with another stage, and then its successor.
case_leader() {
  begin leader.jsonl
  wait_for_answers
  strike 0
  finish "the leader under srun" 0 1
  begin stage.jsonl
  wait_for_answers
  strike 0 2
  finish "the leader and a stage under srun" 1 1
  begin next.jsonl
  wait_for_answers
  strike 0
  wait_for_line 'answers go on'
  wait_for_more
  strike 1
  finish "one leader after the other under srun" 0 2
}

case_prefill() {
  local rank
  make_input 40 60 1 # the first answer is one token long: with it there, most of the prompts are still to be read
  expect_answers
  for rank in 0 1 2; do
    begin "prefill$rank.jsonl"
    wait_for_answers
    strike "$rank"
    if [ "$rank" -eq 0 ]; then finish "rank 0 in prefill under srun" 0 1; else finish "rank $rank in prefill under srun" 1; fi
    [ "$struck_at" -lt $(($(requests) / 2)) ] || fail "rank $rank in prefill under srun: half was answered before"
  done
  some_answers
  expect_answers
}

# One after the other, the second while the job gets over the first, and both at once.
case_twice() {
  begin twice.jsonl
  wait_for_answers
  strike 2
  wait_for_line 'epoch 2'
  strike 1
  finish "two in a row under srun" 2
  until_hit during
  begin both.jsonl
  wait_for_answers
  strike 1 2
  finish "two at once under srun" 2
}
# The second dies when the first is missed by nobody yet, and is missed itself when the new pipeline is waiting for it.
during() {
  begin during.jsonl
  wait_for_answers
  strike 1
  sleep 0.5
  strike 2
  finish "during a failover under srun" 2
  if ! grep -q 'epoch 2 ' err && grep -q 'epoch 3 after [1-9][0-9][0-9]* ms: 1 stage on rank 0' err; then hit=yes; fi
}

# Four ranks on three nodes: a spare takes the layers over, and its own death changes nothing.
case_spare() {
  ranks=4
  options=(--spare-ranks 1)
  begin spare.jsonl
  wait_for_answers
  strike 1
  finish "a hot spare under srun" 1
  grep -q 'epoch 2 .* 3 stages' err || fail "the spare did not take over"
  more_answers
  expect_answers
  begin idle.jsonl
  wait_for_answers
  strike 3
  finish "the spare itself under srun" 1
  ! grep -q 'epoch 2' err || fail "a spare's death stopped the pipeline"
  ranks=3
  options=()
  some_answers
  expect_answers
}

# A console with nothing to do.
case_idle() {
  ask_alone demo
  rm -f prompts
  mkfifo prompts
  exec 3<>prompts # without waiting for each other
  input=prompts
  out=answers
  run console "${asked[@]}" >answers
  input=/dev/null
  echo "The king of" >&3
  wait_for 'cmp -s answers alone'
  strike 1
  wait_for_line 'epoch 2'
  echo "The king of" >&3
  exec 3>&-
  over "a console at rest under srun"
  same_twice
}

case_cut() {
  begin cut.jsonl
  wait_for_answers
  "$cluster" cut 2
  wait_for_line 'epoch 2'
  finish "a cut cable" 1
  "$cluster" heal 2
  wait_for_nodes
}

# The node comes back while the others still work: its rank finds out that its part is over.
case_heal() {
  more_answers
  expect_answers
  begin heal.jsonl
  wait_for_answers
  "$cluster" cut 3
  wait_for_line 'epoch 2'
  "$cluster" heal 3
  finish "a cable plugged in again" 1
  wait_for_nodes
}

# What a bad network does must not look like a death: 200 ms on the way from each node, and 30 % of all packets lost, from
# one moment to the next. TCP then stalls for longer than the deadline before anything could be learned of the link.
case_loss() {
  make_input 200 0 150 # for as long as the weather is bad
  expect_answers
  begin loss.jsonl
  wait_for_answers
  "$cluster" weather 200 30 || fail "no bad weather could be made; loss runs alone"
  sleep "${LOSS_SECONDS:-20}"
  "$cluster" weather 0 0
  sleep 0.2
  [ ! -s "$VIRTUAL_CLUSTER_STATE/link.log" ] || sed -n '$s/.*; //;$s/^/  delay and loss: /p' "$VIRTUAL_CLUSTER_STATE/link.log"
  finish "delay and loss" 0
}

case_node() {
  begin node.jsonl
  wait_for_answers
  "$cluster" kill 2
  finish "a node that dies" 1
}

# MPI_Init on busy processors, again and again: where its fences let some ranks go before another was ready, one start of
# 70 died (mpi/environment).
case_starts() {
  local i busy=()
  make_input 1 0 1
  expect_answers
  for i in 1 2 3; do
    while :; do :; done &
    busy+=($!)
  done
  for i in $(seq "${STARTS:-150}"); do
    begin starts.jsonl
    wait "$job" || { fail "start $i: exit code $?"; break; }
    same "start $i" "$out"
  done
  kill "${busy[@]}"
  wait "${busy[@]}" 2>/dev/null
  nothing_left "starts"
}

export SLURM_KILL_BAD_EXIT=0 SLURM_NO_KILL=set
# Kernels without netem get their bad weather from a program.
if [ "$*" = loss ]; then
  VIRTUAL_CLUSTER_LINK=$(dirname "$program")/tests/lossy_link
  export VIRTUAL_CLUSTER_LINK
  export VIRTUAL_CLUSTER_SLURMD_TIMEOUT=300 # Slurm itself takes the nodes for dead otherwise
fi
cluster_up 3
some_answers
expect_answers
export FASTSERVE_STATUS_FILE=$work/status
run_cases rank leader prefill twice spare idle cut heal loss node starts -- "$@"
