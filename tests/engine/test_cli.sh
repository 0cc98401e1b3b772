#!/usr/bin/env bash
# The program as a user runs it: what goes to stdout, what to stderr, and the exit codes.
# Usage: test_cli.sh PROGRAM
set -u
program=$(realpath "$1")
here=$(cd "$(dirname "$0")/../.." && pwd)
mpirun="$here/scripts/mpirun_here.sh"
demo="$here/models/demo"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "FAILED: $*"
  echo "--- stdout"; head -20 "$work/out"
  echo "--- stderr"; head -20 "$work/err"
  failures=$((failures + 1))
}

# run EXPECTED_CODE RANKS ARGUMENTS...   (RANKS 0: without a launcher)
run() {
  local expected=$1 ranks=$2
  shift 2
  if [ "$ranks" -eq 0 ]; then
    timeout 60 "$program" "$@" >"$work/out" 2>"$work/err"
  else
    timeout 60 "$mpirun" "$ranks" "$program" "$@" >"$work/out" 2>"$work/err"
  fi </dev/stdin
  local code=$?
  [ "$code" -eq "$expected" ] || fail "exit code $code, expected $expected: ranks $ranks: $*"
}

says() { grep -qF -- "$1" "$work/$2" || fail "'$1' is missing in $2"; }
lines() { [ "$(wc -l <"$work/$2")" -eq "$1" ] || fail "$(wc -l <"$work/$2") lines in $2, expected $1"; }

greedy=(--model "$demo" --temperature 0 --max-tokens 12 --threads 1)

# An answer is the same on any number of ranks, and alone on stdout.
run 0 0 console "${greedy[@]}" --prompt "Once upon a time" </dev/null
cp "$work/out" "$work/alone"
[ -s "$work/alone" ] || fail "no answer"
for ranks in 1 2 3 4; do
  run 0 "$ranks" console "${greedy[@]}" --prompt "Once upon a time" </dev/null
  cmp -s "$work/out" "$work/alone" || fail "another answer on $ranks ranks"
  says "embed" err
done
# More ranks than the six layers: spares.
run 0 8 console "${greedy[@]}" --prompt "Once upon a time" </dev/null
cmp -s "$work/out" "$work/alone" || fail "another answer on 8 ranks"
says "spare" err

# As many pipelines as are expected to do most, and why.
run 0 4 console "${greedy[@]}" --replicas auto --prompt "Once upon a time" </dev/null
cmp -s "$work/out" "$work/alone" || fail "another answer of several pipelines"
says "info: 4 pipelines of 4 ranks: " err

# Prompts from a pipe, one a line, answers in their order; the same text as with --prompt.
printf 'ROMEO:\n\nOnce upon a time\n' | run 0 2 console "${greedy[@]}" --json
lines 2 out
printf 'Once upon a time\n' | run 0 4 console "${greedy[@]}"
cmp -s "$work/out" "$work/alone" || fail "another answer from a pipe"

# JSON.
run 0 2 console "${greedy[@]}" --json --prompt "Once upon a time" --prompt "" </dev/null
lines 2 out
for key in '"text":' '"token_ids":' '"finish_reason":"length"' '"usage":' '"timings":'; do says "$key" out; done

# Ids for text; an empty text is BOS alone.
run 0 1 console "${greedy[@]}" --json --prompt-ids 0 </dev/null
grep -o '"token_ids":[^]]*' "$work/out" >"$work/ids"
run 0 1 console "${greedy[@]}" --json --prompt "" </dev/null
grep -o '"token_ids":[^]]*' "$work/out" | cmp -s - "$work/ids" || fail "an empty prompt is not BOS"

# Refusals: one message for all ranks, a nonzero code, nothing on stdout.
refuse() {
  local code=$1 text=$2
  shift 2
  run "$code" 3 "$@" </dev/null
  says "$text" err
  [ -s "$work/out" ] && fail "a refusal wrote to stdout"
  [ "$(grep -cF -- "$text" "$work/err")" -eq 1 ] || fail "'$text' was said more than once"
}
refuse 1 "no such model" console --model "$work/nothing" --prompt x
refuse 2 "--modle" console --modle "$demo"
refuse 2 "temperature" console --model "$demo" --temperature -1 --prompt x
refuse 1 "--kv-tokens 16 is too few" console --model "$demo" --kv-tokens 16 --prompt x
mkdir "$work/broken" && cp "$demo/config.json" "$demo/tokenizer.json" "$work/broken/"
refuse 1 "model.safetensors" console --model "$work/broken" --prompt x
head -c 2000000 "$demo/model.safetensors" >"$work/broken/model.safetensors"
refuse 1 "model.safetensors" console --model "$work/broken" --prompt x
printf 'sampling:\n  temprature: 1\n' >"$work/bad.yaml"
refuse 2 "bad.yaml:2" console --model "$demo" --config "$work/bad.yaml" --prompt x

# Whether or not the program was built with CUDA.
case $("$program" version) in
  *"devices: NVIDIA"*) echo "skipped: a refused --device gpu, for there is a GPU here" ;;
  *) refuse 1 "--device gpu: " console --model "$demo" --device gpu --prompt x ;;
esac

# Nothing is loaded for what no device here computes: the folder has no weights.
rm "$work/broken/model.safetensors"
refuse 1 "--quantize fp8: rank 0 (" console --model "$work/broken" --quantize fp8 --device cpu --prompt x
says "does not multiply fp8; take --quantize int8" err

# A prompt that cannot run is an error of its own; the others are answered.
printf 'Once upon a time\n' >"$work/prompts"
run 1 2 console "${greedy[@]}" --prompt-ids 99999 --prompt "Once upon a time" </dev/null
says "outside the vocabulary" err
cmp -s "$work/out" "$work/alone" || fail "the good prompt was not answered"

# Flags win over the file.
printf 'sampling:\n  temperature: 0\nstopping:\n  max_tokens: 3\nengine:\n  threads: 1\n' >"$work/good.yaml"
run 0 1 console --model "$demo" --config "$work/good.yaml" --max-tokens 12 --prompt "Once upon a time" </dev/null
cmp -s "$work/out" "$work/alone" || fail "the file's settings were not used, or won over a flag"

# The rest of the program.
run 0 0 inspect "$demo" </dev/null
says "llama" out
run 0 0 --version </dev/null
says "CAF" out

# Plans: over a described cluster without a launcher, and of the ranks of a job.
cluster="$here/configs/cluster-example.yaml"
run 0 0 plan --model "$demo" --cluster "$cluster" --svg "$work/plan.svg" </dev/null
says "pipeline  rank  group" out
says "answer tokens/s" out
grep -q "^<svg" "$work/plan.svg" || fail "no picture"
run 0 0 plan --random-weights "$here/configs/bench-shape.json" --cluster "$cluster" --goal latency --batch 1 --json </dev/null
says '"pipelines":[{"stages":[{"rank":' out
# Bytes are those of the weights as they are loaded.
weight_bytes() { grep -o '"weight_bytes":[0-9.e+]*' "$work/out" | awk -F: '{ sum += $2 } END { printf "%.0f", sum }'; }
printf 'ranks:\n  - {group: a, memory: 1GB, bandwidth: 10GB, gops: {f32: 50, bf16: 50, int8: 90, int4: 90}}\n' >"$work/one.yaml"
one=(--cluster "$work/one.yaml" --json)
run 0 0 plan --model "$demo" "${one[@]}" </dev/null
stored=$(weight_bytes)
run 0 0 plan --model "$demo" --quantize int8 "${one[@]}" </dev/null
rounded=$(weight_bytes)
[ $((rounded * 100)) -lt $((stored * 60)) ] || fail "int8 takes $rounded bytes, bf16 $stored"
run 1 0 plan --model "$demo" --cluster "$work/none.yaml" </dev/null
says "does not exist" err
printf 'ranks:\n  - {group: a, memory: 1MB, bandwidth: 1GB, gops: {f32: 1}}\n' >"$work/small.yaml"
run 1 0 plan --random-weights "$here/configs/bench-shape.json" --cluster "$work/small.yaml" </dev/null
says "the model does not fit: it needs" err
run 2 0 plan --model "$demo" </dev/null
says "--cluster" err
run 0 3 plan --measure --threads 1 </dev/null
cp "$work/out" "$work/here.yaml"
run 0 0 plan --model "$demo" --cluster "$work/here.yaml" </dev/null
says "expected of" out

# Measured ranks serve as any others; what was measured is kept.
run 0 2 console "${greedy[@]}" --speeds cached --speeds-dir "$work/speeds" --prompt "Once upon a time" </dev/null
cmp -s "$work/out" "$work/alone" || fail "another answer with measured speeds"
[ -n "$(ls "$work/speeds")" ] || fail "no speeds were kept"

run 0 2 bench --model "$demo" --prompt-tokens 16 --decode-tokens 4 --repeat 1 --threads 1 --json </dev/null
lines 1 out
for key in model dtype ranks threads prompt_tokens batch prefill_tokens_per_s decode_tokens_per_s weight_bytes \
  read_bandwidth_bytes_per_s peak_ops_per_s prefill_share decode_share prefix_hit_ttft_us prefix_hit_step_us; do says "\"$key\":" out; done

# Several lengths: loaded once, a row for each; as JSON a line for each.
run 0 2 bench --model "$demo" --prompt-tokens 16,32 --batch 1,2,4 --decode-tokens 4 --repeat 1 --threads 1 </dev/null
[ "$(grep -cE '^ +(1|2|4) +(16|32) +[0-9.]+ +[0-9.]+% +[0-9.]+ +[0-9.]+%$' "$work/out")" -eq 6 ] || fail "not a row for each of six"
[ "$(grep -c 'weights ready' "$work/err")" -eq 1 ] || fail "loaded more than once"
run 0 0 bench --model "$demo" --prompt-tokens 16 --batch 1,3 --decode-tokens 4 --repeat 1 --threads 1 --json </dev/null
lines 2 out
says '"batch":3,' out
run 1 2 bench --model "$demo" --prompt-tokens 16,1000000 --repeat 1 --threads 1 </dev/null
says 'exceed the context of ' err
lines 0 out

# Load over two ranks, every policy in turn; what it saves makes a simulation of the same.
run 0 2 bench serve --model "$demo" --threads 1 --requests 24 --rates 200 --prompt-tokens 32 --decode-tokens 8 \
  --max-batch 4 --compare fcfs,sj-mlfq,hrrn,srpt --json --save "$work/serve" </dev/null
lines 1 out
[ "$(grep -o '"completed":24,' "$work/out" | wc -l)" -eq 4 ] || fail "not every policy completed every request"
grep -q '<svg' "$work/serve.svg" || fail "no plot"
run 0 0 bench serve --model "$demo" --threads 1 --requests 12 --rates 200 --prompt-tokens 32 --decode-tokens 8 \
  --kv-tokens 512 --swap-space 1MiB --simulate </dev/null
says 'means, against simulation' out
run 0 0 simulate --calibrate "$work/serve.json" --requests 24 --rates 200 --prompt-tokens 32 --decode-tokens 8 \
  --replicas 3 --json </dev/null
says '"completed":24,' out

[ "$failures" -eq 0 ] && echo "all passed"
exit "$((failures > 0))"
