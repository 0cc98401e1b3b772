#include "model/gguf_metadata.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "model/text.hpp"

namespace fastserve::model {
namespace {

template <class T>
T read(const std::byte* from) {
  T out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

/// A scalar that is a whole number. What does not fit 64 signed bits becomes their largest.
std::optional<std::int64_t> whole(gguf_type type, const std::byte* at) {
  switch (type) {
    case gguf_type::u8:
      return read<std::uint8_t>(at);
    case gguf_type::i8:
      return read<std::int8_t>(at);
    case gguf_type::u16:
      return read<std::uint16_t>(at);
    case gguf_type::i16:
      return read<std::int16_t>(at);
    case gguf_type::u32:
      return read<std::uint32_t>(at);
    case gguf_type::i32:
      return read<std::int32_t>(at);
    case gguf_type::i64:
      return read<std::int64_t>(at);
    case gguf_type::u64:
      return static_cast<std::int64_t>(std::min<std::uint64_t>(
          read<std::uint64_t>(at), static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())));
    default:
      return {};
  }
}

std::optional<double> numeric(gguf_type type, const std::byte* at) {
  if (type == gguf_type::f32) return read<float>(at);
  if (type == gguf_type::f64) return read<double>(at);
  if (const auto integer = whole(type, at)) return static_cast<double>(*integer);
  return {};
}

std::string_view name_of(gguf_type type) {
  static constexpr std::string_view names[] = {"UINT8",  "INT8",    "UINT16", "INT16",  "UINT32",
                                               "INT32",  "FLOAT32", "BOOL",   "STRING", "ARRAY",
                                               "UINT64", "INT64",   "FLOAT64"};
  return names[static_cast<std::size_t>(type)];
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string shown(double value) {
  char out[32];
  std::snprintf(out, sizeof out, "%.9g", value);
  return out;
}

/// What a value is, for errors.
std::string shown(const gguf_value& value) {
  if (value.type == gguf_type::string) return in_quotes(text_of(value.bytes), 60);
  if (value.type == gguf_type::array)
    return "an array of " + std::to_string(value.count) + " " + std::string(name_of(value.element));
  if (value.type == gguf_type::boolean) return value.bytes[0] == std::byte{0} ? "false" : "true";
  if (const auto integer = whole(value.type, value.bytes.data())) return std::to_string(*integer);
  return shown(*numeric(value.type, value.bytes.data()));
}

std::string between(const std::string& low, const std::string& high) {
  return " in [" + low + ", " + high + "]";
}

}  // namespace

gguf_metadata::gguf_metadata(std::vector<gguf_value> values, std::string file)
    : file_{std::move(file)}, values_{std::move(values)} {
  std::sort(values_.begin(), values_.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  for (std::size_t i = 1; i < values_.size(); ++i)
    if (values_[i].key == values_[i - 1].key)
      throw std::runtime_error(file_ + ": key " + in_quotes(values_[i].key) + " appears twice");
}

const gguf_value* gguf_metadata::find(std::string_view key) const {
  const auto it = std::lower_bound(values_.begin(), values_.end(), key,
                                   [](const gguf_value& v, std::string_view k) { return v.key < k; });
  return it == values_.end() || it->key != key ? nullptr : &*it;
}

void gguf_metadata::fail(std::string_view key, std::string_view expected) const {
  const auto* value = find(key);
  throw std::runtime_error(file_ + ": key " + in_quotes(key) + " is " +
                           (value == nullptr ? "missing" : shown(*value)) + ", expected " +
                           std::string(expected));
}

const gguf_value& gguf_metadata::need(std::string_view key, std::string_view expected) const {
  const auto* value = find(key);
  if (value == nullptr) fail(key, expected);
  return *value;
}

std::int64_t gguf_metadata::integer(std::string_view key, std::int64_t low, std::int64_t high,
                                    std::optional<std::int64_t> fallback) const {
  if (fallback && !has(key)) return *fallback;
  const auto expected = "a whole number" + between(std::to_string(low), std::to_string(high));
  const auto& value = need(key, expected);
  const auto out = whole(value.type, value.bytes.data());
  if (!out || *out < low || *out > high) fail(key, expected);
  return *out;
}

std::int32_t gguf_metadata::integer32(std::string_view key, std::int32_t low, std::int32_t high,
                                      std::optional<std::int32_t> fallback) const {
  return static_cast<std::int32_t>(integer(key, low, high, fallback));
}

double gguf_metadata::number(std::string_view key, double low, double high,
                             std::optional<double> fallback) const {
  if (fallback && !has(key)) return *fallback;
  const auto expected = "a number" + between(shown(low), shown(high));
  const auto& value = need(key, expected);
  const auto out = numeric(value.type, value.bytes.data());
  if (!out || !(*out >= low && *out <= high)) fail(key, expected);
  return *out;
}

bool gguf_metadata::flag(std::string_view key, bool fallback) const {
  const auto* value = find(key);
  if (value == nullptr) return fallback;
  if (value->type != gguf_type::boolean) fail(key, "true or false");
  return value->bytes[0] != std::byte{0};
}

std::string gguf_metadata::text(std::string_view key, std::optional<std::string> fallback) const {
  if (fallback && !has(key)) return *fallback;
  const auto& value = need(key, "a string");
  if (value.type != gguf_type::string) fail(key, "a string");
  return std::string(text_of(value.bytes));
}

std::vector<std::string_view> gguf_metadata::texts(std::string_view key) const {
  std::vector<std::string_view> out;
  const auto* value = find(key);
  if (value == nullptr) return out;
  if (value->type != gguf_type::array || value->element != gguf_type::string) fail(key, "an array of STRING");
  out.reserve(value->count);
  auto rest = value->bytes;
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto length = read<std::uint64_t>(rest.data());
    out.push_back(text_of(rest.subspan(8, length)));
    rest = rest.subspan(8 + length);
  }
  return out;
}

std::vector<float> gguf_metadata::floats(std::string_view key) const {
  std::vector<float> out;
  const auto* value = find(key);
  if (value == nullptr) return out;
  if (value->type != gguf_type::array || value->element != gguf_type::f32) fail(key, "an array of FLOAT32");
  out.resize(value->count);
  if (!out.empty()) std::memcpy(out.data(), value->bytes.data(), out.size() * sizeof(float));
  return out;
}

std::vector<std::int32_t> gguf_metadata::integers(std::string_view key) const {
  std::vector<std::int32_t> out;
  const auto* value = find(key);
  if (value == nullptr) return out;
  if (value->type != gguf_type::array ||
      (value->element != gguf_type::i32 && value->element != gguf_type::u32))
    fail(key, "an array of INT32");
  out.resize(value->count);
  if (!out.empty()) std::memcpy(out.data(), value->bytes.data(), out.size() * sizeof(std::int32_t));
  return out;
}

}  // namespace fastserve::model
