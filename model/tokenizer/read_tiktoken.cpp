#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <utility>

#include "model/tokenizer/bpe_model.hpp"
#include "model/tokenizer/byte_alphabet.hpp"
#include "model/tokenizer/charsmap.hpp"
#include "model/tokenizer/token_decoder.hpp"
#include "model/tokenizer/tokenizer_files.hpp"

namespace fastserve::model {

namespace {

struct ranked_line {
  std::string_view base64;
  std::size_t rank;
};

std::optional<ranked_line> parse_line(std::string_view line) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0) return std::nullopt;
  const std::string_view number = line.substr(space + 1);
  std::size_t rank = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
  if (error != std::errc{} || end != number.data() + number.size()) return std::nullopt;
  return ranked_line{line.substr(0, space), rank};
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// The 256 special tokens of Llama 3, which its own code adds behind the ranks.
std::vector<std::string> llama3_special() {
  std::vector<std::string> out = {"<|begin_of_text|>", "<|end_of_text|>"};
  int reserved = 0;
  const auto reserve = [&] {
    out.push_back("<|reserved_special_token_" + std::to_string(reserved++) + "|>");
  };
  for (int i = 0; i < 4; ++i) reserve();
  out.emplace_back("<|start_header_id|>");
  out.emplace_back("<|end_header_id|>");
  reserve();
  out.emplace_back("<|eot_id|>");
  while (out.size() < 256) reserve();
  return out;
}

}  // namespace

bool is_tiktoken(std::string_view content) {
  const auto first = parse_line(take_line(content));
  if (!first) return false;
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
  return first->base64.find_first_not_of(digits) == std::string_view::npos;
}

tokenizer_parts read_tiktoken(std::string_view content, const tokenizer_config& config) {
  string_list bytes;
  for (std::size_t number = 1; !content.empty(); ++number) {
    const std::string_view line = take_line(content);
    if (line.empty()) continue;
    const auto parsed = parse_line(line);
    if (!parsed) {
      throw std::runtime_error("line " + std::to_string(number) + " is " + in_quotes(line) +
                               ", expected base64 and a rank");
    }
    if (parsed->rank != bytes.size()) {
      throw std::runtime_error("line " + std::to_string(number) + " has rank " +
                               std::to_string(parsed->rank) + ", expected " + std::to_string(bytes.size()));
    }
    std::string token;
    try {
      token = decode_base64(parsed->base64);
    } catch (const std::runtime_error& error) {
      throw std::runtime_error("line " + std::to_string(number) + ": " + error.what());
    }
    if (token.empty() || token.size() > 1024) {
      throw std::runtime_error("line " + std::to_string(number) + " has a token of " +
                               std::to_string(token.size()) + " bytes, expected 1 to 1024");
    }
    bytes.push_back(token);
  }
  tokenizer_parts parts;
  parts.model = bpe_model::from_ranks(bytes);
  for (std::size_t id = 0; id < bytes.size(); ++id) {
    parts.tokens.add(alphabet_of_bytes(bytes[id]), static_cast<std::int64_t>(id));
  }
  parts.split = make_pattern_split(known_pattern::llama3);
  const std::vector<std::string> own = llama3_special();
  // What is added behind Llama 3's own does not replace them.
  if (config.added.empty() ||
      static_cast<std::size_t>(config.added.front().id) >= bytes.size() + own.size()) {
    for (const std::string& text : own) {
      added_token token;
      token.content = text;
      token.id = parts.tokens.size();
      token.normalized = false;
      token.special = true;
      parts.tokens.add(text, token.id);
      parts.added.push_back(std::move(token));
    }
  }
  add_configured_tokens(parts, config);
  if (const auto bos = parts.tokens.id_of(config.bos.value_or("<|begin_of_text|>"))) parts.before = {*bos};
  token_decoder decoder;
  decoder.byte_level();
  parts.pieces = decoder.build(parts.tokens, parts.added);
  return parts;
}

}  // namespace fastserve::model
