// Answers that another scheduler began.

#include <stdexcept>

#include "scheduler/sequence.hpp"

namespace fastserve::scheduler {

progress scheduler::give(request_id id, std::int32_t token, time now) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) throw std::logic_error("a token for a request that is not there");
  auto& s = *it->second;
  if (s.admitted || s.first != nullptr || !s.choices.empty() || !s.blocks.empty())
    throw std::logic_error("a token from before for a request that has begun");
  leave(s);
  std::vector<progress> out;
  answer(s, token, now, out);
  return out.back();
}

}  // namespace fastserve::scheduler
