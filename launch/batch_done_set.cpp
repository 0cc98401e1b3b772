#include "launch/batch_done_set.hpp"

#include <iterator>

namespace fastserve::launch {

bool done_set::add(std::uint64_t request, input_position end) {
  auto next = intervals_.upper_bound(request);
  auto place = intervals_.end();
  if (next != intervals_.begin()) {
    const auto before = std::prev(next);
    if (request < before->second.end) return false;
    if (request == before->second.end) {
      before->second = {request + 1, end};
      place = before;
    }
  }
  if (place == intervals_.end()) place = intervals_.emplace(request, interval{request + 1, end}).first;
  if (next != intervals_.end() && next->first == request + 1) {
    place->second = next->second;
    intervals_.erase(next);
  }
  ++count_;
  return true;
}

bool done_set::contains(std::uint64_t request) const {
  const auto next = intervals_.upper_bound(request);
  return next != intervals_.begin() && request < std::prev(next)->second.end;
}

std::uint64_t done_set::first_missing() const {
  return intervals_.empty() || intervals_.begin()->first != 0 ? 0 : intervals_.begin()->second.end;
}

input_position done_set::resume_at() const {
  return first_missing() == 0 ? input_position{} : intervals_.begin()->second.position;
}

}  // namespace fastserve::launch
