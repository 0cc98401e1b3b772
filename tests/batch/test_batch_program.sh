#!/usr/bin/env bash
# `fastserve batch` as a job meets it: killed at random moments, drained by signals, started again, and in the end
# compared with a run that nobody disturbed.
# Usage: test_batch_program.sh PROGRAM RANKS
set -u
program=$(realpath "$1")
ranks=$2
here=$(cd "$(dirname "$0")/../.." && pwd)
mpirun="$here/scripts/mpirun_here.sh"
demo="$here/models/demo"
work=$(mktemp -d)
job=''
# A job in a session of its own has to be ended when this is ended itself.
trap '[ -z "$job" ] || pgrep -s "$job" | xargs -r kill -KILL; rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
settings=(--model "$demo" --threads 1 --max-batch 16)

fail() {
  echo "FAILED: $*"
  echo "--- stderr"; tail -20 err
  failures=$((failures + 1))
}

# COUNT lines with some of everything: both forms, blank lines, lines that cannot be answered, repeated ids.
make_input() {
  awk -v n="$1" -v length_of_all="$2" 'BEGIN {
    for (i = 0; i < n; ++i) {
      k = i % 10
      tokens = length_of_all + (i * 7) % 60
      if (k == 7) { print "{\"broken"; continue }
      if (k == 5) { print ""; print "{\"prompt\":\"Once upon " i "\",\"max_tokens\":" 1 + i % 40 "}"; continue }
      if (k == 6) { printf "{\"custom_id\":\"r%d\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{}}\n", i; continue }
      prompt = k == 4 ? "[1,2,3," i % 200 "]" : "\"The " i "th king of\""
      printf "{\"custom_id\":\"r%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":%s,\"max_tokens\":%d,\"temperature\":%s,\"seed\":%d,\"ignore_eos\":%s%s}}\n",
        i % 100 == 99 ? 3 : i, prompt, tokens, i % 2 ? "0.7" : "0", i, i % 3 ? "false" : "true", k == 8 ? ",\"logprobs\":2" : ""
    }
  }'
}

# run EXPECTED_CODE OUT [ARGUMENTS...]
run() {
  local expected=$1 out=$2 code
  shift 2
  timeout 120 "$mpirun" "$ranks" "$program" batch in.jsonl "$out" "${settings[@]}" "$@" >stdout 2>err
  code=$?
  [ "$code" -eq "$expected" ] || fail "exit code $code, expected $expected: $out $*"
  [ ! -s stdout ] || fail "a batch wrote to stdout"
}

# Lines in any order, without the moment that the batch began.
normal() { sed 's/"created":[0-9]*/"created":0/' "$1" | LC_ALL=C sort; }
same() { normal "$1" | cmp -s - undisturbed.normal || fail "$1 differs from the undisturbed run"; }

# begin OUT [ARGUMENTS...]: in the background, as `job`, in a session of its own.
begin() {
  local out=$1
  shift
  setsid timeout -k 50 120 "$mpirun" "$ranks" "$program" batch in.jsonl "$out" "${settings[@]}" "$@" >stdout 2>err &
  job=$!
}
# What `timeout` started, for signals that it does not hand on.
launcher() { pgrep -P "$job" || true; }

# Ranks of a job that was started in a session of its own.
ranks_of() { pgrep -s "$1" -f "^$program " || true; }

# A killed launcher's ranks notice and go.
wait_for_ranks_of() {
  local patience=200
  while [ -n "$(ranks_of "$1")" ] && [ "$patience" -gt 0 ]; do
    sleep 0.05
    patience=$((patience - 1))
  done
  [ "$patience" -gt 0 ] || fail "ranks outlive their launcher: $(ranks_of "$1")"
}

make_input 300 20 >in.jsonl
run 0 undisturbed.jsonl
normal undisturbed.jsonl >undisturbed.normal
[ "$(wc -l <undisturbed.normal)" -eq 300 ] || fail "$(wc -l <undisturbed.normal) lines, expected 300"
[ "$(grep -o '"custom_id":"[^"]*"' undisturbed.normal | sort -u | wc -l)" -eq 300 ] || fail "an id is repeated"
[ "$(grep -c '"error":null' undisturbed.normal)" -eq 237 ] || fail "other lines failed than should"
[ "$(grep -c '"code":"duplicate_id"' undisturbed.normal)" -eq 3 ] || fail "repeated ids were not found"
grep -q 'from the prefix cache.*, .* preemptions*$' err || fail "the summary lacks the prefix cache"
grep -q 'TTFT mean .* P99' err || fail "no summary"

# Finished: nothing more is done. Other settings or input: refused. Anew, when asked.
run 0 undisturbed.jsonl
grep -q 'is complete: 300 requests, 63 of them failed' err || fail "not said to be complete"
run 1 undisturbed.jsonl --temperature 0.5
grep -q "was begun with temperature '1', now it is '0.5'" err || fail "other settings were not refused"
[ "$(grep -c 'was begun with' err)" -eq 1 ] || fail "the refusal was not said once"
cp -p in.jsonl in.keep
echo '{"prompt":"one more"}' >>in.jsonl
run 1 undisturbed.jsonl
grep -q "was begun with an input of (bytes)" err || fail "another input was not refused"
mv in.keep in.jsonl
same undisturbed.jsonl

# kill -9: the launcher, any rank, all at once. Three times at any moment, mostly in the start; then until each of them was
# in the middle of the work.
RANDOM=$ranks
kills=0 midway=0 tries=0
while [ "$midway" -lt 3 ] && [ "$tries" -lt 20 ]; do
  tries=$((tries + 1))
  size=$(wc -c 2>/dev/null <killed.jsonl || echo 0)
  begin killed.jsonl
  if [ "$tries" -gt 3 ]; then
    while [ "$(wc -c 2>/dev/null <killed.jsonl || echo 0)" -le "$size" ] && kill -0 "$job" 2>/dev/null; do sleep 0.02; done
  fi
  sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
  mapfile -t all < <(ranks_of "$job")
  mapfile -t first < <(launcher)
  case $midway in
    0) kill -9 "${first[@]}" 2>/dev/null ;;
    1) [ "${#all[@]}" -gt 0 ] && kill -9 "${all[RANDOM % ${#all[@]}]}" 2>/dev/null ;;
    *) kill -9 "${first[@]}" "${all[@]}" 2>/dev/null ;;
  esac
  wait "$job" 2>/dev/null
  code=$?
  wait_for_ranks_of "$job"
  if [ "$code" -eq 0 ]; then
    same killed.jsonl
    rm -f killed.jsonl killed.jsonl.journal
  else
    kills=$((kills + 1))
    [ "$(wc -c 2>/dev/null <killed.jsonl || echo 0)" -le "$size" ] || midway=$((midway + 1))
  fi
done
run 0 killed.jsonl
same killed.jsonl
[ "$midway" -ge 3 ] || fail "only $midway runs of $tries were killed in the middle"

# SIGUSR1 (what Slurm sends): code 75, and the same command goes on. SIGTERM is no other. Small micro-batches, so
# that there is time for a signal; they are no part of what must stay the same.
for signal in USR1 TERM; do
  begin "drained_$signal.jsonl" --max-batch 1
  while [ -z "$(launcher)" ] && kill -0 "$job" 2>/dev/null; do sleep 0.02; done
  starter=$(launcher) # beforehand: looking takes its time where much runs
  while [ ! -s "drained_$signal.jsonl" ] && kill -0 "$job" 2>/dev/null; do sleep 0.05; done
  if [ "$signal" = USR1 ]; then
    kill -USR1 "$starter"
  else
    # Every rank gets it, as from Slurm; those that do not lead must live on.
    mapfile -t all < <(ranks_of "$job")
    kill -TERM "${all[@]}"
  fi
  wait "$job"
  code=$?
  [ "$code" -eq 75 ] || fail "exit code $code after SIG$signal, expected 75"
  grep -q "SIG$signal: no request is begun any more" err || fail "no word about SIG$signal"
  lines=$(wc -l <"drained_$signal.jsonl")
  if [ "$lines" -eq 0 ] || [ "$lines" -ge 300 ]; then fail "$lines lines after SIG$signal"; fi
  run 0 "drained_$signal.jsonl"
  grep -q 'goes on behind' err || fail "a drained batch was begun again"
  same "drained_$signal.jsonl"
done

# Nothing that was begun is taken for finished when a signal comes after the whole input was read; with a rank that
# stands still (and is not yet taken for dead) the grace time ends the job, and a second signal ends it at once. Then the same command goes on.
printf '{"prompt":"a","max_tokens":200,"ignore_eos":true}\n%.0s' {1..60} >in.jsonl
run 0 undisturbed60.jsonl
normal undisturbed60.jsonl >undisturbed.normal
for way in early grace twice; do
  [ "$ranks" -gt 1 ] || [ "$way" = early ] || continue
  begin "$way.jsonl" --max-batch 1 --deadline-ms 60000 --fence-ms 120000 --grace "$([ "$way" = grace ] && echo 1 || echo 30)"
  while [ ! -e "$way.jsonl.journal" ] && kill -0 "$job" 2>/dev/null; do sleep 0.02; done
  if [ "$way" != early ]; then
    for rank in $(ranks_of "$job"); do
      grep -qz '^OMPI_COMM_WORLD_RANK=1$' "/proc/$rank/environ" && stopped=$rank
    done
    while [ ! -s "$way.jsonl" ] && kill -0 "$job" 2>/dev/null; do sleep 0.02; done
    kill -STOP "$stopped"
  fi
  begun=$SECONDS
  kill -USR1 "$(launcher)"
  if [ "$way" = twice ]; then
    # Another one within a second is taken for the same.
    while ! grep -q 'no request is begun any more' err && kill -0 "$job" 2>/dev/null; do sleep 0.02; done
    sleep 1.1
    kill -USR1 "$(launcher)"
  elif [ "$way" = grace ]; then
    # The leader ends; the rank that stands still is the launcher's to end.
    while ! grep -q 'is not finished' err && [ $((SECONDS - begun)) -lt 20 ]; do sleep 0.05; done
    for rank in $(ranks_of "$job"); do kill -CONT "$rank"; done
  fi
  wait "$job"
  code=$?
  [ "$code" -eq 75 ] || fail "exit code $code, expected 75: $way"
  [ $((SECONDS - begun)) -le 25 ] || fail "$((SECONDS - begun)) s to end: $way"
  [ "$(wc -l <"$way.jsonl")" -lt 60 ] || fail "finished before the signal: $way"
  run 0 "$way.jsonl"
  same "$way.jsonl"
done

# What is wrong shows before anything is loaded, once.
for wrong in "none.jsonl x.jsonl no such input file" "in.jsonl in.jsonl cannot be the output" \
  "/dev/null x.jsonl must be a regular file" "in.jsonl none/x.jsonl cannot be opened"; do
  read -r input output text <<<"$wrong"
  timeout 60 "$mpirun" "$ranks" "$program" batch "$input" "$output" "${settings[@]}" >stdout 2>err
  code=$?
  [ "$code" -eq 1 ] || fail "exit code $code, expected 1: $wrong"
  [ "$(grep -c -- "$text" err)" -eq 1 ] || fail "'$text' was not said once"
done

# An empty input is finished at once.
: >in.jsonl
run 0 empty.jsonl
if [ ! -e empty.jsonl ] || [ -s empty.jsonl ]; then fail "an empty input gave something"; fi

echo "$kills runs were killed, $midway in the middle"
[ "$failures" -eq 0 ] && echo "all passed"
exit "$((failures > 0))"
