#include "actors/answer_text.hpp"

#include <algorithm>

namespace fastserve::actors {

namespace {

// An answer goes on with the prompt's text, unless there is none: a prompt of BOS alone begins a text.
model::stream_decoder::start place_of(const model::tokenizer& with, std::span<const std::int32_t> prompt) {
  const bool nothing =
      std::all_of(prompt.begin(), prompt.end(), [&](auto id) { return with.is_special(id); });
  return nothing ? model::stream_decoder::start::of_text : model::stream_decoder::start::within_text;
}

}  // namespace

answer_text::answer_text(const model::tokenizer* with, std::span<const std::int32_t> prompt,
                         const model::stop_params& stop)
    : matcher_{stop.stop} {
  if (with != nullptr) decoder_.emplace(*with, true, place_of(*with, prompt));
}

std::string answer_text::push(std::int32_t token) {
  return decoder_ ? matcher_.push(decoder_->push(token)) : std::string{};
}

std::string answer_text::flush() {
  if (!decoder_ || matcher_.stopped()) return {};
  auto out = matcher_.push(decoder_->flush());
  if (!matcher_.stopped()) out += matcher_.flush();
  return out;
}

bool answer_text::stopped() const { return matcher_.stopped(); }

}  // namespace fastserve::actors
