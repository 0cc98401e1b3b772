#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace fastserve::model {

/// How the next token is drawn. Field names and meanings follow the OpenAI and Hugging Face ones.
struct sampling_params {
  float temperature = 1.0F;         ///< 0 = greedy
  std::int32_t top_k = 0;           ///< 0 = all
  float top_p = 1.0F;               ///< smallest set of tokens whose probability reaches top_p
  float min_p = 0.0F;               ///< drop tokens below min_p times the likeliest one's probability
  float repetition_penalty = 1.0F;  ///< arXiv 1909.05858, section 4.1; over prompt and answer
  float presence_penalty = 0.0F;    ///< over the answer
  float frequency_penalty = 0.0F;   ///< over the answer
  std::uint64_t seed = 0;
  std::int32_t logprobs = 0;  ///< this many most likely alternatives a token; 0 = no log-probabilities
  friend bool operator==(const sampling_params&, const sampling_params&) = default;

  bool penalizes() const {
    return repetition_penalty != 1.0F || presence_penalty != 0.0F || frequency_penalty != 0.0F;
  }
  /// Empty when usable, else one line: which field, what it is, what it may be.
  std::string validate() const;
};

/// Most answers to one prompt ("n").
inline constexpr std::int32_t most_choices = 128;

/// Seed of answer `index` of several to one prompt: asked for alone with this seed, it is the same.
constexpr std::uint64_t choice_seed(std::uint64_t seed, std::int32_t index) {
  return seed + static_cast<std::uint64_t>(index);
}

/// When an answer ends.
struct stop_params {
  std::int32_t max_tokens = 256;
  bool ignore_eos = false;
  std::vector<std::string> stop;             ///< not part of the answer's text
  std::vector<std::int32_t> stop_token_ids;  ///< besides the model's own end-of-sequence ids
};

struct token_logprob {
  std::int32_t token = 0;
  float logprob = 0.0F;
};

/// One drawn token. Log-probabilities are those of the raw logits (before penalties, temperature and cuts).
struct sampled_token {
  std::int32_t token = 0;
  float logprob = 0.0F;            ///< 0 unless sampling_params::logprobs asks for them
  std::vector<token_logprob> top;  ///< most likely first, equals by id; empty unless asked for
  bool valid = true;  ///< false: the logits held NaN or +inf or nothing finite; the token means nothing
};

}  // namespace fastserve::model
