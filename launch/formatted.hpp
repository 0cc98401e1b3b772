#pragma once

#include <string>

namespace fastserve::launch {

/// What printf prints, whole, as a string.
[[gnu::format(printf, 1, 2)]] std::string formatted(const char* how, ...);

}  // namespace fastserve::launch
