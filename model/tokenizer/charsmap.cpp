#include "model/tokenizer/charsmap.hpp"

#include <unicode/brkiter.h>
#include <unicode/utext.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

namespace {

// Fields of a unit, as Darts-clone packs them.
bool has_leaf(std::uint32_t unit) { return (unit >> 8 & 1) != 0; }
std::uint32_t value_of(std::uint32_t unit) { return unit & 0x7FFFFFFFu; }
std::uint32_t label_of(std::uint32_t unit) { return unit & 0x800000FFu; }
std::uint32_t offset_of(std::uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

}  // namespace

charsmap::charsmap(std::string_view blob) {
  std::uint32_t trie_bytes = 0;
  if (blob.size() < 4) throw std::runtime_error("character map of " + std::to_string(blob.size()) + " bytes");
  std::memcpy(&trie_bytes, blob.data(), 4);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > blob.size() - 4) {
    throw std::runtime_error("character map with a trie of " + std::to_string(trie_bytes) + " bytes in " +
                             std::to_string(blob.size()));
  }
  units_.resize(trie_bytes / 4);
  std::memcpy(units_.data(), blob.data() + 4, trie_bytes);
  forms_ = blob.substr(4 + trie_bytes);
  check();
}

// Walks everything that a look-up may touch.
void charsmap::check() const {
  std::vector<bool> seen(units_.size(), false);
  std::vector<std::uint32_t> open{0};
  seen[0] = true;
  while (!open.empty()) {
    const std::uint32_t at = open.back();
    open.pop_back();
    const std::uint32_t unit = units_[at];
    const std::uint32_t base = at ^ offset_of(unit);
    if ((base | 0xFFu) >= units_.size())
      throw std::runtime_error("character map with a link out of its trie");
    if (at != 0 && has_leaf(unit) && value_of(units_[base]) >= forms_.size()) {
      throw std::runtime_error("character map with a form out of its bounds");
    }
    for (std::uint32_t byte = 1; byte < 256; ++byte) {
      const std::uint32_t next = base ^ byte;
      if (label_of(units_[next]) != byte || seen[next]) continue;
      seen[next] = true;
      open.push_back(next);
    }
  }
}

std::string_view charsmap::shortest_prefix(std::string_view text) const {
  std::uint32_t at = offset_of(units_[0]);
  for (const char c : text) {
    const std::uint32_t byte = static_cast<unsigned char>(c);
    if (byte == 0) return {};
    at ^= byte;
    const std::uint32_t unit = units_[at];
    if (label_of(unit) != byte) return {};
    at ^= offset_of(unit);
    if (has_leaf(unit)) {
      const std::string_view form = std::string_view(forms_).substr(value_of(units_[at]));
      return form.substr(0, form.find('\0'));
    }
  }
  return {};
}

namespace {

class charsmap_normalizer final : public normalizer {
 public:
  explicit charsmap_normalizer(const std::string& blob) : map_(blob) {
    UErrorCode status = U_ZERO_ERROR;
    graphemes_.reset(icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), status));
    if (U_FAILURE(status)) {
      throw std::runtime_error(std::string("ICU has no break rules: ") + u_errorName(status));
    }
  }

  // Grapheme by grapheme, and within one that has no form character by character.
  void apply(std::string& text, bool) const override {
    UErrorCode status = U_ZERO_ERROR;
    UText* view = utext_openUTF8(nullptr, text.data(), static_cast<std::int64_t>(text.size()), &status);
    const std::unique_ptr<icu::BreakIterator> breaks(graphemes_->clone());
    breaks->setText(view, status);
    std::string out;
    out.reserve(text.size());
    std::int32_t start = breaks->first();
    for (std::int32_t end = breaks->next(); end != icu::BreakIterator::DONE; end = breaks->next()) {
      one(std::string_view(text).substr(static_cast<std::size_t>(start),
                                        static_cast<std::size_t>(end - start)),
          out);
      start = end;
    }
    utext_close(view);
    if (U_FAILURE(status)) throw std::runtime_error(std::string("ICU breaks fail: ") + u_errorName(status));
    text = std::move(out);
  }

 private:
  void one(std::string_view grapheme, std::string& out) const {
    constexpr std::size_t longest_bytes = 6;  // as in the reference library
    if (grapheme.size() < longest_bytes) {
      const std::string_view form = map_.shortest_prefix(grapheme);
      if (form.data() != nullptr) {
        out += form;
        return;
      }
    }
    for (std::size_t at = 0; at < grapheme.size();) {
      const std::string_view character = grapheme.substr(at, utf8::length(grapheme[at]));
      const std::string_view form = map_.shortest_prefix(character);
      out += form.data() != nullptr ? form : character;
      at += character.size();
    }
  }

  charsmap map_;
  std::unique_ptr<icu::BreakIterator> graphemes_;
};

}  // namespace

std::unique_ptr<normalizer> make_charsmap_normalizer(const std::string& blob) {
  return std::make_unique<charsmap_normalizer>(blob);
}

std::string decode_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int digit = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (digit < 0) throw std::runtime_error("base64 text with a character that is none of its own");
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count & 0xFF));
    }
  }
  return out;
}

}  // namespace fastserve::model
