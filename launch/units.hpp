#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fastserve::launch {

// Numbers for people.

/// "0 B", "12.3 kB", "4.56 GB": three digits, decimal prefixes.
std::string format_bytes(std::uint64_t bytes);

/// "1,234,567"
std::string format_count(std::int64_t count);

/// "1 rank", "2 ranks", "1,024 ranks".
std::string counted(std::int64_t count, std::string_view what);

/// A value with three digits that count: "0.123", "12.3", "1,234".
std::string format_measure(double value);

}  // namespace fastserve::launch
