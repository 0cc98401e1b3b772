#include "launch/help_text.hpp"

#include <array>
#include <cctype>

#include "launch/option_table.hpp"

namespace fastserve::launch {

namespace {

constexpr std::size_t doc_column = 30;
constexpr std::size_t line_columns = 96;

struct section_title {
  std::string_view section;
  std::string_view title;
};

constexpr std::array<section_title, 14> titles{{{"console", "Prompts and answers"},
                                                {"batch", "Files"},
                                                {"bench", "What to measure"},
                                                {"load", "Requests and report"},
                                                {"simulate", "The simulated cluster"},
                                                {"plan", "What to plan for"},
                                                {"compress", "What to make"},
                                                {"sampling", "Sampling"},
                                                {"stopping", "End of an answer"},
                                                {"engine", "Engine"},
                                                {"kv_cache", "KV cache"},
                                                {"scheduler", "Scheduler"},
                                                {"failover", "When a rank dies"},
                                                {"", "General"}}};

/// `left` in the first column, `right` wrapped in the second.
std::string two_columns(const std::string& left, const std::string& right) {
  std::string out = "  " + left;
  std::size_t column = out.size();
  if (column + 2 > doc_column) {
    out += '\n';
    column = 0;
  }
  out.append(doc_column - column, ' ');
  column = doc_column;
  for (std::size_t at = 0; at < right.size();) {
    const std::size_t end = std::min(right.find(' ', at), right.size());
    const std::size_t word = end - at;
    if (column > doc_column && column + 1 + word > line_columns) {
      out += '\n' + std::string(doc_column, ' ');
      column = doc_column;
    }
    if (column > doc_column) {
      out += ' ';
      ++column;
    }
    out.append(right, at, word);
    column += word;
    at = end + 1;
  }
  return out + '\n';
}

std::string default_text(const option_spec& spec) {
  if (!spec.unset.empty()) return " [" + std::string{spec.unset} + "]";
  if (spec.form == option_spec::shape::flag) return {};
  const std::vector<std::string> values = spec.get(options{});
  return values.empty() || values.front().empty() ? std::string{} : " [" + values.front() + "]";
}

std::string option_line(const option_spec& spec, command which) {
  std::string left = spec.flag();
  std::string doc{spec.doc};
  if (which == command::compress && spec.key == "model")
    doc = "folder with config.json and weights; the same as the first argument";
  if (spec.form == option_spec::shape::flag && spec.get(options{}).front() == "true") {
    // What is on already is only ever turned off.
    left.replace(0, 2, "--no-");
    doc = "do not " + doc;
  } else if (!spec.value_name.empty()) {
    left += ' ' + std::string{spec.value_name};
  }
  return two_columns(left, doc + default_text(spec));
}

std::string option_sections(command which) {
  std::string out;
  for (const section_title& part : titles) {
    std::string lines;
    for (const option_spec& spec : option_table())
      if (spec.section == part.section && spec.belongs_to(which)) lines += option_line(spec, which);
    if (part.section.empty()) lines += two_columns("-h, --help", "print this and end");
    const bool model_alone = part.section == "bench" && which != command::bench;
    if (!lines.empty()) out += '\n' + std::string{model_alone ? "The model" : part.title} + ":\n" + lines;
  }
  return out;
}

constexpr std::string_view console_intro =
    "Usage: mpirun -n N fastserve console --model DIR [options]\n"
    "       fastserve console --model DIR [options]\n\n"
    "Reads prompts, streams the answers to stdout and everything else to stderr. The model's layers are\n"
    "spread over the N ranks. On a terminal it is interactive: type /help there. In a script each line of\n"
    "stdin is a prompt.\n";

constexpr std::string_view console_examples =
    "\nExamples:\n"
    "  mpirun -n 2 fastserve console --model models/demo\n"
    "  echo 'Once upon a time' | mpirun -n 4 fastserve console --model DIR > answer.txt\n"
    "  fastserve console --model DIR --prompt 'First' --prompt 'Second' --json --max-tokens 64\n";

constexpr std::string_view batch_intro =
    "Usage: mpirun -n N fastserve batch IN.jsonl OUT.jsonl --model DIR [options]\n\n"
    "Answers every line of IN.jsonl with a line of OUT.jsonl, as answers finish. A line is a request of\n"
    "OpenAI's batch format for /v1/completions, or {\"prompt\": ...} with the same fields. What it leaves\n"
    "open comes from the options below. A line that cannot be answered gets an error line.\n"
    "Killed at any moment and started again with the same command, it goes on where it was:\n"
    "OUT.jsonl.journal knows. SIGUSR1 ends it in order, with exit code 75 (run it again). Under srun and\n"
    "without a launcher SIGTERM and SIGINT (Ctrl-C) do the same. Under mpirun they cannot, for it kills\n"
    "its ranks a second later: send SIGUSR1 to mpirun.\n";

constexpr std::string_view batch_examples =
    "\nExamples:\n"
    "  mpirun -n 4 fastserve batch requests.jsonl answers.jsonl --model DIR --max-tokens 200\n"
    "  sbatch launch/slurm/batch.sbatch requests.jsonl answers.jsonl --model DIR\n";

constexpr std::string_view bench_intro =
    "Usage: mpirun -n N fastserve bench --model DIR [options]\n"
    "       mpirun -n N fastserve bench --random-weights CONFIG.json [options]\n\n"
    "Measures prefill and decode tokens per second, bytes of weights read per second and the time between\n"
    "the last stage's token and the first stage's next start.\n";

constexpr std::string_view bench_examples =
    "\nExamples:\n"
    "  fastserve bench --model DIR --prompt-tokens 512 --decode-tokens 128 --batch 8\n"
    "  fastserve bench --model DIR --prompt-tokens 512,2048 --batch 1,8,32     a row for each of six\n"
    "  fastserve bench --random-weights config.json --dtype bf16 --threads 4 --json\n";

constexpr std::string_view bench_serve_intro =
    "Usage: mpirun -n N fastserve bench serve --model DIR [options]\n"
    "       mpirun -n N fastserve bench serve --random-weights CONFIG.json [options]\n\n"
    "Serves requests that come at a given rate, with lengths of a trace, and reports throughput and\n"
    "latencies by the names of vllm bench serve. Every answer has exactly the length of the trace; what\n"
    "does not fit into the context is shortened, which is told and counted. Several policies and rates\n"
    "are run one after the other, on the same model.\n";

constexpr std::string_view bench_serve_examples =
    "\nExamples:\n"
    "  fastserve bench serve --model DIR --trace lengths.csv --scale 0.1 --rates 4 --requests 200\n"
    "  fastserve bench serve --model DIR --trace lengths.csv --compare fcfs,sj-mlfq,srpt --rates 2,4,8\n"
    "      --max-batch 16 --slo-ms 300 --save figures\n"
    "  fastserve bench serve --model DIR --trace lengths.csv --rates 2,4 --simulate\n"
    "      measures, takes the costs of the steps from that, and simulates the same arrivals\n";

constexpr std::string_view simulate_intro =
    "Usage: fastserve simulate [options]\n\n"
    "The scheduler of the engine, unchanged, on a cluster that only costs time: a step takes\n"
    "fixed + row * tokens + draw * answers + context * positions on each stage; KV blocks are swapped\n"
    "beside the steps. Prints the report of bench serve. No model and no MPI is needed.\n";

constexpr std::string_view simulate_examples =
    "\nExamples:\n"
    "  fastserve simulate --trace lengths.csv --requests 100000 --rates 2,4,8 --compare fcfs,sj-mlfq,srpt\n"
    "  fastserve simulate --calibrate figures.json --trace lengths.csv --scale 0.1 --rates 4\n";

constexpr std::string_view plan_intro =
    "Usage: fastserve plan --model DIR --cluster FILE.yaml [options]\n"
    "       mpirun -n N fastserve plan --measure > FILE.yaml\n\n"
    "Tells which rank of a cluster would hold which layers, in how many pipelines, how fast that should\n"
    "be, and why. Needs the model's config.json, but no cluster and no MPI. With --measure it measures\n"
    "the ranks and links of the job that it runs in and prints them as a cluster file.\n";

constexpr std::string_view plan_examples =
    "\nExamples:\n"
    "  fastserve plan --model DIR --cluster configs/cluster-example.yaml --svg plan.svg\n"
    "  fastserve plan --random-weights config.json --cluster FILE.yaml --goal latency --batch 1\n"
    "  mpirun -n 4 fastserve plan --measure > here.yaml\n";

constexpr std::string_view compress_intro =
    "Usage: fastserve compress IN OUT --format int8|int4 [options]\n\n"
    "Writes the model of folder IN to the new folder OUT with integer weights, in the form of\n"
    "compressed-tensors; it loads like any other. With a calibration text, scales, ranges and rounding\n"
    "are chosen so that the layers' outputs change least. Tells what it cost, there and in\n"
    "OUT/compress_report.txt and .svg.\n";

constexpr std::string_view compress_examples =
    "\nExamples:\n"
    "  fastserve compress DIR DIR-int8 --format int8\n"
    "  fastserve compress DIR DIR-int4 --format int4 --group 32 --calibrate text.txt\n"
    "  fastserve compress DIR DIR-half --format int8 --prune 2:4 --calibrate a.txt --evaluate b.txt\n";

constexpr std::string_view inspect_intro =
    "Usage: fastserve inspect DIR\n\n"
    "Tells what a model is: architecture, sizes, tokenizer, bytes of weights, keys and values.\n";

}  // namespace

std::string words_of(command which) {
  return which == command::bench_serve ? "bench serve" : std::string{name_of(which)};
}

std::string_view summary_of(command which) {
  switch (which) {
    case command::console:
      return "answer prompts from the terminal, stdin or --prompt";
    case command::batch:
      return "answer a file of requests; may be killed and started again";
    case command::bench:
      return "measure prefill and decode speed";
    case command::bench_serve:
      return "serve a load of requests and report latencies";
    case command::simulate:
      return "serve a load on a simulated cluster";
    case command::plan:
      return "tell which layers would run where on a cluster";
    case command::compress:
      return "make a model smaller, and tell what it costs";
    case command::inspect:
      return "tell what a model folder or a GGUF file holds";
    case command::version:
      return "list versions, libraries and instruction sets";
  }
  return {};
}

std::string program_help() {
  std::string out =
      "FastServe serves large language models over the ranks of an MPI job.\n\n"
      "Usage: mpirun -n N fastserve COMMAND [options]\n"
      "       fastserve COMMAND [options]\n\nCommands:\n";
  for (const command which :
       {command::console, command::batch, command::bench, command::bench_serve, command::simulate,
        command::plan, command::compress, command::inspect, command::version})
    out += two_columns(words_of(which), std::string{summary_of(which)});
  out += '\n' + two_columns("-h, --help", "print this, or after a command the command's options");
  out += two_columns("--version", "as the command version");
  return out + "\nfastserve COMMAND --help, or fastserve help COMMAND, lists the options of a command.\n";
}

std::string command_help(command which) {
  switch (which) {
    case command::console:
      return std::string{console_intro} + option_sections(which) +
             "\nEvery option may also stand in the YAML file of --config; the flag wins.\n" +
             std::string{console_examples};
    case command::batch:
      return std::string{batch_intro} + option_sections(which) +
             "\nEvery option may also stand in the YAML file of --config; the flag wins.\n" +
             std::string{batch_examples};
    case command::bench:
      return std::string{bench_intro} + option_sections(which) +
             "\nEvery option may also stand in the YAML file of --config; the flag wins.\n" +
             std::string{bench_examples};
    case command::bench_serve:
      return std::string{bench_serve_intro} + option_sections(which) +
             "\nEvery option may also stand in the YAML file of --config; the flag wins.\n" +
             std::string{bench_serve_examples};
    case command::simulate:
      return std::string{simulate_intro} + option_sections(which) +
             "\nEvery option may also stand in the YAML file of --config; the flag wins.\n" +
             std::string{simulate_examples};
    case command::plan:
      return std::string{plan_intro} + option_sections(which) + std::string{plan_examples};
    case command::compress:
      return std::string{compress_intro} + option_sections(which) + std::string{compress_examples};
    case command::inspect:
      return std::string{inspect_intro} + option_sections(which);
    case command::version:
      break;
  }
  return "Usage: fastserve version\n\nLists versions, libraries and instruction sets.\n";
}

}  // namespace fastserve::launch
