#pragma once

#include <cstdint>

namespace fastserve::compress {

/// y += a x, of `count` numbers each.
inline void add_scaled(float* y, float a, const float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] += a * x[i];
}

}  // namespace fastserve::compress
