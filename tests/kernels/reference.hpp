#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.hpp"

// Every op as its formula says, in plain loops and double sums. Slow, obvious, and the judge of the fast
// ones.

namespace fastserve::kernels::reference {

struct matrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values;

  matrix() = default;
  matrix(std::int64_t r, std::int64_t c) : rows{r}, cols{c}, values(static_cast<std::size_t>(r * c)) {}
  float& at(std::int64_t r, std::int64_t c) { return values[static_cast<std::size_t>(r * cols + c)]; }
  float at(std::int64_t r, std::int64_t c) const { return values[static_cast<std::size_t>(r * cols + c)]; }
};

/// in * w^T, w: [output, input].
matrix linear(const matrix& in, const matrix& w);
/// The same with the absolute values of all factors: what rounding errors are measured against.
matrix linear_magnitude(const matrix& in, const matrix& w);

matrix rms_norm(const matrix& in, const std::vector<float>& gain, float epsilon);
matrix layer_norm(const matrix& in, const std::vector<float>& gain, const std::vector<float>& bias,
                  float epsilon);
double activate(double x, activation f);

/// Each row by its largest magnitude to whole multiples of a 127th of it.
matrix rounded_to_i8(const matrix& m);

/// One head in place.
void rotate(float* head, const rope_table& rope, std::int32_t position);

/// One query head over keys and values [tokens, head_dim] of one KV head; sees what position and window
/// allow.
std::vector<float> attend(const float* query, const matrix& keys, const matrix& values, std::int32_t position,
                          std::int32_t window, float scale);

}  // namespace fastserve::kernels::reference
