#pragma once

#include <string_view>
#include <vector>

#include "model/tokenizer/bpe_merge.hpp"
#include "model/tokenizer/token_id.hpp"
#include "model/tokenizer/word_cache.hpp"

namespace fastserve::model {

/// Memory that encodes reuse. Owned by one encode at a time.
struct encode_scratch {
  word_cache cache;
  std::vector<symbol_id> symbols;
  merge_scratch merges;
};

/// Splits one pre-tokenized word of well-formed UTF-8 into tokens. Immutable, hence shared by threads.
class subword_model {
 public:
  virtual ~subword_model() = default;
  virtual void encode(std::string_view word, encode_scratch& scratch, std::vector<token_id>& out) const = 0;
};

}  // namespace fastserve::model
