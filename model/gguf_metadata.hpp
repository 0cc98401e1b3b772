#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::model {

/// Types of metadata values, by the format's numbers.
enum class gguf_type : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64
};

/// A metadata value as it lies in the file, its extent checked.
struct gguf_value {
  std::string_view key;
  gguf_type type = gguf_type::u8;
  gguf_type element = gguf_type::u8;  ///< of an array
  std::uint64_t count = 1;            ///< elements of an array
  std::span<const std::byte> bytes;   ///< a string without its length; an array without its type and count
};

/// The key-value pairs of a GGUF header. Getters throw std::runtime_error with one line: file, key, found,
/// expected. Values are views of the file: it must stay mapped.
class gguf_metadata {
 public:
  gguf_metadata() = default;
  /// Throws for a key that appears twice.
  gguf_metadata(std::vector<gguf_value> values, std::string file);

  const std::string& file() const { return file_; }
  const std::vector<gguf_value>& values() const { return values_; }
  bool has(std::string_view key) const { return find(key) != nullptr; }

  /// A whole number of any integer type in [low, high]. Without a fallback the key must be there.
  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high,
                       std::optional<std::int64_t> fallback = {}) const;
  std::int32_t integer32(std::string_view key, std::int32_t low, std::int32_t high,
                         std::optional<std::int32_t> fallback = {}) const;
  /// A finite number of any numeric type in [low, high].
  double number(std::string_view key, double low, double high, std::optional<double> fallback = {}) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, std::optional<std::string> fallback = {}) const;

  /// Arrays; empty when the key is absent.
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<float> floats(std::string_view key) const;
  std::vector<std::int32_t> integers(std::string_view key) const;

  [[noreturn]] void fail(std::string_view key, std::string_view expected) const;

 private:
  const gguf_value* find(std::string_view key) const;
  const gguf_value& need(std::string_view key, std::string_view expected) const;

  std::string file_;
  std::vector<gguf_value> values_;  ///< in order of their keys
};

}  // namespace fastserve::model
