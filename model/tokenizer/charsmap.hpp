#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/normalizer.hpp"

namespace fastserve::model {

/// SentencePiece's compiled character map: a double-array trie (Darts-clone's format) from strings to their
/// normalized forms. Layout: bytes of the trie as 32 bits little-endian, the trie, the forms with a zero
/// after each.
class charsmap {
 public:
  /// Throws std::runtime_error for a blob with sizes, links or forms that point outside of it.
  explicit charsmap(std::string_view blob);

  /// The normalized form of the shortest prefix of `text` that has one, or null data if none has.
  std::string_view shortest_prefix(std::string_view text) const;

 private:
  void check() const;

  std::vector<std::uint32_t> units_;
  std::string forms_;
};

/// The Precompiled normalizer of tokenizer.json. Graphemes are ICU's; the reference library's are of a
/// younger Unicode, which shows on a few rare combining characters (U+0897, U+1714).
std::unique_ptr<normalizer> make_charsmap_normalizer(const std::string& blob);

/// Bytes of a base64 text. Throws std::runtime_error if it is none.
std::string decode_base64(std::string_view text);

}  // namespace fastserve::model
