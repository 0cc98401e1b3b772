#include "launch/units.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

namespace fastserve::launch {

namespace {

std::string three_digits(double value) {
  std::array<char, 32> room{};
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::snprintf(room.data(), room.size(), "%.*f", decimals, value);
  return room.data();
}

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " B";
  constexpr std::array<std::string_view, 6> prefixes{"k", "M", "G", "T", "P", "E"};
  double value = static_cast<double>(bytes) / 1000.0;
  std::size_t prefix = 0;
  while (value >= 999.5 && prefix + 1 < prefixes.size()) {
    value /= 1000.0;
    ++prefix;
  }
  return three_digits(value) + ' ' + std::string{prefixes[prefix]} + 'B';
}

std::string format_count(std::int64_t count) {
  std::string text = std::to_string(count);
  const std::size_t first = count < 0 ? 1 : 0;
  for (std::size_t at = text.size(); at > first + 3; at -= 3) text.insert(at - 3, 1, ',');
  return text;
}

std::string counted(std::int64_t count, std::string_view what) {
  return format_count(count) + ' ' + std::string{what} + (count == 1 ? "" : "s");
}

std::string format_measure(double value) {
  if (!std::isfinite(value)) return "-";
  const double size = std::abs(value);
  if (size >= 1000.0 && size < 9e18) return format_count(static_cast<std::int64_t>(std::llround(value)));
  std::array<char, 32> room{};
  const int decimals = size < 0.9995 ? 3 : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  std::snprintf(room.data(), room.size(), "%.*f", decimals, value);
  return room.data();
}

}  // namespace fastserve::launch
