#include "launch/batch_answer.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

using nlohmann::ordered_json;

ordered_json number(float value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);  // JSON has no infinity
}

std::string text_of(std::int32_t token, const batch_facts& facts) {
  return facts.tokenizer != nullptr ? repaired_utf8(facts.tokenizer->piece(token))
                                    : "token_id:" + std::to_string(token);
}

// Characters that begin in these bytes: continuation bytes belong to one that began before.
std::int64_t characters_in(std::string_view bytes) {
  return std::count_if(bytes.begin(), bytes.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
}

// Four lists side by side, one entry a token.
ordered_json logprobs_of(const batch_answer& answer, const batch_choice& choice, const batch_facts& facts) {
  auto tokens = ordered_json::array(), own = ordered_json::array(), top = ordered_json::array(),
       offsets = ordered_json::array();
  std::int64_t offset = 0;
  for (const auto& drawn : choice.tokens) {
    tokens.push_back(text_of(drawn.token, facts));
    own.push_back(number(drawn.logprob));
    auto others = ordered_json::object();
    for (std::size_t i = 0; i < drawn.top.size() && i < static_cast<std::size_t>(answer.alternatives); ++i) {
      // Tokens that are the same bytes to the eye keep the likeliest one's place.
      others.emplace(text_of(drawn.top[i].token, facts), number(drawn.top[i].logprob));
    }
    top.push_back(std::move(others));
    offsets.push_back(offset);
    if (facts.tokenizer != nullptr) offset += characters_in(facts.tokenizer->piece(drawn.token));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(own)},
          {"top_logprobs", std::move(top)},
          {"text_offset", std::move(offsets)}};
}

ordered_json frame(std::uint64_t line, const std::string& custom_id) {
  ordered_json out;
  out["id"] = "batch_req_" + std::to_string(line);
  out["custom_id"] = custom_id;
  return out;
}

std::string dump(const ordered_json& line) {
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace

std::int32_t batch_answer::completion_tokens() const {
  std::int32_t n = 0;
  for (const auto& c : choices) n += c.completion_tokens;
  return n;
}

std::string format_batch_answer(const batch_answer& answer, const batch_facts& facts) {
  auto choices = ordered_json::array();
  for (const auto& c : answer.choices) {
    ordered_json choice{{"index", choices.size()},
                        {"text", c.text},
                        {"finish_reason", c.finish_reason},
                        {"logprobs", nullptr}};
    if (answer.logprobs) choice["logprobs"] = logprobs_of(answer, c, facts);
    if (answer.token_ids) {
      auto& list = choice["token_ids"] = ordered_json::array();
      for (const auto& drawn : c.tokens) list.push_back(drawn.token);
    }
    choices.push_back(std::move(choice));
  }
  const auto name = std::to_string(answer.line);
  ordered_json body{{"id", "cmpl-" + name},
                    {"object", "text_completion"},
                    {"created", facts.created},
                    {"model", facts.model},
                    {"choices", std::move(choices)},
                    {"usage",
                     {{"prompt_tokens", answer.prompt_tokens},
                      {"completion_tokens", answer.completion_tokens()},
                      {"total_tokens", std::int64_t{answer.prompt_tokens} + answer.completion_tokens()}}}};
  auto line = frame(answer.line, answer.custom_id);
  line["response"] = {{"status_code", 200}, {"request_id", "req_" + name}, {"body", std::move(body)}};
  line["error"] = nullptr;
  return dump(line);
}

std::string format_batch_error(std::uint64_t line, const batch_error& error) {
  auto out = frame(line, error.custom_id);
  out["response"] = nullptr;
  out["error"] = {{"code", error.code}, {"message", error.message}};
  return dump(out);
}

}  // namespace fastserve::launch
