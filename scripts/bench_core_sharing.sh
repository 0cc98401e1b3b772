#!/usr/bin/env bash
# What is left of FastServe's speed when something else wants its cores: decode and prefill alone, beside one busy
# process, and beside as many as there are cores, all held to the same cores. Alternating rounds, medians.
#   scripts/bench_core_sharing.sh CONFIG.json [THREADS] [further options of fastserve bench]
# FASTSERVE names the program (default: build/fastserve), ROUNDS the rounds (default: 3).
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,6s/^# \{0,1\}//p' "$0"
  exit 2
fi
config=$1
threads=${2:-2}
shift $(($# < 2 ? $# : 2))
program=${FASTSERVE:-$(dirname "$0")/../build/fastserve}
rounds=${ROUNDS:-3}

# The first THREADS of the processors that we may use, as a list for taskset.
cores=$(taskset -pc $$ | sed 's/.*: //' | tr ',' '\n' | while IFS=- read -r from to; do
  seq "$from" "${to:-$from}"
done | head -n "$threads" | paste -sd,)
if [ "$(tr ',' '\n' <<<"$cores" | wc -l)" -lt "$threads" ]; then
  echo "needs $threads processors, may use only $cores" >&2
  exit 1
fi

busy=()
stop_busy() {
  for pid in "${busy[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${busy[@]}"; do wait "$pid" 2>/dev/null || true; done
  busy=()
}

# Prints "prefill decode", tokens a second.
measure() { # number of busy processes; runs in a subshell of its own
  trap stop_busy EXIT
  for ((i = 0; i < $1; ++i)); do
    taskset -c "$cores" bash -c 'while :; do :; done' &
    busy+=($!)
  done
  taskset -c "$cores" "$program" bench --random-weights "$config" --threads "$threads" --repeat 1 --json "${options[@]}" \
    2>/dev/null | sed -n 's/.*"prefill_tokens_per_s":\([0-9.e+-]*\),"decode_tokens_per_s":\([0-9.e+-]*\).*/\1 \2/p'
  stop_busy
}

options=("$@")
declare -A found
counts=(0 1 "$threads")
if [ "$threads" -eq 1 ]; then counts=(0 1); fi
for ((round = 0; round < rounds; ++round)); do
  for count in "${counts[@]}"; do
    line=$(measure "$count")
    [ -n "$line" ] || { echo "no figures beside $count busy process(es)" >&2; exit 1; }
    found[$count]+="$line"$'\n'
  done
done

median() { # field, lines
  printf '%s' "$2" | awk -v f="$1" '{ print $f }' | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
printf '%-24s %14s %14s %12s %12s %12s\n' "busy processes" "prefill t/s" "decode t/s" "of prefill" "of decode" "fair share"
for count in "${counts[@]}"; do
  prefill=$(median 1 "${found[$count]}")
  decode=$(median 2 "${found[$count]}")
  if [ "$count" -eq 0 ]; then alone_prefill=$prefill alone_decode=$decode; fi
  awk -v n="$count" -v p="$prefill" -v d="$decode" -v ap="$alone_prefill" -v ad="$alone_decode" -v t="$threads" \
    'BEGIN { printf "%-24s %14.1f %14.1f %11.0f%% %11.0f%% %11.0f%%\n", n, p, d, 100 * p / ap, 100 * d / ad, 100 * t / (t + n) }'
done
