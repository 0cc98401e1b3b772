#include "model/sampling.hpp"

#include <cmath>
#include <sstream>

namespace fastserve::model {
namespace {

constexpr std::int32_t most_logprobs = 1000;

template <class T>
std::string refuse(const char* field, T value, const char* expected) {
  std::ostringstream out;
  out << field << " is " << value << ", expected " << expected;
  return out.str();
}

}  // namespace

std::string sampling_params::validate() const {
  // written so that NaN fails
  if (!(temperature >= 0.0F && temperature <= 1000.0F))
    return refuse("temperature", temperature, "0 (greedy) to 1000");
  if (top_k < 0) return refuse("top_k", top_k, "0 (all) or more");
  if (!(top_p > 0.0F && top_p <= 1.0F)) return refuse("top_p", top_p, "more than 0, at most 1");
  if (!(min_p >= 0.0F && min_p <= 1.0F)) return refuse("min_p", min_p, "0 to 1");
  if (!(repetition_penalty > 0.0F && repetition_penalty <= 1000.0F))
    return refuse("repetition_penalty", repetition_penalty, "more than 0, at most 1000");
  if (!(std::abs(presence_penalty) <= 1000.0F))
    return refuse("presence_penalty", presence_penalty, "-1000 to 1000");
  if (!(std::abs(frequency_penalty) <= 1000.0F))
    return refuse("frequency_penalty", frequency_penalty, "-1000 to 1000");
  if (logprobs < 0 || logprobs > most_logprobs) return refuse("logprobs", logprobs, "0 to 1000");
  return {};
}

}  // namespace fastserve::model
