#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "model/sampling.hpp"
#include "model/tokenizer/stop_matcher.hpp"
#include "model/tokenizer/stream_decoder.hpp"
#include "model/tokenizer/tokenizer.hpp"

namespace fastserve::actors {

/// Turns the tokens of one answer into text as they come: whole characters only, nothing that may yet become
/// a stop string, nothing from a stop string on.
class answer_text {
 public:
  /// `with` may be null (a model without a tokenizer): then there is no text, and stop strings never match.
  answer_text(const model::tokenizer* with, std::span<const std::int32_t> prompt,
              const model::stop_params& stop);

  /// The text that may be shown now.
  std::string push(std::int32_t token);
  /// What was held back, at the end of the answer.
  std::string flush();
  /// True once a stop string has been seen; nothing comes after it.
  bool stopped() const;

 private:
  std::optional<model::stream_decoder> decoder_;
  model::stop_matcher matcher_;
};

}  // namespace fastserve::actors
