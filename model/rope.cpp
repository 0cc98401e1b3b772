#include "model/rope.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>
#include <sstream>

namespace fastserve::model {
namespace {

constexpr auto pi = std::numbers::pi;

/// Llama 3.1: wavelengths beyond the trained context are stretched by `factor`, short ones kept, a linear
/// ramp in 1 / wavelength between.
float llama3_frequency(float f, const rope_settings& s) {
  const auto original = static_cast<float>(s.original_positions);
  const auto low = static_cast<float>(s.low_freq_factor);
  const auto high = static_cast<float>(s.high_freq_factor);
  const auto factor = static_cast<float>(s.factor);
  const float wavelength = static_cast<float>(2 * pi) / f;
  if (wavelength < original / high) return f;
  if (wavelength > original / low) return f / factor;
  const float smooth = (original / wavelength - low) / (high - low);
  return (1.0F - smooth) * f / factor + smooth * f;
}

/// YaRN, section 3.2: the (fractional) dimension pair that turns `rotations` times over the trained context.
double yarn_dimension(double rotations, double dims, const rope_settings& s) {
  return dims * std::log(s.original_positions / (rotations * 2 * pi)) / (2 * std::log(s.theta));
}

double yarn_magnitude(double scale, double mscale) {
  return scale <= 1.0 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

void scale_yarn(kernels::rope_table& table, const rope_settings& s, std::int32_t dims) {
  double low = yarn_dimension(s.beta_fast, dims, s);
  double high = yarn_dimension(s.beta_slow, dims, s);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1.0);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < table.inverse_frequency.size(); ++i) {
    const float keep = table.inverse_frequency[i];
    const float stretch = keep / static_cast<float>(s.factor);
    const float ramp = std::clamp(
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0F, 1.0F);
    table.inverse_frequency[i] = stretch * ramp + keep * (1.0F - ramp);
  }
  if (s.attention_factor > 0) {
    table.magnitude = static_cast<float>(s.attention_factor);
  } else if (s.mscale > 0 && s.mscale_all_dim > 0) {
    table.magnitude =
        static_cast<float>(yarn_magnitude(s.factor, s.mscale) / yarn_magnitude(s.factor, s.mscale_all_dim));
  } else {
    table.magnitude = static_cast<float>(yarn_magnitude(s.factor, 1.0));
  }
}

}  // namespace

std::int32_t rope_settings::context(std::int32_t max_positions) const {
  double reach = max_positions;
  if (kind == scaling::linear) reach = max_positions * factor;
  if (kind == scaling::yarn) reach = std::max(reach, original_positions * factor);
  return static_cast<std::int32_t>(std::clamp(reach, 1.0, static_cast<double>(1 << 28)));
}

std::string rope_settings::text() const {
  std::ostringstream out;
  switch (kind) {
    case scaling::none:
      out << "unscaled";
      break;
    case scaling::linear:
      out << "linear";
      break;
    case scaling::dynamic:
      out << "dynamic (unscaled up to the trained length)";
      break;
    case scaling::llama3:
      out << "llama3";
      break;
    case scaling::yarn:
      out << "yarn";
      break;
  }
  out.precision(10);
  out << ", theta " << theta;
  if (kind != scaling::none) out << ", factor " << factor;
  return out.str();
}

kernels::rope_table make_rope_table(const rope_settings& s, std::int32_t head_dim) {
  assert(head_dim > 0 && head_dim % 2 == 0);
  kernels::rope_table table;
  table.kind = kernels::rope_kind::half;
  const auto base = static_cast<double>(static_cast<float>(s.theta));
  for (std::int32_t i = 0; i < head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(head_dim);
    const auto period = static_cast<float>(std::pow(base, static_cast<double>(exponent)));
    table.inverse_frequency.push_back(1.0F / period);
  }
  switch (s.kind) {
    case rope_settings::scaling::none:
    case rope_settings::scaling::dynamic:
      break;
    case rope_settings::scaling::linear:
      for (auto& f : table.inverse_frequency) f /= static_cast<float>(s.factor);
      break;
    case rope_settings::scaling::llama3:
      for (auto& f : table.inverse_frequency) f = llama3_frequency(f, s);
      break;
    case rope_settings::scaling::yarn:
      scale_yarn(table, s, head_dim);
      break;
  }
  return table;
}

}  // namespace fastserve::model
