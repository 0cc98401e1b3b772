#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::launch {

inline constexpr std::int64_t max_int32 = std::numeric_limits<std::int32_t>::max();

// Strict readers of one value. The whole text must be the value: no blanks around it, no unit behind it.
// Each throws std::invalid_argument with "expected ..., found '...'".

std::int64_t parse_integer(std::string_view text, std::int64_t low, std::int64_t high);
std::uint64_t parse_unsigned(std::string_view text);

/// A finite number in [low, high], or in (low, high] with `above_low`.
float parse_real(std::string_view text, float low, float high, bool above_low = false);

/// true, yes, on or false, no, off.
bool parse_bool(std::string_view text);

/// A number of bytes: "0", "1500", "512MB" (10^6), "8GiB" (2^30).
std::uint64_t parse_bytes(std::string_view text);
/// The same number with the largest unit that divides it.
std::string format_exact_bytes(std::uint64_t bytes);

/// One of `choices`.
std::string parse_choice(std::string_view text, const std::vector<std::string_view>& choices);

/// Token ids: "1,2,3". Blanks after commas are allowed; an empty text is an empty list.
std::vector<std::int32_t> parse_ids(std::string_view text);

/// "1,2,3"
std::string format_ids(const std::vector<std::int32_t>& ids);

/// The shortest text that reads back as the same number.
std::string format_real(float value);

/// `text` in single quotes for a message: control characters and broken UTF-8 as \xHH, cut when long.
std::string in_quotes(std::string_view text);

}  // namespace fastserve::launch
