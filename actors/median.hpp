#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace fastserve::actors {

/// The middle one of the values, of an even number the upper of the two; T{} of none.
template <class T>
T median(std::vector<T> values) {
  if (values.empty()) return {};
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace fastserve::actors
