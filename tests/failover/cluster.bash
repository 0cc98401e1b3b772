# What the tests on the virtual Slurm cluster share; sourced, not run. Expects $program and $here; sets $work and
# $cluster; exits with 77 where there can be no cluster.

cluster="${here:?}/scripts/virtual_cluster"
out='' # of the job that runs
failures=0
# shellcheck source=tests/failover/answers.bash
. "$here/tests/failover/answers.bash"

skip() {
  echo "skipped: $*"
  exit 77
}

fail() {
  echo "FAILED: $*"
  for log in err job.log; do
    [ ! -s "$log" ] || { echo "--- $log"; tail -15 "$log"; }
  done
  failures=$((failures + 1))
}

# What stands still until a death is seen is done soon; but a fast machine writes 13,000 tokens a second, and has to be at
# work still when its ranks have been found. With --max-batch 8 half of it is not read yet when the first answers are
# there.
some_answers() { make_input 200 0 100; }
# For a job that goes on meanwhile, or that stops and is started again.
more_answers() { make_input 250 0 120; }

# cluster_up NODES: with the demo model.
cluster_up() {
  local tool
  [ "$(id -u)" -eq 0 ] || skip "needs root"
  for tool in slurmctld slurmd munged ip nsenter; do
    command -v "$tool" >/dev/null || skip "$tool is missing"
  done
  ip netns add fastserve-probe 2>/dev/null || skip "network namespaces are not allowed here"
  ip netns del fastserve-probe
  nodes=$1
  work=$(mktemp -d /var/tmp/fastserve-cluster.XXXXXX) # /tmp is private to each node
  export VIRTUAL_CLUSTER_STATE=$work/cluster
  trap '"$cluster" down >/dev/null 2>&1; rm -rf "$work"' EXIT
  cp "${program:?}" "$work/fastserve"
  cp -r "$here/models/demo" "$work/demo"
  cd "$work" || exit 1
  "$cluster" up "$nodes" >up.log 2>&1 || skip "the cluster does not come up: $(tail -1 up.log)"
}

# The answers to in.jsonl of one process that nobody disturbs.
expect_answers() {
  rm -f undisturbed.jsonl*
  timeout 250 ./fastserve batch in.jsonl undisturbed.jsonl --model demo --threads 1 >/dev/null 2>err ||
    fail "the undisturbed run: exit code $?"
  expect undisturbed.jsonl
}

# No process of the program, no shared memory and no temporary file of the job on any node.
nothing_left() {
  local node left patience=100
  while left=$(pgrep -f "^$work/fastserve batch ") && [ "$patience" -gt 0 ]; do
    sleep 0.1
    patience=$((patience - 1))
  done
  [ -z "$left" ] || fail "$1: processes are left: $left"
  for node in $(seq "$nodes"); do
    "$cluster" on "$node" true 2>/dev/null || continue # the node itself is dead
    left=$("$cluster" on "$node" find /dev/shm /tmp -type f)
    [ -z "$left" ] || fail "$1: left on node $node: $left"
  done
}

# run_cases CASE... -- [CHOSEN...]
run_cases() {
  local all=() one
  while [ "$1" != -- ]; do
    all+=("$1")
    shift
  done
  shift
  [ $# -gt 0 ] || set -- "${all[@]}"
  for one in "$@"; do "case_$one"; done
  "$cluster" down
  ! ip netns list | grep -q '^vn[0-9]' || fail "namespaces are left"
  echo "$failures failures"
  [ "$failures" -eq 0 ]
}
