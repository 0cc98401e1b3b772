#pragma once

#include <cstdint>

namespace fastserve::kernels {

/// How many parts of `size` hold `count`.
constexpr std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

}  // namespace fastserve::kernels
