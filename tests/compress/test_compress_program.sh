#!/usr/bin/env bash
# `fastserve compress` from end to end: the demo model made smaller in every way, judged, loaded and asked again;
# and what must not work.
# Usage: test_compress_program.sh PROGRAM
set -u
program=$(realpath "$1")
here=$(cd "$(dirname "$0")/../.." && pwd)
mpirun="$here/scripts/mpirun_here.sh"
demo="$here/models/demo"
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
  echo "FAILED: $*"
  echo "--- stdout"; head -20 out
  echo "--- stderr"; head -20 err
  failures=$((failures + 1))
}

# run EXPECTED_CODE COMMAND [ARGUMENTS...]
run() {
  local expected=$1 code
  shift
  timeout 120 "$@" >out 2>err </dev/null
  code=$?
  [ "$code" -eq "$expected" ] || fail "exit code $code, expected $expected: $*"
}
says() { grep -qF -- "$1" "$2" || fail "'$1' is missing in $2"; }

# less A B: numbers
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }
# What a report says the text's perplexity became, against that of the original.
perplexity_after() { sed -n 's/^perplexity *[0-9.]* -> \([0-9.]*\) .*/\1/p' "$1/compress_report.txt"; }
perplexity_before() { sed -n 's/^perplexity *\([0-9.]*\) -> .*/\1/p' "$1/compress_report.txt"; }
divergence() { sed -n 's/^divergence *\([0-9.]*\) .*/\1/p' "$1/compress_report.txt"; }

# Texts of the model's own, so that the test needs nothing else: one to calibrate by, one to judge by.
stories() {
  run 0 "$program" batch "$1.jsonl" "$1.answers" --model "$demo" --max-tokens 300 --temperature 1
  sed 's/.*"text":"\(\([^"\\]\|\\.\)*\)".*/\1/; s/\\n/ /g; s/\\"/"/g' "$1.answers" >"$1.txt"
}
for i in $(seq 6); do echo "{\"prompt\":\"Once upon a time\",\"seed\":$i}"; done >calibrate.jsonl
for i in $(seq 101 106); do echo "{\"prompt\":\"Once upon a time\",\"seed\":$i}"; done >judge.jsonl
stories calibrate
stories judge
[ "$(wc -c <calibrate.txt)" -gt 2000 ] || fail "no text to calibrate by"

# name, then flags: each gives a folder that loads like any other, on one rank and on two, in console and batch.
compress() {
  local name=$1
  shift
  run 0 "$program" compress "$demo" "$name" "$@"
  cmp -s out "$name/compress_report.txt" || fail "$name: the report is not what was printed"
  says "<svg" "$name/compress_report.svg"
  run 0 "$program" inspect "$name"
  run 0 "$program" console --model "$name" --temperature 0 --max-tokens 20 --threads 1 --prompt "Once upon a time"
  cp out alone
  [ -s alone ] || fail "$name: no answer"
  if [ "$name" = int4-calibrated ]; then
    run 0 "$mpirun" 2 "$program" console --model "$name" --temperature 0 --max-tokens 20 --threads 1 \
      --prompt "Once upon a time"
    cmp -s out alone || fail "$name: another answer on two ranks"
  fi
  echo '{"prompt":"Once upon a time","max_tokens":20,"temperature":0}' >one.jsonl
  run 0 "$program" batch one.jsonl "$name.answer" --model "$name" --threads 1
  says '"finish_reason":"length"' "$name.answer"
}
judged=(--evaluate judge.txt)
compress int8 --format int8 "${judged[@]}"
compress int4 --format int4 --group 32 "${judged[@]}"
compress int4-calibrated --format int4 --group 32 --calibrate calibrate.txt "${judged[@]}"
compress int4-symmetric --format int4 --group 64 --symmetric "${judged[@]}"
compress pruned --format int8 --prune 2:4 "${judged[@]}"
compress thin --format none --prune 0.3 "${judged[@]}"
compress int8-bf16 --format int8 "${judged[@]}" --kv-dtype bf16
compress int8-int8 --format int8 "${judged[@]}" --kv-dtype int8

# Reports: the original is the same in all, int8 costs next to nothing, calibration helps, leaving out hurts.
original=$(perplexity_before int8)
for name in int8 int4 int4-calibrated int4-symmetric pruned thin int8-bf16 int8-int8; do
  [ "$(perplexity_before "$name")" = "$original" ] || fail "$name: another perplexity of the original"
done
less "$(perplexity_after int8)" "$(awk -v p="$original" 'BEGIN { print p * 1.005 }')" || fail "int8 costs more than 0.5 %"
for stored in int8-bf16 int8-int8; do
  says "keys and values in ${stored#int8-}" $stored/compress_report.txt
  less "$(perplexity_after $stored)" "$(awk -v p="$original" 'BEGIN { print p * 1.005 }')" || fail "$stored costs more than 0.5 %"
  [ "$(divergence $stored)" != "$(divergence int8)" ] || fail "$stored was judged with other keys and values"
done
less "$(divergence int4-calibrated)" "$(divergence int4)" || fail "calibration does not help int4"
less "$(divergence int8)" "$(divergence int4)" || fail "int8 is no nearer than int4"
less "$(divergence int8)" "$(divergence pruned)" || fail "leaving out half costs nothing"
size() { stat -c %s "$1/model.safetensors"; }
[ "$(size int4)" -lt "$(size int8)" ] || fail "int4 is no smaller than int8"
says "calibrated" int4-calibrated/compress_report.txt
says "rounded to nearest" int4/compress_report.txt
says "2:4" pruned/compress_report.txt

# What must not work: one line on stderr (and a hint where the command line is wrong, code 2), nothing on stdout, nothing
# that loads.
refuse() {
  local code=$1 words=$2
  shift 2
  run "$code" "$program" compress "$@"
  says "$words" err
  [ "$(wc -l <err)" -eq "$code" ] || fail "not $code lines of stderr: $*"
  [ "$code" -ne 2 ] || [[ "$(tail -1 err)" == hint:* ]] || fail "no hint: $*"
  [ ! -s out ] || fail "an error on stdout: $*"
}
refuse 2 "format" "$demo" new --format int3
refuse 2 "group" "$demo" new --format int4 --group 48
refuse 2 "prune" "$demo" new --format int4 --prune 5:4
refuse 1 "--prune" "$demo" new --format none
refuse 1 "no-such" "$demo" new --format int8 --calibrate no-such.txt
: >empty.txt
refuse 1 "too short" "$demo" new --format int8 --calibrate empty.txt
refuse 1 "exists" "$demo" int8 --format int8
refuse 1 "no such model" no-model new --format int8
[ ! -e new ] || [ -z "$(ls -A new)" ] || fail "a refused run left files"
touch file
refuse 1 "file/below" "$demo" file/below --format int8
if [ "$(id -u)" -ne 0 ]; then
  mkdir locked
  chmod a-w locked
  refuse 1 "locked" "$demo" locked/new --format int8
fi

# Interrupted at once and when weights are being written: what is there does not load as a model, and another run says so.
for signal in INT TERM KILL; do
  for moment in begun midway; do
    rm -rf half half.unfinished
    # What a shell starts in the background ignores SIGINT unless told otherwise.
    timeout 120 env --default-signal=INT "$program" compress "$demo" half --format int4 --calibrate calibrate.txt --threads 1 \
      >out 2>err </dev/null &
    job=$!
    while ! pgrep -P "$job" -f "^$program " >children && kill -0 "$job" 2>/dev/null; do sleep 0.01; done
    while [ "$moment" = midway ] && [ -z "$(find half half.unfinished -name model.safetensors -size +0 2>/dev/null)" ] &&
      kill -0 "$job" 2>/dev/null; do sleep 0.02; done
    kill -"$signal" "$(cat children)" 2>/dev/null || fail "not sent: $signal, $moment"
    wait "$job" 2>/dev/null
    code=$?
    [ "$code" -eq $((128 + $(kill -l "$signal"))) ] || fail "interrupted by $signal, $moment, yet exit code $code"
    [ ! -e half/compress_report.txt ] || fail "through before $signal, $moment"
    run 1 "$program" console --model half --prompt x --max-tokens 1
  done
done

[ "$failures" -eq 0 ] || exit 1
echo "all passed"
