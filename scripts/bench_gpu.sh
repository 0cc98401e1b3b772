#!/usr/bin/env bash
# A whole round on one GPU, in under 8 minutes: the tests of the CUDA back end, then speeds beside the device's limits
# and beside PyTorch. Writes JSON and logs.
# Usage: scripts/bench_gpu.sh [--config CONFIG.json] [--run COMMAND] [--out FOLDER] [--seconds N] [--quick]
#   --config   the shape, with random weights (Llama-3-8B is what docs/performance.md states)
#   --run      what stands before a program's name: a bundle's `gpu-bundle/run` (scripts/gpu_bundle.sh); without it the
#              programs of build-cuda/
#   --out      where results go (gpu-results)
#   --seconds  what fits in so many (470); tests first, then speeds, then PyTorch, then integers
#   --quick    no peers
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
config=
run=()
out=gpu-results
peers=1
seconds=470
while [ $# -gt 0 ]; do
  case $1 in
    --config) config=$2; shift ;;
    --run) run=("$2"); shift ;;
    --out) out=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --quick) peers=0 ;;
    *)
      echo "bench_gpu.sh: unknown argument $1" >&2
      exit 2
      ;;
  esac
  shift
done
if [ ! -f "$config" ]; then
  echo "bench_gpu.sh: --config '$config' is no file; give the config.json of a Llama, such as Llama-3-8B's" >&2
  exit 2
fi
if ! nvidia-smi >/dev/null 2>&1; then
  echo "bench_gpu.sh: no GPU here (nvidia-smi finds none)" >&2
  exit 1
fi
mkdir -p "$out"
# Random weights take any context: prompts of 8192 tokens and their answers, too.
sed -E 's/("max_position_embeddings": *)[0-9]+/\116384/' "$config" >"$out/config.json"
config=$out/config.json
begin=$SECONDS
left() { echo $((seconds - (SECONDS - begin))); }
program() {
  local name=$1
  shift
  if [ ${#run[@]} -gt 0 ]; then
    "${run[@]}" "$name" "$@"
  elif [ "$name" = fastserve ]; then
    build-cuda/fastserve "$@"
  else
    "build-cuda/tests/$name" "$@"
  fi
}

failures=0
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv | tee "$out/device.csv"

echo "== tests of the CUDA back end"
for name in test_cuda test_cuda_models test_cuda_shard; do
  FASTSERVE_REQUIRE_GPU=1 program $name --log_level=test_suite >"$out/$name.log" 2>&1
  code=$?
  echo "$name: $(grep -c 'Leaving test case' "$out/$name.log") cases, exit code $code"
  if [ "$code" -ne 0 ]; then
    echo "see $out/$name.log"
    failures=$((failures + 1))
  fi
done
if command -v compute-sanitizer >/dev/null; then
  echo "== memory checker"
  checked=(build-cuda/tests/test_cuda)
  if [ ${#run[@]} -gt 0 ]; then checked=("${run[@]}" test_cuda); fi
  timeout 90 compute-sanitizer --target-processes all --error-exitcode 9 "${checked[@]}" --run_test='attention,hopper' \
    >"$out/sanitizer.log" 2>&1
  code=$?
  tail -1 "$out/sanitizer.log"
  # Some machines refuse the tool the device: that is no finding.
  if [ "$code" -eq 9 ]; then failures=$((failures + 1)); fi
fi

echo "== two ranks on this GPU, over NCCL"
console=(console --device gpu --model models/demo --max-tokens 24)
if [ ${#run[@]} -gt 0 ]; then
  start=("${run[@]}" mpirun)
  rank=("${run[@]}" fastserve "${console[@]}")
else
  start=(mpirun)
  rank=(build-cuda/fastserve "${console[@]}")
fi
printf 'Hello\nOnce upon a time\n' >"$out/prompts.txt"
"${rank[@]}" <"$out/prompts.txt" >"$out/one.txt" 2>"$out/one.log"
# NCCL joins ranks of one GPU only where it takes them for ranks of two hosts.
one_gpu=(-x FASTSERVE_LINK_ONE_GPU=1 -x)
timeout 60 "${start[@]}" --oversubscribe --bind-to none -n 1 "${one_gpu[@]}" NCCL_HOSTID=a "${rank[@]}" : \
  -n 1 "${one_gpu[@]}" NCCL_HOSTID=b "${rank[@]}" <"$out/prompts.txt" >"$out/two.txt" 2>"$out/two.log"
if grep -q ' NCCL$' "$out/two.log" && cmp -s "$out/one.txt" "$out/two.txt"; then
  echo "the same answers as of one rank"
else
  echo "not the answers of one rank, or not over NCCL: see $out/one.txt, two.txt and two.log"
  failures=$((failures + 1))
fi

: >"$out/bench.jsonl"
# bench PROMPTS ANSWER BATCHES OPTIONS...: a line of JSON for each prompt length and batch.
bench() {
  local prompts=$1 answer=$2 batches=$3
  shift 3
  if [ "$(left)" -lt 20 ]; then
    echo "out of time: no bench of $batches x $prompts + $answer $*"
    return
  fi
  if ! timeout "$(left)" bash -c "$(declare -f program); $(declare -p run); program \"\$@\"" _ fastserve bench --device gpu \
    --random-weights "$config" --prompt-tokens "$prompts" --decode-tokens "$answer" --batch "$batches" --max-batch 128 \
    --token-budget 8192 --max-context 8400 --json "$@" >>"$out/bench.jsonl" 2>>"$out/bench.log"; then
    echo "bench of $batches x $prompts + $answer $* failed: $(tail -1 "$out/bench.log")"
    failures=$((failures + 1))
  fi
}
echo "== decode and prefill"
bench 128 64 1,8,32,128 --dtype bf16
bench 1024 64 64 --dtype bf16
bench 512,2048,8192 32 1 --dtype bf16

if [ "$peers" -eq 1 ] && [ "$(left)" -gt 60 ]; then
  echo "== PyTorch"
  timeout "$(left)" python3 scripts/gpu_reference.py "$config" --peers compiled,plain --seconds "$(($(left) - 40))" --out "$out/reference.json" \
    >"$out/reference.log" 2>&1 || echo "gpu_reference.py did not end: see $out/reference.log"
fi
echo "== 8 and 4 bits"
bench 128 64 1 --quantize int8 --quantize-group row
bench 128 64 1 --quantize int4 --quantize-group 128
case $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null) in 9.0*) bench 128 64 1 --quantize fp8 ;; esac
python3 scripts/gpu_table.py "$config" "$out" | tee "$out/table.md"
echo "$((SECONDS - begin)) s, $failures failures; results in $out"
[ "$failures" -eq 0 ]
