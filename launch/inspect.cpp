#include "launch/inspect.hpp"

#include <algorithm>
#include <string_view>

#include "launch/parse_value.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

std::string line(std::string_view name, const std::string& value) {
  constexpr std::size_t width = 16;
  std::string out{name};
  out.append(width - std::min(width, out.size()), ' ');
  return out + value + '\n';
}

/// Names from config.json may hold anything; plain ones need no quotes.
std::string printable(const std::string& text) {
  const std::string shown = in_quotes(text);
  return shown == "'" + text + "'" ? text : shown;
}

std::string attention_text(const model::model_description& facts) {
  std::string out = std::to_string(facts.heads) + " heads of " + std::to_string(facts.head_dim);
  if (facts.kv_heads != facts.heads) out += ", " + std::to_string(facts.kv_heads) + " for keys and values";
  if (facts.qkv_bias) out += ", biases";
  if (facts.query_key_norm) out += ", norm of queries and keys";
  if (facts.window_tokens > 0)
    out += ", window of " + format_count(facts.window_tokens) + " tokens in " +
           std::to_string(facts.window_layers) + " layers";
  return out;
}

std::string files_text(const model::model_description& facts) {
  std::string out = format_bytes(facts.weight_file_bytes) + " in " + std::to_string(facts.files) +
                    (facts.files == 1 ? " file" : " files");
  for (const auto& share : facts.dtypes)
    out += ", " + std::to_string(share.tensors) + " tensors " + printable(share.dtype);
  return out;
}

std::string ids_text(const model::model_description& facts) {
  return "begin " + (facts.bos_id < 0 ? "none" : std::to_string(facts.bos_id)) + ", end " +
         (facts.eos_ids.empty() ? "none" : format_ids(facts.eos_ids));
}

std::string unused_text(const std::vector<std::string>& names) {
  constexpr std::size_t shown = 4;
  std::string out = std::to_string(names.size()) + ":";
  for (std::size_t i = 0; i < std::min(shown, names.size()); ++i) out += ' ' + printable(names[i]);
  return names.size() > shown ? out + " ..." : out;
}

}  // namespace

std::string format_model(const std::filesystem::path& folder, const model::model_description& facts) {
  const bool windowed = facts.window_layers > 0;
  std::string out = line("model", folder.string() + " (" + printable(facts.model_type) + ")");
  out += line("parameters", format_count(facts.parameters) + ": " + std::to_string(facts.layers) +
                                " layers of " + format_count(facts.layer_parameters) + ", embedding " +
                                format_count(facts.embedding_parameters) + ", head " +
                                format_count(facts.head_parameters) + (facts.tied_head ? " (tied)" : ""));
  out += line("weights", files_text(facts) + "; a layer " + format_bytes(facts.layer_bytes));
  out +=
      line("width", std::to_string(facts.hidden_size) + ", MLP " + std::to_string(facts.intermediate_size) +
                        (facts.gated_mlp ? " gated, " : ", ") + facts.activation + ", " + facts.norm);
  out += line("attention", attention_text(facts));
  out += line("positions", facts.positions + ", context " + format_count(facts.context_tokens) + " tokens" +
                               (windowed ? " (sliding window)" : ""));
  out += line("vocabulary", format_count(facts.vocab_size) + " tokens, " + ids_text(facts));
  out += line("tokenizer", (facts.tokenizer.empty() ? "none" : facts.tokenizer) +
                               (facts.chat_template ? ", with a chat template" : ""));
  out += line("KV cache", format_bytes(facts.kv_token_bytes_16bit) + " a token in 16 bits, " +
                              format_bytes(facts.kv_token_bytes_f32) + " in f32");
  for (const auto& [stages, bytes] : facts.stage_bytes)
    out += line(stages == 1 ? "1 rank" : std::to_string(stages) + " ranks",
                stages == 1 ? format_bytes(bytes) + " of weights"
                            : "up to " + format_bytes(bytes) + " of weights each");
  if (!facts.unused.empty()) out += line("unused tensors", unused_text(facts.unused));
  return out;
}

}  // namespace fastserve::launch
