#!/usr/bin/env bash
# What a line of a batch cannot have is one clear line of its answer, and the lines beside it are answered; several
# answers, tenants and priorities as the program gives them.
# Usage: test_batch_limits.sh PROGRAM RANKS
set -u
program=$(realpath "$1")
ranks=$2
here=$(cd "$(dirname "$0")/../.." && pwd)
mpirun="$here/scripts/mpirun_here.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
settings=(--model "$here/models/demo" --threads 1 --temperature 1)

fail() {
  echo "FAILED: $*"
  tail -5 err
  failures=$((failures + 1))
}

# run [ARGUMENTS...]: in.jsonl to out.jsonl
run() {
  rm -f out.jsonl*
  timeout 120 "$mpirun" "$ranks" "$program" batch in.jsonl out.jsonl "${settings[@]}" "$@" >stdout 2>err ||
    fail "exit code $?: $*"
  [ "$(wc -l <out.jsonl)" -eq "$(wc -l <in.jsonl)" ] || fail "lines are missing: $*"
}

# A list of COUNT token ids.
ids() { awk -v n="$1" 'BEGIN { printf "["; for (i = 0; i < n; ++i) printf "%s%d", i ? "," : "", 5 + i % 100; print "]" }'; }
# line ID PROMPT [FIELDS]: of 4 tokens unless a field says otherwise.
line() {
  local fields=${3:-}
  [[ $fields == *max_tokens* ]] || fields+=',"max_tokens":4'
  printf '{"custom_id":"%s","prompt":%s%s}\n' "$1" "$2" "$fields"
}
answer_of() { grep -F "\"custom_id\":\"$1\"" out.jsonl; }
# refused ID TEXT: an error of one line that says TEXT.
refused() { answer_of "$1" | grep -qF "$2" || fail "'$2' is not what $1 got: $(answer_of "$1" | cut -c1-300)"; }
answered() { answer_of "$1" | grep -qF '"error":null' || fail "$1 is not answered: $(answer_of "$1")"; }

{
  line context "$(ids 512)"
  line vocabulary '[1,99999]'
  line many '[1,2]' ',"n":129'
  line none '[1,2]' ',"n":0'
  line best '[1,2]' ',"best_of":3'
  line heat '[1,2]' ',"temperature":-1'
  line mass '[1,2]' ',"top_p":0'
  line length '[1,2]' ',"max_tokens":0'
  line salt '[1,2]' ',"cache_salt":5'
  line rank '[1,2]' ',"priority":"high"'
  line typo '[1,2]' ',"temprature":1'
  line twice '[1,2]' ',"seed":1,"seed":2'
  line fits "$(ids 511)"
  line plain '"Once upon a time"'
} >in.jsonl
run
refused context 'the prompt has 512 tokens; the context holds 512, the answer included'
refused vocabulary 'token id 99999 is outside the vocabulary of 2048'
refused many 'n: expected an integer from 1 to 128, found 129'
refused none 'n: expected an integer from 1 to 128, found 0'
refused best 'best_of: all answers are given; ask for n of them'
refused heat 'temperature is -1, expected 0 (greedy) to 1000'
refused mass 'top_p is 0, expected more than 0, at most 1'
refused length 'max_tokens: expected an integer from 1'
refused salt 'cache_salt: expected a text, found 5'
refused rank "priority: expected an integer from -1000000 to 1000000, found 'high'"
refused typo "'temprature': unknown field"
refused twice "'seed'"
answered fits
answered plain

# A KV cache too small for one of them.
{
  line large "$(ids 100)"
  line small "$(ids 20)"
} >in.jsonl
run --kv-tokens 64
refused large 'the prompt has 100 tokens; the KV cache holds 64, the answer included'
answered small

# Several answers are those of the seeds that follow.
{
  line three "$(ids 20)" ',"seed":10,"n":3,"max_tokens":12,"return_token_ids":true'
  for i in 0 1 2; do line "s$i" "$(ids 20)" ",\"seed\":$((10 + i)),\"max_tokens\":12,\"return_token_ids\":true"; done
} >in.jsonl
run
drawn() { answer_of "$1" | grep -o '"token_ids":\[[^]]*\]'; }
[ "$(drawn three)" = "$(drawn s0; drawn s1; drawn s2)" ] || fail "three answers differ from three requests"
[ "$(drawn three | sort -u | wc -l)" -gt 1 ] || fail "all answers are the same"
answer_of three | grep -q '"index":2.*"prompt_tokens":20,' || fail "choices or usage are wrong"

# Swapping changes nothing, in memory and on disk; a wrong folder is one line.
for i in $(seq 40); do line "r$i" "$(ids $((30 + i)))" ",\"seed\":$i,\"max_tokens\":$((20 + i)),\"ignore_eos\":true"; done >in.jsonl
run
sed 's/"created":[0-9]*//' out.jsonl | sort >undisturbed
for room in "--swap-space 100MB" "--swap-dir $work --swap-disk 100MB"; do
  # shellcheck disable=SC2086
  run --kv-tokens 480 --policy sj-mlfq --starvation-ms 5 --max-batch 4 $room
  sed 's/"created":[0-9]*//' out.jsonl | sort | cmp -s - undisturbed || fail "other answers with $room"
done
for file in "$work"/*swap*; do [ -e "$file" ] && fail "$file stays behind"; done
rm -f out.jsonl*
timeout 60 "$mpirun" "$ranks" "$program" batch in.jsonl out.jsonl "${settings[@]}" --swap-dir /no/such --swap-disk 1MB >stdout 2>err &&
  fail "a folder that is not there was taken"
grep -q 'rank .: swap file in /no/such: cannot be made: No such file or directory' err || fail "it does not say so"

[ "$failures" -eq 0 ] && echo "all as expected"
exit "$((failures > 0))"
