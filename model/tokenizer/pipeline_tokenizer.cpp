#include "model/tokenizer/pipeline_tokenizer.hpp"

#include <stdexcept>
#include <utility>

#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

namespace {

std::unique_ptr<added_token_matcher> matcher_of(const tokenizer_parts& parts, bool normalized) {
  std::vector<std::string> patterns;
  std::vector<added_token> tokens;
  for (const added_token& token : parts.added) {
    if (token.normalized != normalized) continue;
    std::string pattern = token.content;
    // Looked for in normalized text, so in normalized form.
    if (normalized && parts.normalize && !parts.patterns_are_normalized)
      parts.normalize->apply(pattern, true);
    patterns.push_back(std::move(pattern));
    tokens.push_back(token);
  }
  if (tokens.empty()) return nullptr;
  return std::make_unique<added_token_matcher>(patterns, tokens);
}

}  // namespace

pipeline_tokenizer::pipeline_tokenizer(tokenizer_parts parts)
    : parts_(std::move(parts)),
      before_normalizing_(matcher_of(parts_, false)),
      after_normalizing_(matcher_of(parts_, true)),
      kept_(std::make_unique<scratch>()) {}

std::vector<token_id> pipeline_tokenizer::encode(std::string_view text, bool add_special) const {
  constexpr std::size_t longest_bytes = std::size_t{1} << 30;
  if (text.size() > longest_bytes) {
    throw std::runtime_error("text of " + std::to_string(text.size()) + " bytes, expected at most " +
                             std::to_string(longest_bytes));
  }
  std::string repaired;
  if (!utf8::valid(text)) text = repaired = utf8::repaired(text);

  std::vector<token_id> out;
  if (add_special) out = parts_.before;
  out.reserve(out.size() + text.size() / 3 + 8);
  const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  // A huge text brings its own scratch too, so that its memory is not kept.
  constexpr std::size_t kept_bytes = std::size_t{1} << 24;
  if (lock.owns_lock() && text.size() <= kept_bytes) {
    encode_text(text, *kept_, out);
  } else {
    encode_text(text, *std::make_unique<scratch>(), out);
  }
  if (add_special) out.insert(out.end(), parts_.after.begin(), parts_.after.end());
  return out;
}

void pipeline_tokenizer::encode_text(std::string_view text, scratch& memory,
                                     std::vector<token_id>& out) const {
  if (!before_normalizing_) {
    encode_between(text, true, memory, out);
    return;
  }
  memory.raw.clear();
  before_normalizing_->split(text, memory.raw);
  for (const text_segment& segment : memory.raw) {
    if (segment.id) {
      out.push_back(*segment.id);
    } else {
      encode_between(segment.text, segment.text.data() == text.data(), memory, out);
    }
  }
}

void pipeline_tokenizer::encode_between(std::string_view text, bool first, scratch& memory,
                                        std::vector<token_id>& out) const {
  if (parts_.normalize) {
    memory.normalized = text;
    parts_.normalize->apply(memory.normalized, first);
    text = memory.normalized;
  }
  if (!after_normalizing_) {
    encode_words(text, first, memory, out);
    return;
  }
  memory.cut.clear();
  after_normalizing_->split(text, memory.cut);
  for (const text_segment& segment : memory.cut) {
    if (segment.id) {
      out.push_back(*segment.id);
    } else {
      encode_words(segment.text, first && segment.text.data() == text.data(), memory, out);
    }
  }
}

void pipeline_tokenizer::encode_words(std::string_view text, bool first, scratch& memory,
                                      std::vector<token_id>& out) const {
  if (text.empty()) return;
  if (!parts_.split) {
    parts_.model->encode(text, memory.model, out);
    return;
  }
  memory.words.reset(text, first);
  parts_.split->split(memory.words);
  for (const std::string_view word : memory.words.words) parts_.model->encode(word, memory.model, out);
}

}  // namespace fastserve::model
