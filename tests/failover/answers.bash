# What every test of failover asks, waits for and expects: requests, moments of a job, and the answers of a run that nobody
# disturbed. Sourced, in the folder of a job; fail() is the caller's, and for waiting $job, $out and $most_waits.

# make_input COUNT PROMPT ANSWER: requests of about PROMPT words and ANSWER tokens: greedy and drawn, some with two
# answers, with log-probabilities, with a stop string. Errors are among the last: they are answered as soon as they are read.
make_input() {
  awk -v n="$1" -v prompt="$2" -v answer="$3" 'BEGIN {
    for (i = 0; i < n; ++i) {
      text = "The " i "th king of"
      for (w = 0; w < prompt; ++w) text = text " " (w * 7 + i) % 97 " ships"
      more = ""
      if (i % 11 == 3) more = more ",\"n\":2"
      if (i % 13 == 5) more = more ",\"logprobs\":2"
      if (i % 7 == 2) more = more ",\"stop\":[\"e s\"]"
      if (i % 17 == 9) more = more ",\"presence_penalty\":0.5"
      if (n > 64 && i > n * 3 / 4 && i % 10 == 9) more = more ",\"top_p\":-3"
      printf "{\"custom_id\":\"r%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"%s\",\"max_tokens\":%d,\"temperature\":%s,\"seed\":%d,\"ignore_eos\":true%s}}\n",
        i, text, answer + (i * 7) % 50, i % 2 ? "0.7" : "0", i, more
    }
  }' >in.jsonl
}
requests() { wc -l <in.jsonl; }

# wait_for CONDITION: as long as the job lives, for $most_waits times 0.02 s at most.
wait_for() {
  local patience=${most_waits:?}
  while ! eval "$1" && [ "$patience" -gt 0 ] && kill -0 "${job:?}" 2>/dev/null; do
    sleep 0.02
    patience=$((patience - 1))
  done
}
answered() { grep -q '"error":null' "${out:?}" 2>/dev/null; }
lines() { if [ -f "$1" ]; then wc -l <"$1"; else echo 0; fi; }
wait_for_line() {
  wait_for "grep -q '$1' err"
  grep -q "$1" err || fail "never said: $1"
}

# Every stage is busy then.
wait_for_answers() {
  wait_for answered
  answered || fail "there are no answers"
}

# Until there are more answers than at the call: the job is in the middle of its work.
wait_for_more() {
  local before
  before=$(lines "$out")
  wait_for "[ \"\$(lines '$out')\" -gt $before ]"
  [ "$(lines "$out")" -gt "$before" ] || fail "$out does not grow"
}

normal() { sed 's/"created":[0-9]*/"created":0/' "$1" | LC_ALL=C sort; }

# expect FILE: these are the answers of the undisturbed run.
expect() {
  normal "$1" >undisturbed.normal
  [ "$(wc -l <undisturbed.normal)" -eq "$(requests)" ] || fail "the undisturbed run is not whole"
}

# same WHAT FILE: the answers are those of the undisturbed run, each once.
same() {
  normal "$2" >now.normal
  cmp -s now.normal undisturbed.normal || fail "$1: differs from the undisturbed run"
  [ "$(wc -l <now.normal)" -eq "$(requests)" ] || fail "$1: $(wc -l <now.normal) lines for $(requests) requests"
  [ "$(grep -o '"custom_id":"[^"]*"' now.normal | sort -u | wc -l)" -eq "$(requests)" ] || fail "$1: ids repeat"
}

# until_hit FUNCTION: what strikes at a moment that nothing announces does so again until the moment was hit; FUNCTION
# sets `hit`.
until_hit() {
  local times
  for times in 1 2 3 4 5 6 7 8; do
    hit=no
    "$1"
    [ "$hit" = no ] || return 0
  done
  fail "$1: the moment was missed $times times"
}

# ask_alone MODEL: what a console of one process answers, in the file alone. It may have several lines.
asked=(--threads 1 --max-tokens 30 --temperature 0)
ask_alone() {
  echo "The king of" | timeout 100 "${program:?}" console --model "$1" "${asked[@]}" >alone 2>err || fail "alone: exit code $?"
  [ -s alone ] || fail "alone: no answer"
}
# A console that was asked the same twice gave that twice.
same_twice() { cmp -s answers <(cat alone alone) || fail "other answers than alone: $(cat answers)"; }
