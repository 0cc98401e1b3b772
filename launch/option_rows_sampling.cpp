#include "launch/option_rows.hpp"

#include <limits>
#include <stdexcept>

namespace fastserve::launch {

namespace {

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

// OpenAI's seeds are signed, ours are not: the same 64 bits, here and in a batch's lines.
option_spec any_seed(option_spec spec) {
  spec.set = [set = spec.set](options& o, std::string_view value) {
    if (value.starts_with('-') && value != "-0")
      o.sampling.seed =
          static_cast<std::uint64_t>(parse_integer(value, std::numeric_limits<std::int64_t>::min(), -1));
    else
      set(o, value);
  };
  return spec;
}

}  // namespace

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
  rows.push_back(any_seed(seed(
      {"sampling", "seed", "N", "key of the random draws: the same seed, the same answer"}, who,
      [](auto& o) -> auto& { return o.sampling.seed; })));
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

}  // namespace fastserve::launch
