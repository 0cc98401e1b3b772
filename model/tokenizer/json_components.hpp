#pragma once

#include <memory>
#include <vector>

#include "model/tokenizer/json_reader.hpp"
#include "model/tokenizer/normalizer.hpp"
#include "model/tokenizer/pre_tokenizer.hpp"
#include "model/tokenizer/token_decoder.hpp"
#include "model/tokenizer/token_id.hpp"

/// The parts of a tokenizer.json other than its model. Each takes the part's value, which may be null. All
/// throw std::runtime_error for a kind that is unknown or not supported, naming it and its place.
namespace fastserve::model {

std::unique_ptr<normalizer> read_normalizer(const json_reader& value);

struct pre_tokenizer_choice {
  std::unique_ptr<pre_tokenizer> split;
  bool byte_level = false;  ///< words are handed to the model as bytes
};
/// `add_prefix_space` overrides what a ByteLevel pre-tokenizer says of itself, as tokenizer_config.json may.
pre_tokenizer_choice read_pre_tokenizer(const json_reader& value, std::optional<bool> add_prefix_space);

token_decoder read_decoder(const json_reader& value);

/// Tokens that a post-processor puts around a single text.
struct post_tokens {
  std::vector<token_id> before;
  std::vector<token_id> after;
};
post_tokens read_post_processor(const json_reader& value);

}  // namespace fastserve::model
