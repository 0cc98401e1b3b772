#!/bin/sh
# Prediction against measurement: two ranks of one thread, the second slowed on purpose by an older instruction set.
# Both are measured at start, the planner cuts a made-up model by their speeds, and the bench prints measured tokens/s
# beside those that were expected. Run it on an idle machine, several times: the spread is that of the machine.
#
# usage: bench_plan.sh [BENCH OPTION...]    by default --dtype bf16 --prompt-tokens 256 --decode-tokens 24
# FASTSERVE names the program, SHAPE the model's config.json, SLOW_ISA the second rank's instruction set.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
fastserve=${FASTSERVE:-$here/../build/fastserve}
shape=${SHAPE:-$here/../configs/bench-shape.json}
isa=${SLOW_ISA:-avx2}
[ $# -gt 0 ] || set -- --dtype bf16 --prompt-tokens 256 --decode-tokens 24

exec "$here/mpirun_here.sh" 1 "$fastserve" bench --random-weights "$shape" --threads 1 --speeds measure "$@" \
  : -n 1 -x FASTSERVE_ISA="$isa" "$fastserve" bench --random-weights "$shape" --threads 1 --speeds measure "$@"
