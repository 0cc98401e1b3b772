#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/string_table.hpp"
#include "model/tokenizer/token_id.hpp"

namespace fastserve::model {

/// Tokens by id and ids by token, as a file lists them.
class vocabulary {
 public:
  static constexpr std::size_t max_token_bytes = std::size_t{1} << 16;

  /// Adds a token. Throws std::runtime_error for an id outside of [0, max_vocab_tokens), for an id that has a
  /// token already, for a token that has an id already, and for one longer than max_token_bytes. The message
  /// names token and id, not the file.
  void add(std::string_view token, std::int64_t id);

  std::optional<token_id> id_of(std::string_view token) const;
  /// The token, or null if no token has that id.
  const std::string* token_of(token_id id) const;

  /// One more than the largest id.
  std::int32_t size() const { return static_cast<std::int32_t>(tokens_.size()); }
  /// Number of tokens: `size()` less the gaps.
  std::size_t count() const { return ids_.size(); }

 private:
  std::vector<std::optional<std::string>> tokens_;
  string_table ids_;
};

/// Text from a file, fit for a one-line message: quoted, control characters escaped, cut when long.
std::string in_quotes(std::string_view text);

}  // namespace fastserve::model
