#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::model {

/// A JSON object of a configuration file, read with bounds. Every getter treats null like an absent key (as
/// the reference library does) and throws std::runtime_error with one line "file: key is X, expected Y".
/// Internal to model/: the JSON library stays out of the public headers.
class json_object {
 public:
  /// Reads a file of at most `max_bytes` that holds one object nested at most 32 deep.
  static json_object open(const std::filesystem::path& file, std::size_t max_bytes = std::size_t{4} << 20);
  /// Parses text; `file` is its name in errors.
  static json_object parse(std::string_view text, std::string file);

  const std::string& file() const { return file_; }
  bool has(std::string_view key) const { return find(key) != nullptr; }

  /// Names of all keys, in their order.
  std::vector<std::string> keys() const;

  /// The key is there and says null.
  bool has_null(std::string_view key) const;

  /// What the key switches on is off: absent, null, false, an empty list or object, or the number `neutral`.
  bool off(std::string_view key, double neutral = 0) const;

  /// A whole number in [low, high]. Without a fallback the key must be there.
  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high,
                       std::optional<std::int64_t> fallback = {}) const;
  std::int32_t integer32(std::string_view key, std::int32_t low, std::int32_t high,
                         std::optional<std::int32_t> fallback = {}) const;
  /// A finite number in [low, high].
  double number(std::string_view key, double low, double high, std::optional<double> fallback = {}) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, std::optional<std::string> fallback = {}) const;
  /// A whole number or a list of them; empty when absent.
  std::vector<std::int32_t> integers(std::string_view key, std::int32_t low, std::int32_t high) const;
  /// A list of strings; empty when absent.
  std::vector<std::string> texts(std::string_view key) const;
  /// An object inside this one; nothing when absent.
  std::optional<json_object> object(std::string_view key) const;

  [[noreturn]] void fail(std::string_view key, std::string_view expected) const;

 private:
  json_object(nlohmann::json value, std::string file, std::string prefix)
      : value_(std::move(value)), file_(std::move(file)), prefix_(std::move(prefix)) {}
  const nlohmann::json* find(std::string_view key) const;

  nlohmann::json value_;
  std::string file_;
  std::string prefix_;  ///< path of this object inside the file, "rope_scaling."
};

/// The whole of a file of at most `max_bytes`. Throws std::runtime_error naming the file.
std::string read_text_file(const std::filesystem::path& file, std::size_t max_bytes);

/// The message of a JSON library error, cut to one short line.
std::string json_error_text(const std::exception& error);

}  // namespace fastserve::model
