#include "launch/option_table.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "compress/pruning.hpp"
#include "launch/parse_value.hpp"
#include "launch/serve_report.hpp"
#include "scheduler/policy.hpp"

namespace fastserve::launch {

namespace {

using shape = option_spec::shape;
using commands = std::vector<command>;

constexpr std::int64_t max_int32 = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t max_tokens_anywhere = std::int64_t{1} << 40;
constexpr std::size_t max_list_entries = 65536;

struct row {
  std::string_view section;
  std::string_view key;
  std::string_view value_name;
  std::string_view doc;
  std::string_view unset = {};
};

option_spec begin(const row& of, shape form, commands who) {
  option_spec spec;
  spec.section = of.section;
  spec.key = of.key;
  spec.value_name = of.value_name;
  spec.doc = of.doc;
  spec.unset = of.unset;
  spec.form = form;
  spec.commands = std::move(who);
  return spec;
}

// `field` takes options& or const options& and returns a reference to the field.

template <typename Field>
option_spec flag(const row& of, commands who, Field field) {
  option_spec spec = begin(of, shape::flag, std::move(who));
  spec.set = [field](options& o, std::string_view text) { field(o) = parse_bool(text); };
  spec.get = [field](const options& o) { return std::vector<std::string>{field(o) ? "true" : "false"}; };
  return spec;
}

template <typename Field>
option_spec integer(const row& of, commands who, std::int64_t low, std::int64_t high, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.numeric = true;
  spec.set = [field, low, high](options& o, std::string_view text) {
    using value_type = std::remove_reference_t<decltype(field(o))>;
    field(o) = static_cast<value_type>(parse_integer(text, low, high));
  };
  spec.get = [field](const options& o) { return std::vector<std::string>{std::to_string(field(o))}; };
  return spec;
}

template <typename Field>
option_spec real(const row& of, commands who, float low, float high, bool above_low, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.numeric = true;
  spec.set = [=](options& o, std::string_view text) { field(o) = parse_real(text, low, high, above_low); };
  spec.get = [field](const options& o) { return std::vector<std::string>{format_real(field(o))}; };
  return spec;
}

template <typename Field>
option_spec bytes(const row& of, commands who, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.set = [field](options& o, std::string_view text) { field(o) = parse_bytes(text); };
  spec.get = [field](const options& o) { return std::vector<std::string>{format_exact_bytes(field(o))}; };
  return spec;
}

template <typename Field>
option_spec text(const row& of, commands who, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.empty_is_unset = true;
  spec.set = [field](options& o, std::string_view value) {
    if (value.empty()) throw std::invalid_argument{"expected a path, found nothing"};
    if (value.find('\0') != std::string_view::npos)
      throw std::invalid_argument{"expected a path, found " + in_quotes(value)};
    field(o) = std::string{value};
  };
  spec.get = [field](const options& o) { return std::vector<std::string>{field(o)}; };
  return spec;
}

template <typename Field>
option_spec element_type(const row& of, commands who, std::vector<kernels::dtype> types, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.set = [field, types = std::move(types)](options& o, std::string_view value) {
    std::vector<std::string_view> names{"auto"};
    for (const auto type : types) names.push_back(kernels::name_of(type));
    const std::string name = parse_choice(value, names);
    field(o).reset();
    for (const auto type : types)
      if (kernels::name_of(type) == name) field(o) = type;
  };
  spec.get = [field](const options& o) {
    return std::vector<std::string>{field(o) ? std::string{kernels::name_of(*field(o))} : "auto"};
  };
  return spec;
}

option_spec quantize(commands who) {
  option_spec spec = begin({"engine", "quantize", "TYPE", "round weights while loading: none, int8 or int4"},
                           shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    const auto name = parse_choice(value, {"none", "int8", "int4"});
    o.engine.quantize_bits = name == "int8" ? 8 : name == "int4" ? 4 : 0;
  };
  spec.get = [](const options& o) {
    const int bits = o.engine.quantize_bits;
    return std::vector<std::string>{bits == 0 ? "none" : "int" + std::to_string(bits)};
  };
  return spec;
}

option_spec quantize_group(commands who) {
  option_spec spec =
      begin({"engine", "quantize_group", "N", "weights to a scale: 16, 32, 64, 128, row or auto",
             "auto: 128 for int8, 32 for int4"},
            shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    const auto name = parse_choice(value, {"auto", "row", "16", "32", "64", "128"});
    o.engine.quantize_group = name == "auto" ? -1 : name == "row" ? 0 : std::stoi(name);
  };
  spec.get = [](const options& o) {
    const auto group = o.engine.quantize_group;
    return std::vector<std::string>{group < 0 ? "auto" : group == 0 ? "row" : std::to_string(group)};
  };
  return spec;
}

template <typename T>
void append(std::vector<T>& list, T value) {
  if (list.size() == max_list_entries)
    throw std::invalid_argument{"more than " + std::to_string(max_list_entries) + " entries"};
  list.push_back(std::move(value));
}

option_spec log_level(commands who) {
  option_spec spec = begin({"", "log_level", "LEVEL", "trace, debug, info, warn, error or off"}, shape::value,
                           std::move(who));
  spec.set = [](options& o, std::string_view value) {
    o.log_level = parse_choice(value, {"trace", "debug", "info", "warn", "error", "off"});
  };
  spec.get = [](const options& o) { return std::vector<std::string>{o.log_level}; };
  return spec;
}

option_spec seed(commands who) {
  option_spec spec =
      begin({"sampling", "seed", "N", "key of the random draws: the same seed, the same answer"},
            shape::value, std::move(who));
  spec.numeric = true;
  spec.set = [](options& o, std::string_view value) { o.sampling.seed = parse_unsigned(value); };
  spec.get = [](const options& o) { return std::vector<std::string>{std::to_string(o.sampling.seed)}; };
  return spec;
}

option_spec stop_strings(commands who) {
  option_spec spec =
      begin({"stopping", "stop", "TEXT", "end the answer before this text; may be given again", "none"},
            shape::list, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    if (value.empty()) throw std::invalid_argument{"expected a text to stop at, found nothing"};
    append(o.stopping.stop, std::string{value});
  };
  spec.get = [](const options& o) { return o.stopping.stop; };
  spec.clear = [](options& o) { o.stopping.stop.clear(); };
  return spec;
}

option_spec stop_ids(commands who) {
  option_spec spec = begin(
      {"stopping", "stop_token_ids", "IDS", "end the answer at any of these tokens, such as 2,7", "none"},
      shape::list, std::move(who));
  spec.id_list = true;
  spec.set = [](options& o, std::string_view value) {
    for (const std::int32_t id : parse_ids(value)) append(o.stopping.stop_token_ids, id);
  };
  spec.get = [](const options& o) {
    return o.stopping.stop_token_ids.empty()
               ? std::vector<std::string>{}
               : std::vector<std::string>{format_ids(o.stopping.stop_token_ids)};
  };
  spec.clear = [](options& o) { o.stopping.stop_token_ids.clear(); };
  return spec;
}

/// Text and id prompts share one list, so that answers come in the order of the prompts. Clearing either
/// clears both: prompts on the command line replace all of the file's.
template <typename Kind>
std::vector<Kind> prompts_of(const options& o) {
  std::vector<Kind> found;
  for (const prompt& p : o.console.prompts)
    if (const Kind* value = std::get_if<Kind>(&p)) found.push_back(*value);
  return found;
}

option_spec text_prompts() {
  option_spec spec = begin({"console", "prompt", "TEXT",
                            "answer this and end; may be given again; an empty text starts from nothing",
                            "read from stdin, one a line"},
                           shape::list, {command::console});
  spec.set = [](options& o, std::string_view value) {
    append(o.console.prompts, prompt{std::in_place_type<std::string>, value});
  };
  spec.get = [](const options& o) { return prompts_of<std::string>(o); };
  spec.clear = [](options& o) { o.console.prompts.clear(); };
  return spec;
}

option_spec id_prompts() {
  option_spec spec =
      begin({"console", "prompt_ids", "IDS",
             "a prompt as token ids, such as 1,15,27, used as it is; may be given again", "none"},
            shape::list, {command::console});
  using ids = std::vector<std::int32_t>;
  spec.id_list = true;
  spec.set = [](options& o, std::string_view value) {
    ids parsed = parse_ids(value);
    if (parsed.empty()) throw std::invalid_argument{"expected token ids such as 1,2,3, found nothing"};
    append(o.console.prompts, prompt{std::move(parsed)});
  };
  spec.get = [](const options& o) {
    std::vector<std::string> texts;
    for (const ids& p : prompts_of<ids>(o)) texts.push_back(format_ids(p));
    return texts;
  };
  spec.clear = [](options& o) { o.console.prompts.clear(); };
  return spec;
}

std::string parse_policy(std::string_view value, bool or_auto = false) {
  auto names = scheduler::policy_names();
  if (or_auto) names.insert(names.begin(), "auto");
  return parse_choice(value, {names.begin(), names.end()});
}

option_spec policy_name(commands who) {
  option_spec spec = begin(
      {"scheduler", "policy", "NAME",
       "who runs next: auto (fcfs for batch, else sj-mlfq), fcfs, sj-mlfq, hrrn, srpt (knows max_tokens)"},
      shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) { o.scheduler.policy = parse_policy(value, true); };
  spec.get = [](const options& o) { return std::vector<std::string>{o.scheduler.policy}; };
  return spec;
}

// Calls `take` for each part between commas.
template <typename Take>
void split(std::string_view text, Take take) {
  for (std::size_t at = 0;;) {
    const auto end = std::min(text.find(',', at), text.size());
    take(text.substr(at, end - at));
    if (end == text.size()) return;
    at = end + 1;
  }
}

template <typename T, typename Text>
std::string join(const std::vector<T>& values, Text text_of) {
  std::string out;
  for (const auto& v : values) out += (out.empty() ? "" : ",") + text_of(v);
  return out;
}

option_spec rates(commands who) {
  option_spec spec =
      begin({"load", "rates", "R,...", "requests a second; a run for each"}, shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    std::vector<float> parsed;
    split(value, [&](std::string_view part) { append(parsed, parse_real(part, 0.0F, 1e9F, true)); });
    o.load.rates = std::move(parsed);
  };
  spec.get = [](const options& o) { return std::vector<std::string>{join(o.load.rates, format_real)}; };
  return spec;
}

option_spec compared(commands who) {
  option_spec spec =
      begin({"load", "compare", "NAME,...", "policies, one after the other", "that of --policy"},
            shape::value, std::move(who));
  spec.empty_is_unset = true;
  spec.set = [](options& o, std::string_view value) {
    std::vector<std::string> parsed;
    split(value, [&](std::string_view part) { append(parsed, parse_policy(part)); });
    o.load.compare = std::move(parsed);
  };
  spec.get = [](const options& o) {
    return std::vector<std::string>{join(o.load.compare, [](const auto& name) { return name; })};
  };
  return spec;
}

option_spec goodput(commands who) {
  option_spec spec = begin(
      {"load", "goodput", "BOUNDS", "count requests within these, such as ttft:500,tpot:50", "not counted"},
      shape::value, std::move(who));
  spec.empty_is_unset = true;
  spec.set = [](options& o, std::string_view value) {
    parse_goal(value);
    o.load.goodput = std::string{value};
  };
  spec.get = [](const options& o) { return std::vector<std::string>{o.load.goodput}; };
  return spec;
}

option_spec arrivals(commands who) {
  option_spec spec =
      begin({"load", "arrivals", "HOW", "poisson, gamma (see --cv), or trace: as the file says"},
            shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    o.load.arrivals = parse_choice(value, {"poisson", "gamma", "trace"});
  };
  spec.get = [](const options& o) { return std::vector<std::string>{o.load.arrivals}; };
  return spec;
}

option_spec load_seed(commands who) {
  option_spec spec = begin({"load", "seed", "N", "of lengths and arrivals"}, shape::value, std::move(who));
  spec.numeric = true;
  spec.set = [](options& o, std::string_view value) { o.load.seed = parse_unsigned(value); };
  spec.get = [](const options& o) { return std::vector<std::string>{std::to_string(o.load.seed)}; };
  return spec;
}

std::vector<option_spec> general_options() {
  const commands all{command::console,     command::batch,    command::bench,
                     command::bench_serve, command::compress, command::inspect};
  const commands runs{command::console, command::batch, command::bench, command::bench_serve,
                      command::simulate};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"", "model", "DIR", "folder with config.json, weights and tokenizer, or a GGUF file"}, all,
      [](auto& o) -> auto& { return o.model; }));
  rows.push_back(text(
      {"", "config", "FILE.yaml", "read settings from here; flags win over it"}, runs,
      [](auto& o) -> auto& { return o.config; }));
  rows.back().in_yaml = false;
  rows.push_back(flag(
      {"", "print_config", "", "print the settings in force as YAML and end"}, runs,
      [](auto& o) -> auto& { return o.print_config; }));
  rows.back().in_yaml = false;
  rows.push_back(log_level(runs));
  return rows;
}

std::vector<option_spec> engine_rows() {
  using kernels::dtype;
  const std::vector<dtype> floats{dtype::f32, dtype::bf16, dtype::f16};
  const std::vector<dtype> kv_types{dtype::f32, dtype::bf16, dtype::f16, dtype::i8};
  const commands runs{command::console, command::batch, command::bench, command::bench_serve};
  const commands planned{command::console, command::batch, command::bench, command::bench_serve,
                         command::simulate};
  std::vector<option_spec> rows;
  rows.push_back(element_type(
      {"engine", "dtype", "TYPE", "of the weights: auto, f32, bf16 or f16", "auto: as stored"}, runs, floats,
      [](auto& o) -> auto& { return o.engine.dtype; }));
  rows.push_back(quantize(runs));
  rows.push_back(quantize_group(runs));
  rows.push_back(integer(
      {"engine", "threads", "N", "OpenMP threads of a rank",
       "0: the granted cores, shared among the ranks of a host"},
      {command::console, command::batch, command::bench, command::bench_serve, command::compress}, 0, 4096,
      [](auto& o) -> auto& { return o.engine.threads; }));
  rows.push_back(integer(
      {"engine", "max_context", "TOKENS", "longest prompt and answer together", "0: the model's own limit"},
      planned, 0, max_int32, [](auto& o) -> auto& { return o.engine.max_context; }));
  rows.push_back(element_type(
      {"kv_cache", "kv_dtype", "TYPE", "of keys and values: auto, f32, bf16, f16 or int8",
       "auto: as --dtype"},
      runs, kv_types, [](auto& o) -> auto& { return o.kv_cache.kv_dtype; }));
  rows.push_back(integer(
      {"kv_cache", "kv_tokens", "N", "tokens that the cache holds, over all sequences",
       "0: what fits in free memory"},
      planned, 0, max_tokens_anywhere, [](auto& o) -> auto& { return o.kv_cache.kv_tokens; }));
  rows.push_back(bytes(
      {"kv_cache", "swap_space", "SIZE",
       "of each rank's memory for the KV of preempted requests, such as 8GiB"},
      runs, [](auto& o) -> auto& { return o.kv_cache.swap_space; }));
  rows.push_back(text(
      {"kv_cache", "swap_dir", "DIR", "node-local folder for more of it; the file is gone with the job",
       "none"},
      runs, [](auto& o) -> auto& { return o.kv_cache.swap_dir; }));
  rows.push_back(bytes(
      {"kv_cache", "swap_disk", "SIZE", "of each rank in that folder"}, runs,
      [](auto& o) -> auto& { return o.kv_cache.swap_disk; }));
  rows.push_back(integer(
      {"scheduler", "max_batch", "N", "most sequences in a micro-batch"}, planned, 1, 65536,
      [](auto& o) -> auto& { return o.scheduler.max_batch; }));
  rows.push_back(integer(
      {"scheduler", "token_budget", "N",
       "most tokens in a micro-batch; longer prompts are prefilled in chunks"},
      planned, 1, 1 << 20, [](auto& o) -> auto& { return o.scheduler.token_budget; }));
  rows.push_back(policy_name(planned));
  rows.push_back(integer(
      {"scheduler", "starvation_ms", "MS", "sj-mlfq: a request that waits this long goes first"}, planned, 1,
      86'400'000, [](auto& o) -> auto& { return o.scheduler.starvation_ms; }));
  rows.push_back(flag(
      {"scheduler", "prefix_caching", "", "keep the KV of prompts for those that begin alike"}, planned,
      [](auto& o) -> auto& { return o.scheduler.prefix_caching; }));
  return rows;
}

option_spec spare_weights(commands who) {
  option_spec spec = begin(
      {"failover", "spares", "KIND", "hot: they hold weights ready; cold: they load them when a rank dies"},
      shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    o.failover.spares = parse_choice(value, {"hot", "cold"});
  };
  spec.get = [](const options& o) { return std::vector<std::string>{o.failover.spares}; };
  return spec;
}

std::vector<option_spec> failover_rows() {
  const commands runs{command::console, command::batch, command::bench, command::bench_serve};
  constexpr std::int64_t longest = 3'600'000;
  std::vector<option_spec> rows;
  rows.push_back(integer(
      {"failover", "spare_ranks", "N", "ranks kept without layers, to take over those of one that dies"},
      runs, 0, 65536, [](auto& o) -> auto& { return o.failover.spare_ranks; }));
  rows.push_back(spare_weights(runs));
  rows.push_back(integer(
      {"failover", "heartbeat_ms", "MS", "between two signs of life of a rank"}, runs, 1, longest,
      [](auto& o) -> auto& { return o.failover.heartbeat_ms; }));
  rows.push_back(integer(
      {"failover", "deadline_ms", "MS", "a rank that is silent for this long is dead"}, runs, 2, longest,
      [](auto& o) -> auto& { return o.failover.deadline_ms; }));
  rows.push_back(integer(
      {"failover", "fence_ms", "MS", "a rank that hears no leader for this long ends itself"}, runs, 2,
      longest, [](auto& o) -> auto& { return o.failover.fence_ms; }));
  return rows;
}

std::vector<option_spec> sampling_rows() {
  const commands who{command::console, command::batch};
  std::vector<option_spec> rows;
  rows.push_back(real(
      {"sampling", "temperature", "T", "0 takes the likeliest token; higher is bolder"}, who, 0.0F, 1000.0F,
      false, [](auto& o) -> auto& { return o.sampling.temperature; }));
  rows.push_back(integer(
      {"sampling", "top_k", "K", "draw from the K likeliest tokens", "0: from all"}, who, 0, max_int32,
      [](auto& o) -> auto& { return o.sampling.top_k; }));
  rows.push_back(real(
      {"sampling", "top_p", "P", "draw from the fewest tokens that reach this probability"}, who, 0.0F, 1.0F,
      true, [](auto& o) -> auto& { return o.sampling.top_p; }));
  rows.push_back(real(
      {"sampling", "min_p", "P", "drop tokens below P times the likeliest one's probability"}, who, 0.0F,
      1.0F, false, [](auto& o) -> auto& { return o.sampling.min_p; }));
  rows.push_back(real(
      {"sampling", "repetition_penalty", "X", "above 1 discourages tokens of prompt and answer"}, who, 0.0F,
      1000.0F, true, [](auto& o) -> auto& { return o.sampling.repetition_penalty; }));
  rows.push_back(real(
      {"sampling", "presence_penalty", "X", "off the score of tokens that the answer has"}, who, -1000.0F,
      1000.0F, false, [](auto& o) -> auto& { return o.sampling.presence_penalty; }));
  rows.push_back(real(
      {"sampling", "frequency_penalty", "X", "the same, times how often the answer has it"}, who, -1000.0F,
      1000.0F, false, [](auto& o) -> auto& { return o.sampling.frequency_penalty; }));
  rows.push_back(seed(who));
  rows.push_back(integer(
      {"sampling", "logprobs", "N", "in JSON answers: log-probabilities, and the N likeliest"}, who, 0, 1000,
      [](auto& o) -> auto& { return o.sampling.logprobs; }));
  rows.push_back(integer(
      {"stopping", "max_tokens", "N", "longest answer"}, who, 1, max_int32,
      [](auto& o) -> auto& { return o.stopping.max_tokens; }));
  rows.push_back(flag(
      {"stopping", "ignore_eos", "", "go on after the model's end-of-sequence token"}, who,
      [](auto& o) -> auto& { return o.stopping.ignore_eos; }));
  rows.push_back(stop_strings(who));
  rows.push_back(stop_ids(who));
  for (option_spec& spec : rows) spec.live = true;
  return rows;
}

std::vector<option_spec> console_rows() {
  const commands who{command::console};
  std::vector<option_spec> rows;
  rows.push_back(text_prompts());
  rows.push_back(id_prompts());
  rows.push_back(flag(
      {"console", "json", "", "print a line of JSON for each finished answer"}, who,
      [](auto& o) -> auto& { return o.console.json; }));
  rows.push_back(flag(
      {"console", "history", "", "keep typed prompts in a file"}, who,
      [](auto& o) -> auto& { return o.console.history; }));
  return rows;
}

std::vector<option_spec> batch_rows() {
  const commands who{command::batch};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"batch", "input", "IN.jsonl", "requests, one a line; the same as the first argument"}, who,
      [](auto& o) -> auto& { return o.batch.input; }));
  rows.push_back(text(
      {"batch", "output", "OUT.jsonl", "answers, one a line; the same as the second argument"}, who,
      [](auto& o) -> auto& { return o.batch.output; }));
  rows.push_back(integer(
      {"batch", "grace", "SECONDS", "after a signal, what runs has this long to finish"}, who, 0, 86400,
      [](auto& o) -> auto& { return o.batch.grace_s; }));
  rows.push_back(flag(
      {"batch", "overwrite", "", "drop an earlier output and its journal instead of going on with them"}, who,
      [](auto& o) -> auto& { return o.batch.overwrite; }));
  return rows;
}

std::vector<option_spec> compress_rows() {
  const commands who{command::compress};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"compress", "output", "OUT", "folder to write; the same as the second argument"}, who,
      [](auto& o) -> auto& { return o.compress.output; }));
  option_spec format = begin({"compress", "format", "NAME", "int8, int4, or none: weights are left out only"},
                             shape::value, who);
  format.empty_is_unset = true;
  format.set = [](options& o, std::string_view value) {
    o.compress.format = parse_choice(value, {"int8", "int4", "none"});
  };
  format.get = [](const options& o) { return std::vector<std::string>{o.compress.format}; };
  rows.push_back(std::move(format));
  option_spec group =
      begin({"compress", "group", "N", "weights that share a scale: 16, 32, 64, 128, or 0 for a whole row",
             "128 for int8, 32 for int4"},
            shape::value, who);
  group.numeric = true;
  group.set = [](options& o, std::string_view value) {
    const auto n = static_cast<std::int32_t>(parse_integer(value, -1, 128));
    if (n != -1 && n != 0 && n != 16 && n != 32 && n != 64 && n != 128)
      throw std::invalid_argument{"expected 16, 32, 64, 128 or 0, found " + in_quotes(value)};
    o.compress.group = n;
  };
  group.get = [](const options& o) { return std::vector<std::string>{std::to_string(o.compress.group)}; };
  rows.push_back(std::move(group));
  rows.push_back(flag(
      {"compress", "symmetric", "", "int4 without zero points (int8 never has any)"}, who,
      [](auto& o) -> auto& { return o.compress.symmetric; }));
  rows.push_back(text(
      {"compress", "calibrate", "TEXT", "file of text to choose by", "round to nearest"}, who,
      [](auto& o) -> auto& { return o.compress.calibrate; }));
  rows.push_back(text(
      {"compress", "evaluate", "TEXT", "file of text to judge by", "the last tenth of --calibrate"}, who,
      [](auto& o) -> auto& { return o.compress.evaluate; }));
  option_spec prune =
      begin({"compress", "prune", "HOW",
             "leave out a share of each row, such as 0.5, or all but 2 of every 4: 2:4", "none"},
            shape::value, who);
  prune.empty_is_unset = true;
  prune.set = [](options& o, std::string_view value) {
    compress::parse_pruning(value);
    o.compress.prune = std::string{value};
  };
  prune.get = [](const options& o) { return std::vector<std::string>{o.compress.prune}; };
  rows.push_back(std::move(prune));
  return rows;
}

std::vector<option_spec> bench_rows() {
  const commands who{command::bench};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"bench", "random_weights", "CONFIG.json", "measure a model of this shape, made up in memory"},
      {command::bench, command::bench_serve}, [](auto& o) -> auto& { return o.bench.random_weights; }));
  rows.push_back(integer(
      {"bench", "prompt_tokens", "N", "length of each prompt"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.bench.prompt_tokens; }));
  rows.push_back(integer(
      {"bench", "decode_tokens", "N", "tokens generated after each prompt"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.bench.decode_tokens; }));
  rows.push_back(integer(
      {"bench", "batch", "N", "sequences at once"}, who, 1, 65536,
      [](auto& o) -> auto& { return o.bench.batch; }));
  rows.push_back(integer(
      {"bench", "repeat", "N", "measure this often and print the best"}, who, 1, 10000,
      [](auto& o) -> auto& { return o.bench.repeat; }));
  rows.push_back(flag(
      {"bench", "json", "", "print one line of JSON instead of a table"}, who,
      [](auto& o) -> auto& { return o.bench.json; }));
  return rows;
}

std::vector<option_spec> load_rows() {
  const commands who{command::bench_serve, command::simulate};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"load", "trace", "FILE", "lengths: CSV (ShareGPT, Azure) or JSON lines (Mooncake)",
       "--prompt-tokens and --decode-tokens"},
      who, [](auto& o) -> auto& { return o.load.trace; }));
  rows.push_back(arrivals(who));
  rows.push_back(rates(who));
  rows.push_back(real(
      {"load", "cv", "X", "of gamma gaps: standard deviation over mean"}, who, 0.0F, 100.0F, false,
      [](auto& o) -> auto& { return o.load.cv; }));
  rows.push_back(integer(
      {"load", "requests", "N", "in each run"}, who, 1, 10'000'000,
      [](auto& o) -> auto& { return o.load.requests; }));
  rows.push_back(integer(
      {"load", "prompt_tokens", "N", "length of each prompt, without a trace"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.load.prompt_tokens; }));
  rows.push_back(integer(
      {"load", "decode_tokens", "N", "length of each answer, without a trace"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.load.decode_tokens; }));
  rows.push_back(integer(
      {"load", "longest_prompt", "N", "leave requests of the trace with longer prompts out", "0: none"}, who,
      0, 1 << 24, [](auto& o) -> auto& { return o.load.longest_prompt; }));
  rows.push_back(real(
      {"load", "scale", "X", "times every length of the trace"}, who, 0.0F, 1000.0F, true,
      [](auto& o) -> auto& { return o.load.scale; }));
  rows.push_back(load_seed(who));
  rows.push_back(integer(
      {"load", "seeds", "N", "make each run with so many seeds and take the mean"}, who, 1, 1000,
      [](auto& o) -> auto& { return o.load.seeds; }));
  rows.push_back(compared(who));
  rows.push_back(real(
      {"load", "slo_ms", "MS", "bound of the mean latency an output token: the rate that crosses it is told",
       "0: none"},
      who, 0.0F, 1e9F, false, [](auto& o) -> auto& { return o.load.slo_ms; }));
  rows.push_back(goodput(who));
  rows.push_back(text(
      {"load", "save", "NAME", "write NAME.json and the plot NAME.svg", "nothing is written"}, who,
      [](auto& o) -> auto& { return o.load.save; }));
  rows.push_back(flag(
      {"load", "json", "", "print JSON instead of tables"}, who,
      [](auto& o) -> auto& { return o.load.json; }));
  return rows;
}

std::vector<option_spec> simulate_rows() {
  const commands who{command::simulate};
  std::vector<option_spec> rows;
  rows.push_back(integer(
      {"simulate", "replicas", "N", "pipelines; a request goes to the least busy one"}, who, 1, 65536,
      [](auto& o) -> auto& { return o.simulate.replicas; }));
  rows.push_back(integer(
      {"simulate", "stages", "N", "of each pipeline"}, who, 1, 65536,
      [](auto& o) -> auto& { return o.simulate.stages; }));
  const auto cost = [&](std::string_view key, std::string_view doc, auto field) {
    rows.push_back(real({"simulate", key, "US", doc}, who, 0.0F, 1e9F, false, field));
  };
  cost(
      "fixed_us", "microseconds of a step, on each stage",
      [](auto& o) -> auto& { return o.simulate.fixed_us; });
  cost(
      "row_us", "of each token computed", [](auto& o) -> auto& { return o.simulate.row_us; });
  cost(
      "draw_us", "of each token drawn", [](auto& o) -> auto& { return o.simulate.draw_us; });
  cost(
      "context_us", "of each position attended to", [](auto& o) -> auto& { return o.simulate.context_us; });
  cost(
      "link_us", "of each hop between stages", [](auto& o) -> auto& { return o.simulate.link_us; });
  rows.push_back(text(
      {"simulate", "calibrate", "FILE.json", "take costs and limits from what bench serve saved", "as given"},
      who, [](auto& o) -> auto& { return o.simulate.calibrate; }));
  return rows;
}

}  // namespace

bool option_spec::belongs_to(command which) const {
  return std::find(commands.begin(), commands.end(), which) != commands.end();
}

std::string option_spec::flag() const {
  std::string name{"--"};
  for (const char c : key) name += c == '_' ? '-' : c;
  return name;
}

const std::vector<option_spec>& option_table() {
  static const std::vector<option_spec> table = [] {
    std::vector<option_spec> all;
    for (auto rows : {general_options(), engine_rows(), failover_rows(), sampling_rows(), console_rows(),
                      batch_rows(), bench_rows(), load_rows(), simulate_rows(), compress_rows()})
      for (option_spec& spec : rows) all.push_back(std::move(spec));
    return all;
  }();
  return table;
}

const option_spec* find_option(command which, std::string_view key) {
  for (const option_spec& spec : option_table())
    if (spec.key == key && spec.belongs_to(which)) return &spec;
  return nullptr;
}

std::vector<const option_spec*> live_options() {
  std::vector<const option_spec*> live;
  for (const option_spec& spec : option_table())
    if (spec.live) live.push_back(&spec);
  return live;
}

}  // namespace fastserve::launch
