#include "launch/fitted_lengths.hpp"

#include <algorithm>
#include <stdexcept>

#include "launch/units.hpp"

namespace fastserve::launch {

std::string fit_lengths(measured_lengths& lengths, std::int32_t context) {
  const auto longest = *std::max_element(lengths.prompts.begin(), lengths.prompts.end());
  if (std::int64_t{longest} + lengths.answer <= context) return {};
  const auto refuse = [&] {
    throw std::runtime_error("--prompt-tokens " + std::to_string(longest) + " and --decode-tokens " +
                             std::to_string(lengths.answer) + " together exceed the context of " +
                             counted(context, "token"));
  };
  if (lengths.prompts_given && lengths.answer_given) refuse();
  const auto before = lengths;
  // What is left open: an answer may have a quarter of the context, or what a given prompt leaves.
  if (!lengths.answer_given)
    lengths.answer = std::min(lengths.answer, lengths.prompts_given ? context - longest : context / 4);
  if (!lengths.answer_given && !lengths.prompts_given) lengths.answer = std::max(lengths.answer, 1);
  if (!lengths.prompts_given)
    for (auto& p : lengths.prompts) p = std::min(p, context - lengths.answer);
  if (lengths.answer < 1 || *std::min_element(lengths.prompts.begin(), lengths.prompts.end()) < 1) {
    lengths = before;
    refuse();
  }
  const auto shown = [](const measured_lengths& of) {
    return std::to_string(of.prompts.front()) + " prompt and " + counted(of.answer, "answer token");
  };
  if (!lengths.prompts_given)
    return shown(lengths) + " instead of " + shown(before) + ", to fit the context of " +
           counted(context, "token");
  return counted(lengths.answer, "answer token") + " instead of " + std::to_string(before.answer) +
         ", to fit the context of " + counted(context, "token") + " beside the longest prompt";
}

}  // namespace fastserve::launch
