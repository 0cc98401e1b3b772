#include "launch/batch_fields.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string_view>
#include <vector>

#include "launch/parse_value.hpp"

namespace fastserve::launch {

namespace {

using nlohmann::json;
using reader = void (*)(const std::string& name, const json& value, batch_request& out);

constexpr std::size_t most_stop_texts = 256;
constexpr std::size_t most_stop_bytes = std::size_t{64} << 10;
constexpr std::size_t most_stop_ids = 65536;
constexpr std::size_t most_salt_bytes = 256;
constexpr std::int64_t most_priority = 1'000'000;
constexpr std::int64_t most_alternatives = 20;  // a line of output has them for each of its tokens

[[noreturn]] void wrong(const std::string& name, const std::string& expected, const json& found) {
  throw batch_refusal{"invalid_request", name + ": expected " + expected + ", found " + kind_of(found)};
}

[[noreturn]] void unsupported(const std::string& name, const std::string& what) {
  throw batch_refusal{"unsupported", name + ": " + what};
}

std::int64_t integer(const std::string& name, const json& value, std::int64_t low, std::int64_t high) {
  const auto expected = "an integer from " + std::to_string(low) + " to " + std::to_string(high);
  if (!value.is_number_integer()) wrong(name, expected, value);
  // The largest unsigned numbers would turn negative.
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(high))
    wrong(name, expected, value);
  const auto number = value.get<std::int64_t>();
  if (number < low || number > high) wrong(name, expected, value);
  return number;
}

float real(const std::string& name, const json& value) {
  if (!value.is_number()) wrong(name, "a number", value);
  const auto number = value.get<double>();
  if (!(std::abs(number) <= std::numeric_limits<float>::max())) wrong(name, "a smaller number", value);
  return static_cast<float>(number);
}

bool truth(const std::string& name, const json& value) {
  if (!value.is_boolean()) wrong(name, "true or false", value);
  return value.get<bool>();
}

std::vector<std::int32_t> ids(const std::string& name, const json& list) {
  std::vector<std::int32_t> out;
  out.reserve(list.size());
  for (const auto& id : list) out.push_back(static_cast<std::int32_t>(integer(name, id, 0, max_int32)));
  return out;
}

void read_prompt(const std::string& name, const json& value, batch_request& out) {
  if (value.is_string()) {
    out.what = value.get<std::string>();
    return;
  }
  if (!value.is_array()) wrong(name, "a text or a list of token ids", value);
  if (value.empty()) throw batch_refusal{"invalid_request", name + ": an empty list"};
  if (value.front().is_number()) {
    out.what = ids(name, value);
    return;
  }
  // A list of prompts. One is a prompt like any other.
  if (value.size() > 1)
    unsupported(name, "a list of " + std::to_string(value.size()) + " prompts; give each a line of its own");
  if (value.front().is_array() && !value.front().empty() && !value.front().front().is_number())
    wrong(name, "a text or a list of token ids", value.front());
  read_prompt(name, value.front(), out);
}

void read_stop(const std::string& name, const json& value, batch_request& out) {
  auto& stop = out.stopping.stop;
  stop.clear();
  std::size_t bytes = 0;
  const auto add = [&](const json& text) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty())
      wrong(name, "a text to stop at, or a list of them", text);
    bytes += text.get_ref<const std::string&>().size();
    if (stop.size() == most_stop_texts || bytes > most_stop_bytes)
      throw batch_refusal{"invalid_request", name + ": more than " + std::to_string(most_stop_texts) +
                                                 " texts or " + std::to_string(most_stop_bytes) + " bytes"};
    stop.push_back(text.get<std::string>());
  };
  if (!value.is_array()) return add(value);
  for (const auto& text : value) add(text);
}

void read_stop_ids(const std::string& name, const json& value, batch_request& out) {
  if (!value.is_array()) wrong(name, "a list of token ids", value);
  if (value.size() > most_stop_ids)
    throw batch_refusal{"invalid_request", name + ": more than " + std::to_string(most_stop_ids) + " ids"};
  out.stopping.stop_token_ids = ids(name, value);
}

void read_seed(const std::string& name, const json& value, batch_request& out) {
  if (!value.is_number_integer()) wrong(name, "an integer", value);
  // OpenAI's are signed, ours are not: the same 64 bits.
  out.sampling.seed = value.is_number_unsigned() ? value.get<std::uint64_t>()
                                                 : static_cast<std::uint64_t>(value.get<std::int64_t>());
}

void read_logprobs(const std::string& name, const json& value, batch_request& out) {
  out.logprobs = true;
  out.alternatives = static_cast<std::int32_t>(integer(name, value, 0, most_alternatives));
  // The drawn token's own comes with at least one alternative.
  out.sampling.logprobs = std::max(out.alternatives, 1);
}

void only_one(const std::string& name, const json& value, batch_request&) {
  if (integer(name, value, 1, max_int32) != 1) unsupported(name, "all answers are given; ask for n of them");
}

void read_cache_salt(const std::string& name, const json& value, batch_request& out) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) wrong(name, "a text", value);
  if (value.get_ref<const std::string&>().size() > most_salt_bytes)
    throw batch_refusal{"invalid_request",
                        name + ": longer than " + std::to_string(most_salt_bytes) + " bytes"};
  out.cache_salt = value.get<std::string>();
}

void only_false(const std::string& name, const json& value, batch_request&) {
  if (truth(name, value)) unsupported(name, "true cannot be obeyed in a batch");
}

void only_empty(const std::string& name, const json& value, batch_request&) {
  const bool empty = value.is_string() ? value.get_ref<const std::string&>().empty() : value.empty();
  if (!empty) unsupported(name, "cannot be obeyed");
}

void only_zero(const std::string& name, const json& value, batch_request&) {
  if (integer(name, value, 0, max_int32) != 0) unsupported(name, "cannot be obeyed");
}

void not_looked_at(const std::string&, const json&, batch_request&) {}

const std::map<std::string, reader, std::less<>>& readers() {
  using r = batch_request;
  using s = const std::string;
  static const std::map<std::string, reader, std::less<>> all{
      {"prompt", read_prompt},
      {"max_tokens",
       [](s& n, const json& v, r& o) {
         o.stopping.max_tokens = static_cast<std::int32_t>(integer(n, v, 1, max_int32));
       }},
      {"temperature", [](s& n, const json& v, r& o) { o.sampling.temperature = real(n, v); }},
      {"top_p", [](s& n, const json& v, r& o) { o.sampling.top_p = real(n, v); }},
      {"top_k",
       [](s& n, const json& v, r& o) {
         // vLLM's -1 and 0 both mean all.
         o.sampling.top_k =
             static_cast<std::int32_t>(std::max<std::int64_t>(0, integer(n, v, -1, max_int32)));
       }},
      {"min_p", [](s& n, const json& v, r& o) { o.sampling.min_p = real(n, v); }},
      {"presence_penalty", [](s& n, const json& v, r& o) { o.sampling.presence_penalty = real(n, v); }},
      {"frequency_penalty", [](s& n, const json& v, r& o) { o.sampling.frequency_penalty = real(n, v); }},
      {"repetition_penalty", [](s& n, const json& v, r& o) { o.sampling.repetition_penalty = real(n, v); }},
      {"seed", read_seed},
      {"logprobs", read_logprobs},
      {"stop", read_stop},
      {"stop_token_ids", read_stop_ids},
      {"ignore_eos", [](s& n, const json& v, r& o) { o.stopping.ignore_eos = truth(n, v); }},
      {"return_token_ids", [](s& n, const json& v, r& o) { o.token_ids = truth(n, v); }},
      {"n", [](s& n, const json& v,
               r& o) { o.choices = static_cast<std::int32_t>(integer(n, v, 1, model::most_choices)); }},
      {"priority",
       [](s& n, const json& v, r& o) {
         o.priority = static_cast<std::int32_t>(integer(n, v, -most_priority, most_priority));
       }},
      {"cache_salt", read_cache_salt},
      {"best_of", only_one},
      {"echo", only_false},
      {"stream", only_false},
      {"use_beam_search", only_false},
      {"suffix", only_empty},
      {"logit_bias", only_empty},
      {"min_tokens", only_zero},
      {"stream_options", only_empty},
      {"model", not_looked_at},
      {"user", not_looked_at},
      {"metadata", not_looked_at},
      {"store", not_looked_at},
      {"service_tier", not_looked_at},
  };
  return all;
}

}  // namespace

std::string kind_of(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::boolean:
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
    case json::value_t::number_float:
      return value.dump();
    case json::value_t::string:
      return in_quotes(value.get_ref<const std::string&>().substr(0, 100));
    case json::value_t::array:
      return "a list";
    case json::value_t::object:
      return "an object";
    default:
      return "something else";
  }
}

void read_batch_fields(const json& body, bool plain, batch_request& out) {
  // The settings may ask for log-probabilities of every answer.
  out.alternatives =
      static_cast<std::int32_t>(std::min<std::int64_t>(out.sampling.logprobs, most_alternatives));
  out.sampling.logprobs = out.alternatives;
  out.logprobs = out.alternatives > 0;

  const auto given = body.find("prompt");
  if (given == body.end() || given->is_null()) {
    if (body.contains("messages"))
      unsupported("messages",
                  "a chat needs chat templates, which this version does not have; write the prompt out");
    throw batch_refusal{"invalid_request", "prompt: is missing"};
  }
  for (const auto& [name, value] : body.items()) {
    if (plain && name == "custom_id") continue;
    const auto known = readers().find(name);
    if (known == readers().end()) unsupported(in_quotes(name.substr(0, 100)), "unknown field");
    if (!value.is_null()) known->second(name, value, out);
  }
  if (const auto refusal = out.sampling.validate(); !refusal.empty())
    throw batch_refusal{"invalid_request", refusal};
}

}  // namespace fastserve::launch
