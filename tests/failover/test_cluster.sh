#!/usr/bin/env bash
# Failover on a real Slurm cluster of three nodes (scripts/virtual_cluster): ranks, nodes and links die under `srun`, and
# the answers must be those of an undisturbed run, every id once. Needs root and Slurm; exits with 77 (skipped) without.
# Usage: test_cluster.sh PROGRAM [CASE...]
set -u
program=$1
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
cluster="$here/scripts/virtual_cluster"
skip() {
  echo "skipped: $*"
  exit 77
}
[ "$(id -u)" -eq 0 ] || skip "needs root"
for tool in slurmctld slurmd munged ip nsenter tc; do
  command -v "$tool" >/dev/null || skip "$tool is missing"
done
ip netns add fastserve-probe 2>/dev/null || skip "network namespaces are not allowed here"
ip netns del fastserve-probe

work=$(mktemp -d /var/tmp/fastserve-cluster.XXXXXX) # /tmp is private to each node
export VIRTUAL_CLUSTER_STATE=$work/cluster
export SLURM_KILL_BAD_EXIT=0 SLURM_NO_KILL=set FASTSERVE_STATUS_FILE=$work/status
trap '"$cluster" down >/dev/null 2>&1; rm -rf "$work"' EXIT
cp "$program" "$work/fastserve"
cp -r "$here/models/demo" "$work/demo"
cd "$work" || exit 1
failures=0

fail() {
  echo "FAILED: $*"
  echo "--- stderr"; tail -15 err 2>/dev/null
  failures=$((failures + 1))
}

awk 'BEGIN {
  for (i = 0; i < 400; ++i)
    printf "{\"custom_id\":\"r%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"The %dth king of\",\"max_tokens\":%d,\"temperature\":%s,\"seed\":%d,\"ignore_eos\":true}}\n",
      i, i, 150 + (i * 7) % 50, i % 2 ? "0.7" : "0", i
}' >in.jsonl

normal() { sed 's/"created":[0-9]*/"created":0/' "$1" | LC_ALL=C sort; }

begin() {
  out=$1
  rm -f "$out" "$out".* status
  timeout 120 "$cluster" srun --mpi=pmix -N3 -n3 -c1 --chdir="$work" ./fastserve batch in.jsonl "$out" --model demo \
    --threads 1 --max-batch 16 >stdout 2>err &
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
  normal "$out" >now.normal
  cmp -s now.normal undisturbed.normal || fail "$1: differs from the undisturbed run"
  [ "$(grep -o '"custom_id":"[^"]*"' now.normal | sort -u | wc -l)" -eq 400 ] || fail "$1: ids are missing or repeat"
  grep -h 'is lost\|epoch\|leaves' err | sed "s/^fastserve: /  $1: /"
  "$cluster" scancel --user=root
  wait "$job" 2>/dev/null
  local left patience=100
  while left=$(pgrep -f "^[^ ]*/fastserve batch in.jsonl $out ") && [ "$patience" -gt 0 ]; do
    sleep 0.1
    patience=$((patience - 1))
  done
  [ -z "$left" ] || fail "$1: processes are left: $left"
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

have_netem() {
  local code=0
  ip netns add netem_probe || return 1
  ip netns exec netem_probe tc qdisc add dev lo root netem delay 1ms 2>/dev/null || code=1
  ip netns del netem_probe
  return "$code"
}

# What a bad network does must not look like a death.
case_loss() {
  local node
  if ! have_netem; then
    echo "  not run: this kernel has no netem"
    return
  fi
  begin loss.jsonl
  wait_for_answers
  for node in 1 2 3; do
    ip netns exec "vn$node" tc qdisc add dev eth0 root netem delay 100ms loss 5%
  done
  sleep 6
  for node in 1 2 3; do ip netns exec "vn$node" tc qdisc del dev eth0 root; done
  finish "delay and loss" 0
}

case_node() {
  begin node.jsonl
  wait_for_answers
  "$cluster" kill 2
  finish "a node that dies" 1
}

if [ "$*" = loss ] && ! have_netem; then skip "this kernel has no netem"; fi
"$cluster" up 3 >up.log 2>&1 || skip "the cluster does not come up: $(tail -1 up.log)"
begin undisturbed.jsonl
wait "$job" || fail "the undisturbed run: exit code $?"
normal undisturbed.jsonl >undisturbed.normal
[ "$(wc -l <undisturbed.normal)" -eq 400 ] || fail "the undisturbed run is not whole"
for which in "${@:-rank cut heal loss node}"; do
  # shellcheck disable=SC2086
  for one in $which; do "case_$one"; done
done
"$cluster" down
! ip netns list | grep -q '^vn[0-9]' || fail "namespaces are left"
echo "$failures failures"
[ "$failures" -eq 0 ]
