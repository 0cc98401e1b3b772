#include "launch/prompt_request.hpp"

#include <stdexcept>

namespace fastserve::launch {

namespace {

std::int32_t bos_of(const model::architecture& arch, const model::tokenizer* tokens) {
  if (tokens != nullptr && tokens->bos()) return *tokens->bos();
  if (arch.bos_id >= 0) return arch.bos_id;
  throw std::runtime_error("an empty prompt needs a beginning-of-text token, and the model has none");
}

}  // namespace

actors::submit make_request(std::uint64_t id, const prompt& what, const options& settings,
                            const model::architecture& arch, const model::tokenizer* tokens) {
  actors::submit out;
  out.request = id;
  out.sampling = settings.sampling;
  out.stop = settings.stopping;
  if (const auto* text = std::get_if<std::string>(&what)) {
    if (!text->empty()) {
      if (tokens == nullptr)
        throw std::runtime_error("the model has no tokenizer: give the prompt as --prompt-ids 1,2,3");
      out.prompt = tokens->encode(*text, true);
    }
  } else {
    out.prompt = std::get<std::vector<std::int32_t>>(what);
  }
  if (out.prompt.empty()) out.prompt = {bos_of(arch, tokens)};
  for (const auto t : out.prompt)
    if (t < 0 || t >= arch.vocab_size)
      throw std::runtime_error("token id " + std::to_string(t) + " is outside the vocabulary of " +
                               std::to_string(arch.vocab_size));
  if (!out.stop.stop.empty() && tokens == nullptr)
    throw std::runtime_error("--stop needs a tokenizer, and the model has none");
  return out;
}

}  // namespace fastserve::launch
