#!/usr/bin/env bash
# launch/slurm/batch.sbatch as a job of a real Slurm (scripts/virtual_cluster): whatever Slurm does to the job, the batch
# is answered in the end, as if nothing had happened, every id once, and nothing of it stays on a node. Needs root and
# Slurm; exits with 77 (skipped) without.
# Usage: test_slurm_jobs.sh PROGRAM [CASE...]      (the cases are the functions case_* below; all unless told)
set -u
program=$(realpath "$1")
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/failover/cluster.bash
. "$here/tests/failover/cluster.bash"
cluster_up 3
more_answers
expect_answers

# submit OUT [OPTION OF SBATCH...]: sets `job`.
submit() {
  out=$1
  shift
  rm -f "$out" "$out".* job.log
  job=$(resubmit "$@") || fail "sbatch: $job"
}
resubmit() {
  FASTSERVE=$work/fastserve "$cluster" sbatch --parsable --cpus-per-task=1 --nodes=3 --ntasks-per-node=1 \
    --output=job.log --chdir="$work" "$@" "$here/launch/slurm/batch.sbatch" in.jsonl "$out" --model demo --max-batch 8 \
    2>>submit.log
}

# Until the answers in $out are more than they were at the call: the job is in the middle of its work.
until_more() {
  local patience=1500 before
  before=$(lines "$out")
  while [ "$(lines "$out")" -le "$before" ] && [ "$patience" -gt 0 ]; do
    sleep 0.02
    patience=$((patience - 1))
  done
  [ "$patience" -gt 0 ] || fail "$out does not grow"
}

state_of() { "$cluster" scontrol show job "$1" | sed -n 's/.*JobState=\([^ ]*\).*/\1/p'; }
is_over() { case "$(state_of "$1")" in COMPLETED | CANCELLED | FAILED | TIMEOUT | NODE_FAIL | PREEMPTED) ;; *) false ;; esac; }
restarts_of() { "$cluster" scontrol show job "$1" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p'; }

# A job that went back into the queue rests there for two minutes; not so long in a test, but slurmd refuses a credential
# of the second in which it revoked that of the run before, and the job would be FAILED.
hasten() {
  local start
  start=$("$cluster" scontrol show job "$1" | sed -n '/Reason=BeginTime/,$s/.*StartTime=\([^ ]*\).*/\1/p')
  case "$start" in '' | Unknown) return 0 ;; esac
  [ "$(($(date -d "$start" +%s) - $(date +%s)))" -le 3 ] || "$cluster" scontrol update JobId="$1" StartTime=now+2
}

# until_requeued JOB TIMES
until_requeued() {
  local patience=600
  while [ "$(restarts_of "$1")" != "$2" ] && [ "$patience" -gt 0 ]; do
    sleep 0.2
    patience=$((patience - 1))
  done
  [ "$(restarts_of "$1")" = "$2" ] || fail "job $1 was requeued $(restarts_of "$1") times, expected $2: $(tail -3 job.log)"
}
until_running() {
  local patience=300
  while [ "$(state_of "$1")" != RUNNING ] && [ "$patience" -gt 0 ]; do
    hasten "$1"
    sleep 0.2
    patience=$((patience - 1))
  done
}

# The job is neither running nor waiting.
until_gone() {
  local patience=900
  while ! is_over "$1" && [ "$patience" -gt 0 ]; do
    hasten "$1"
    sleep 0.2
    patience=$((patience - 1))
  done
  [ "$patience" -gt 0 ] || fail "job $1 does not end: $("$cluster" scontrol -o show job "$1")"
}

# finish WHAT JOB: the end of a job that is to end with everything answered.
finish() {
  until_gone "$2"
  if [ "$(state_of "$2")" != COMPLETED ]; then
    fail "$1: the job ended as $(state_of "$2")"
    "$cluster" scontrol -o show job "$2"
    tail -n 20 "$VIRTUAL_CLUSTER_STATE"/slurmctld.log "$VIRTUAL_CLUSTER_STATE"/slurmd.vn1.log
  fi
  same "$1" "$out"
  nothing_left "$1"
  echo "  $1: $(wc -l <"$out") answers, $(restarts_of "$2") restarts"
}

# -- cases --------------------------------------------------------------------

# What Slurm sends before the time limit, sent by hand: the job drains, goes back into the queue and on.
case_signal() {
  local times
  submit signal.jsonl
  for times in 1 2; do
    until_more
    "$cluster" scancel --batch --signal=USR1 "$job"
    until_requeued "$job" "$times"
    until_running "$job"
  done
  finish "SIGUSR1 twice" "$job"
}

# The limit itself, of which Slurm thinks every half minute: more requests than the job can answer until then.
case_limit() {
  make_input 3000 0 150
  expect_answers
  submit limit.jsonl --time=1 --signal=B:USR1@10
  until_requeued "$job" 1
  finish "a time limit" "$job"
  more_answers
  expect_answers
}

# Slurm tells the ranks (SIGTERM) and ends what is still there when the partition's grace time is over.
case_preempt() {
  local urgent
  submit preempt.jsonl
  until_more
  urgent=$("$cluster" sbatch --parsable --partition=urgent --exclusive --nodes=3 --output=urgent.log --wrap 'srun hostname; sleep 2')
  until_requeued "$job" 1
  until_gone "$urgent"
  [ "$(grep -c '^vn' urgent.log)" -eq 3 ] || fail "the urgent job did not run: $(cat urgent.log)"
  finish "preemption" "$job"
}

# scancel means the end: the job stays away, and the same command goes on later.
case_scancel() {
  submit scancel.jsonl
  until_more
  "$cluster" scancel "$job"
  until_gone "$job"
  [ "$(state_of "$job")" = CANCELLED ] || fail "a cancelled job ended as $(state_of "$job")"
  sleep 2
  [ "$(state_of "$job")" = CANCELLED ] || fail "a cancelled job came back"
  nothing_left "scancel"
  [ "$(wc -l <"$out")" -lt "$(requests)" ] || fail "the job was through before it was cancelled"
  job=$(resubmit)
  finish "scancel and again" "$job"
}

# By an administrator, without a word before.
case_requeue() {
  submit requeue.jsonl
  until_more
  "$cluster" scontrol requeue "$job"
  until_requeued "$job" 1
  finish "scontrol requeue" "$job"
}

# Two tasks, each with its own files; one of them is interrupted. Ids and errors name the line of the file, so the former
# are taken out and there are none of the latter.
case_array() {
  without_lines() { sed 's/batch_req_[0-9]*/batch_req/;s/"req_[0-9]*"/"req"/;s/cmpl-[0-9]*/cmpl/' "$@"; }
  local task half
  grep -v '"top_p"' in.jsonl >right.jsonl
  mv right.jsonl in.jsonl
  expect_answers
  without_lines undisturbed.jsonl >numberless.jsonl
  expect numberless.jsonl
  half=$(($(requests) / 2))
  head -n "$half" in.jsonl >part-1.jsonl
  tail -n "+$((half + 1))" in.jsonl >part-2.jsonl
  rm -f answers-*
  job=$(FASTSERVE=$work/fastserve "$cluster" sbatch --parsable --array=1-2 --nodes=1 --ntasks-per-node=2 --cpus-per-task=1 \
    --output=array-%a.log --chdir="$work" "$here/launch/slurm/batch.sbatch" part-%a.jsonl answers-%a.jsonl --model demo \
    --max-batch 8)
  out=answers-2.jsonl
  until_more
  "$cluster" scancel --batch --signal=USR1 "${job}_2"
  until_requeued "${job}_2" 1
  for task in 1 2; do until_gone "${job}_$task"; done
  for task in 1 2; do
    [ "$(wc -l <"answers-$task.jsonl")" -eq "$(wc -l <"part-$task.jsonl")" ] || fail "task $task: not all answered"
  done
  without_lines answers-1.jsonl answers-2.jsonl >array.jsonl
  same "an array" array.jsonl
  nothing_left "an array"
  echo "  an array: $(wc -l <answers-1.jsonl) and $(wc -l <answers-2.jsonl) answers"
}

# Nodes and ranks that do not match: fewer ranks than nodes, more, and unevenly many.
case_shapes() {
  submit few.jsonl --nodes=3 --ntasks=2 --ntasks-per-node=1
  finish "2 ranks for 3 nodes" "$job"
  submit uneven.jsonl --nodes=2 --ntasks=3 --ntasks-per-node=2
  finish "3 ranks on 2 nodes" "$job"
  submit many.jsonl --nodes=2 --ntasks=4 --ntasks-per-node=2
  finish "4 ranks on 2 nodes" "$job"
}

run_cases signal preempt scancel requeue shapes array -- "$@"
