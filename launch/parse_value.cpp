#include "launch/parse_value.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <system_error>

#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

constexpr std::size_t max_ids = 1U << 20U;

struct byte_unit {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr byte_unit byte_units[] = {{"kB", 1'000},
                                    {"MB", 1'000'000},
                                    {"GB", 1'000'000'000},
                                    {"TB", 1'000'000'000'000},
                                    {"KiB", std::uint64_t{1} << 10},
                                    {"MiB", std::uint64_t{1} << 20},
                                    {"GiB", std::uint64_t{1} << 30},
                                    {"TiB", std::uint64_t{1} << 40}};
constexpr std::uint64_t most_bytes = std::uint64_t{1} << 60;

[[noreturn]] void complain(const std::string& expected, std::string_view found) {
  throw std::invalid_argument{"expected " + expected + ", found " +
                              (found.empty() ? std::string{"nothing"} : in_quotes(found))};
}

template <typename T>
bool read_whole(std::string_view text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc{} && stop == end;
}

std::string range_text(const std::string& low, const std::string& high, bool above_low) {
  return above_low ? "above " + low + ", up to " + high : "from " + low + " to " + high;
}

}  // namespace

std::int64_t parse_integer(std::string_view text, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  if (!read_whole(text, value) || value < low || value > high)
    complain("an integer " + range_text(std::to_string(low), std::to_string(high), false), text);
  return value;
}

std::uint64_t parse_unsigned(std::string_view text) {
  std::uint64_t value = 0;
  if (!read_whole(text, value))
    complain(
        "an integer " + range_text("0", std::to_string(std::numeric_limits<std::uint64_t>::max()), false),
        text);
  return value;
}

float parse_real(std::string_view text, float low, float high, bool above_low) {
  float value = 0.0F;
  // from_chars also reads "inf" and "nan"; neither is in any range.
  const bool fits = read_whole(text, value) && std::isfinite(value) && value >= low && value <= high &&
                    !(above_low && value == low);
  if (!fits) complain("a number " + range_text(format_real(low), format_real(high), above_low), text);
  return value;
}

bool parse_bool(std::string_view text) {
  if (text == "true" || text == "yes" || text == "on") return true;
  if (text == "false" || text == "no" || text == "off") return false;
  complain("true or false", text);
}

std::uint64_t parse_bytes(std::string_view text) {
  const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  std::uint64_t value = 0;
  std::uint64_t unit = text.substr(digits).empty() ? 1 : 0;
  for (const auto& u : byte_units)
    if (text.substr(digits) == u.name) unit = u.bytes;
  if (unit == 0 || !read_whole(text.substr(0, digits), value) ||
      __builtin_mul_overflow(value, unit, &value) || value > most_bytes)
    complain("an amount of memory such as 512MB or 8GiB", text);
  return value;
}

std::string format_exact_bytes(std::uint64_t bytes) {
  const byte_unit* best = nullptr;
  for (const auto& u : byte_units)
    if (bytes > 0 && bytes % u.bytes == 0 && (best == nullptr || u.bytes > best->bytes)) best = &u;
  if (best == nullptr) return std::to_string(bytes);
  return std::to_string(bytes / best->bytes) + std::string{best->name};
}

std::string parse_choice(std::string_view text, const std::vector<std::string_view>& choices) {
  std::string expected;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (choices[i] == text) return std::string{text};
    if (i > 0) expected += i + 1 == choices.size() ? " or " : ", ";
    expected += choices[i];
  }
  complain(expected, text);
}

std::vector<std::int32_t> parse_ids(std::string_view text) {
  std::vector<std::int32_t> ids;
  if (text.empty()) return ids;
  for (std::string_view rest = text;;) {
    const std::size_t comma = rest.find(',');
    std::string_view item = rest.substr(0, comma);
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    std::int32_t id = 0;
    if (!read_whole(item, id) || id < 0) complain("token ids such as 1,2,3", text);
    if (ids.size() == max_ids)
      throw std::invalid_argument{"more than " + std::to_string(max_ids) + " token ids"};
    ids.push_back(id);
    if (comma == std::string_view::npos) return ids;
    rest.remove_prefix(comma + 1);
  }
}

std::string format_ids(const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const std::int32_t id : ids) {
    if (!text.empty()) text += ',';
    text += std::to_string(id);
  }
  return text;
}

std::string format_real(float value) {
  std::array<char, 64> room{};
  const auto [end, error] = std::to_chars(room.data(), room.data() + room.size(), value);
  return error == std::errc{} ? std::string{room.data(), end} : std::string{"?"};
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t max_shown = 60;
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "'";
  for (std::size_t at = 0; at < text.size();) {
    if (out.size() > max_shown) {
      out += "...";
      break;
    }
    const decoded_char c = decode_char(text, at);
    if (c.valid && c.code >= 0x20 && c.code != 0x7F && !(c.code >= 0x80 && c.code < 0xA0)) {
      out += text.substr(at, c.bytes);
    } else if (c.valid && c.code == '\n') {
      out += "\\n";
    } else {
      for (std::size_t i = 0; i < c.bytes; ++i) {
        const auto byte = static_cast<unsigned char>(text[at + i]);
        out += "\\x";
        out += digits[byte >> 4U];
        out += digits[byte & 15U];
      }
    }
    at += c.bytes;
  }
  return out + "'";
}

}  // namespace fastserve::launch
