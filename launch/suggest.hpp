#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fastserve::launch {

/// The candidate that `word` is most likely a misspelling of, or empty when none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// " (did you mean 'max_batch'?)", or empty when nothing is near.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace fastserve::launch
