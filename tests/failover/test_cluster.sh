#!/usr/bin/env bash
# Failover on a real Slurm cluster of three nodes (scripts/virtual_cluster): ranks, nodes and links die under `srun`, and
# the answers must be those of an undisturbed run, every id once. Needs root and Slurm; exits with 77 (skipped) without.
# Usage: test_cluster.sh PROGRAM [CASE...]
set -u
program=$1
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/failover/cluster.bash
. "$here/tests/failover/cluster.bash"

options=()
# begin OUT
begin() {
  out=$1
  rm -f "$out" "$out".* status
  timeout 200 "$cluster" srun --mpi=pmix -N3 -n3 -c1 --chdir="$work" "$work/fastserve" batch in.jsonl "$out" --model demo \
    --threads 1 --max-batch 16 "${options[@]}" >stdout 2>err &
  job=$!
}
wait_for_answers() {
  local patience=1500
  while [ ! -s "$out" ] && [ "$patience" -gt 0 ] && kill -0 "$job" 2>/dev/null; do
    sleep 0.02
    patience=$((patience - 1))
  done
}
wait_for_line() {
  local patience=1500
  while ! grep -q "$1" err && [ "$patience" -gt 0 ] && kill -0 "$job" 2>/dev/null; do
    sleep 0.02
    patience=$((patience - 1))
  done
  grep -q "$1" err || fail "never said: $1"
}
# finish WHAT LOST: the end of the job, which FastServe tells by its file; srun may wait for a node that is gone.
finish() {
  local patience=1200
  while [ ! -s status ] && [ "$patience" -gt 0 ]; do
    sleep 0.1
    patience=$((patience - 1))
  done
  [ "$(cat status 2>/dev/null)" = 0 ] || fail "$1: status '$(cat status 2>/dev/null)'"
  [ "$(grep -c 'is lost' err)" -eq "$2" ] || fail "$1: $(grep -c 'is lost' err) losses seen, expected $2"
  check_answers "$1" "$out"
  grep -h 'is lost\|epoch\|leaves' err | sed "s/^fastserve: /  $1: /"
  "$cluster" scancel --user=root
  wait "$job" 2>/dev/null
  nothing_left "$1"
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
  local rank pid
  for rank in 2 3; do
    begin "rank$rank.jsonl"
    wait_for_answers
    for pid in $(ip netns pids "vn$rank"); do
      case "$(tr '\0' ' ' <"/proc/$pid/cmdline")" in *"/fastserve batch in.jsonl $out "*) kill -KILL "$pid" ;; esac
    done
    finish "SIGKILL under srun, node $rank" 1
  done
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
  begin loss.jsonl
  wait_for_answers
  "$cluster" weather 200 30
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

export SLURM_KILL_BAD_EXIT=0 SLURM_NO_KILL=set
# Kernels without netem get their bad weather from a program.
if [ "$*" = loss ]; then
  VIRTUAL_CLUSTER_LINK=$(dirname "$program")/tests/lossy_link
  export VIRTUAL_CLUSTER_LINK
  export VIRTUAL_CLUSTER_SLURMD_TIMEOUT=300 # Slurm itself takes the nodes for dead otherwise
fi
cluster_up 3
export FASTSERVE_STATUS_FILE=$work/status
run_cases rank cut heal loss node -- "$@"
