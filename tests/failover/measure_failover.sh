#!/usr/bin/env bash
# What the death of a rank costs, in figures; run it on a quiet machine.
#   pause       a console streams answers on two stages and a hot spare; one stage is killed. How long until it is seen,
#               until the new pipeline stands, and the longest wait between two pieces of text at the stream's reader.
#   takeover    the leader of a batch on three ranks is killed. How long its successor heard nothing of it, and the longest
#               wait between two answers in the output.
#   overhead    batches on two ranks, in turn as they are and with a hundred times as many heartbeats, for what ten a second
#               cost is less than runs differ by. Tokens a second and processor seconds of the latter, medians of ROUNDS.
#   throughput  a batch on RANKS ranks without a spare; the last one is killed. Answers a second before and after.
# Usage: measure_failover.sh PROGRAM pause|takeover [RUNS]  |  PROGRAM overhead [ROUNDS]  |  PROGRAM throughput [RANKS]
set -u
program=$(realpath "$1")
what=$2
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

# pid_of COMMAND RANK
pid_of() {
  local pid
  for pid in $(pgrep -f "^$program $1 "); do
    if tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$2"; then echo "$pid"; fi
  done
}

# longest_gap [OPTION OF READ...]: reads a stream; prints the milliseconds of the longest gap between two reads, once the
# stream has begun.
longest_gap() {
  local piece now last=0 longest=0
  while IFS= read -r "$@" piece || [ -n "$piece" ]; do
    now=${EPOCHREALTIME/./}
    if [ "$last" -ne 0 ] && [ $((now - last)) -gt "$longest" ]; then longest=$((now - last)); fi
    last=$now
    echo x >>begun
  done
  echo "$((longest / 1000))"
}

pause() {
  local run victim
  for run in $(seq "${1:-5}"); do
    rm -f begun err
    mkfifo prompts stream
    longest_gap -N 16 <stream >gap &
    local reader=$!
    "$here/scripts/mpirun_here.sh" --survive 3 "$program" console --model "$here/models/demo" --threads 1 --spare-ranks 1 \
      --max-tokens 400 --temperature 0.7 --ignore-eos <prompts >stream 2>err &
    local job=$!
    for _ in $(seq 60); do echo "The king of"; done >prompts
    until [ -s begun ] || ! kill -0 "$job" 2>/dev/null; do sleep 0.02; done
    sleep 0.7
    victim=$(pid_of console 1)
    kill -KILL "$victim"
    wait "$job" "$reader"
    rm -f prompts stream
    echo "run $run: $(sed -n 's/^fastserve: rank 1 is lost: no sign of life for \([0-9]* ms\).*/seen after \1/p' err)," \
      "$(sed -n 's/.*epoch 2 after \([0-9]* ms\).*/pipeline \1 later/p' err), longest pause of the stream $(cat gap) ms"
  done
}

# make_input REQUESTS TOKENS
make_input() {
  awk -v n="$1" -v tokens="$2" 'BEGIN {
    for (i = 0; i < n; ++i)
      printf "{\"custom_id\":\"r%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"The %dth king of\",\"max_tokens\":%d,\"temperature\":0.7,\"seed\":%d,\"ignore_eos\":true}}\n",
        i, i, tokens, i
  }' >in.jsonl
}

answers() { if [ -f out.jsonl ]; then wc -l <out.jsonl; else echo 0; fi; }

takeover() {
  local run
  make_input 2000 20
  for run in $(seq "${1:-5}"); do
    rm -f begun err out.jsonl*
    touch out.jsonl
    "$here/scripts/mpirun_here.sh" --survive 3 "$program" batch in.jsonl out.jsonl --model "$here/models/demo" \
      --threads 1 --max-batch 16 >stdout 2>err &
    local job=$!
    tail -n +1 -f --pid="$job" out.jsonl 2>tail.err | longest_gap >gap &
    local reader=$!
    until [ "$(answers)" -ge 300 ] || ! kill -0 "$job" 2>/dev/null; do sleep 0.02; done
    kill -KILL "$(pid_of batch 0)"
    if ! wait "$job" || [ "$(answers)" -ne 2000 ]; then
      tail -5 err
      exit 1
    fi
    wait "$reader"
    echo "run $run: $(sed -n 's/.*leads from here on: \(.*\)/\1/p' err), longest wait for an answer $(cat gap) ms"
  done
}

# ratio_of COLUMN: the median of the hundredfold run against the plain one of the same round.
ratio_of() {
  awk -v column="$1" '$1 == "plain" { plain = $column } $1 == "hundredfold" { print $column / plain }' runs | sort -n |
    awk '{ r[NR] = $1 } END { printf "%.3f (%.3f to %.3f)\n", (r[int((NR + 1) / 2)] + r[int((NR + 2) / 2)]) / 2, r[1], r[NR] }'
}

overhead() {
  local round kind heartbeat
  make_input 1500 100
  : >runs
  TIMEFORMAT='%U %S'
  for round in $(seq "${1:-5}"); do
    for kind in plain hundredfold; do
      heartbeat=100
      [ "$kind" = plain ] || heartbeat=1
      rm -f out.jsonl*
      { time "$here/scripts/mpirun_here.sh" --survive 2 "$program" batch in.jsonl out.jsonl --model "$here/models/demo" \
        --threads 1 --max-batch 16 --heartbeat-ms "$heartbeat" >stdout 2>err; } 2>cpu || { tail -5 err; exit 1; }
      echo "$kind $(sed -n 's/^batch: .* out, \([0-9,]*\) tokens\/s.*/\1/p' err | tr -d ,) $(awk '{ print $1 + $2 }' cpu)" >>runs
    done
    echo "round $round: $(tail -2 runs | tr '\n' ' ')"
  done
  echo "a hundred times as many heartbeats: tokens/s $(ratio_of 2), processor seconds $(ratio_of 3) of the plain run's"
}

throughput() {
  local ranks=${1:-2} requests=1200
  make_input "$requests" 150
  "$here/scripts/mpirun_here.sh" --survive "$ranks" "$program" batch in.jsonl out.jsonl --model "$here/models/demo" \
    --threads 1 --max-batch 64 >stdout 2>err &
  local job=$! t0 n0 t1 n1 t2 n2 t3 n3
  until [ "$(answers)" -ge $((requests / 10)) ] || ! kill -0 "$job" 2>/dev/null; do sleep 0.02; done
  t0=${EPOCHREALTIME/./} n0=$(answers)
  until [ "$(answers)" -ge $((requests * 4 / 10)) ] || ! kill -0 "$job" 2>/dev/null; do sleep 0.02; done
  t1=${EPOCHREALTIME/./} n1=$(answers)
  kill -KILL "$(pid_of batch $((ranks - 1)))"
  until grep -q 'epoch 2' err || ! kill -0 "$job" 2>/dev/null; do sleep 0.02; done
  # The requests in flight begin again: until they are through it is the failover's cost and not the new pipeline's pace.
  until [ "$(answers)" -ge $((n1 + 100)) ] || ! kill -0 "$job" 2>/dev/null; do sleep 0.02; done
  t2=${EPOCHREALTIME/./} n2=$(answers)
  until [ "$(answers)" -ge $((requests * 9 / 10)) ] || ! kill -0 "$job" 2>/dev/null; do sleep 0.02; done
  t3=${EPOCHREALTIME/./} n3=$(answers)
  wait "$job" || { tail -5 err; exit 1; }
  awk -v r="$ranks" -v a="$(((n1 - n0) * 1000))" -v at="$(((t1 - t0) / 1000))" -v b="$(((n3 - n2) * 1000))" \
    -v bt="$(((t3 - t2) / 1000))" 'BEGIN {
      printf "%d ranks: %.1f answers/s before, %.1f after one died: %.2f of the old; the survivors are %.2f of the ranks\n",
        r, a / at, b / bt, (b / bt) / (a / at), (r - 1) / r }'
}

shift 2
"$what" "$@"
