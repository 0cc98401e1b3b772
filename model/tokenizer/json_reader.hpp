#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace fastserve::model {

/// Reads a file of at most 128 MiB. Throws std::runtime_error naming it.
std::string read_file(const std::filesystem::path& file);

/// Parses a JSON file whose top is an object. Throws std::runtime_error, one line that names the file.
nlohmann::json read_json(const std::filesystem::path& file);

/// A JSON value that knows where it is. Every getter throws std::runtime_error "at model.vocab: expected ...,
/// found
/// ..." when the value is not what the caller needs; a key that is absent or null counts as absent.
class json_reader {
 public:
  json_reader(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  bool has(const char* key) const;
  json_reader at(const char* key) const;
  std::vector<json_reader> items(const char* key) const;

  std::string string() const;
  std::string string(const char* key) const { return at(key).string(); }
  std::string string_or(const char* key, std::string fallback) const;
  bool boolean_or(const char* key, bool fallback) const;
  std::int64_t integer() const;
  std::int64_t integer_or(const char* key, std::int64_t fallback) const;

  const nlohmann::json& object() const;
  const nlohmann::json& array() const;
  const nlohmann::json& raw() const { return *value_; }

  [[noreturn]] void expected(const std::string& what) const;
  [[noreturn]] void fail(const std::string& what) const;

 private:
  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace fastserve::model
