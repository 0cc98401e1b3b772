#include "model/tokenizer/json_reader.hpp"

#include <fstream>
#include <stdexcept>
#include <system_error>

#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

std::string read_file(const std::filesystem::path& file) {
  constexpr std::uintmax_t largest_bytes = std::uintmax_t{128} << 20;
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(file, error);
  if (error) throw std::runtime_error(file.string() + ": cannot be read: " + error.message());
  if (size > largest_bytes) {
    throw std::runtime_error(file.string() + ": has " + std::to_string(size) + " bytes, expected at most " +
                             std::to_string(largest_bytes));
  }
  std::ifstream in(file, std::ios::binary);
  std::string text(static_cast<std::size_t>(size), '\0');
  if (!in || !in.read(text.data(), static_cast<std::streamsize>(size))) {
    throw std::runtime_error(file.string() + ": cannot be read");
  }
  return text;
}

nlohmann::json read_json(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  try {
    nlohmann::json value = nlohmann::json::parse(text);
    if (!value.is_object()) throw std::runtime_error(file.string() + ": expected a JSON object");
    return value;
  } catch (const nlohmann::json::parse_error& error) {
    throw std::runtime_error(file.string() + ": is no valid JSON at byte " + std::to_string(error.byte));
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error(file.string() + ": is no valid JSON: " + in_quotes(error.what()));
  }
}

bool json_reader::has(const char* key) const {
  const auto at = object().find(key);
  return at != value_->end() && !at->is_null();
}

json_reader json_reader::at(const char* key) const {
  if (!has(key)) fail(std::string("has no '") + key + "'");
  return {*value_->find(key), where_ + (where_.empty() ? "" : ".") + key};
}

std::vector<json_reader> json_reader::items(const char* key) const {
  const json_reader list = at(key);
  std::vector<json_reader> out;
  for (const nlohmann::json& item : list.array()) {
    out.emplace_back(item, list.where_ + "[" + std::to_string(out.size()) + "]");
  }
  return out;
}

std::string json_reader::string() const {
  if (!value_->is_string()) expected("a string");
  return value_->get<std::string>();
}

std::string json_reader::string_or(const char* key, std::string fallback) const {
  return has(key) ? at(key).string() : std::move(fallback);
}

bool json_reader::boolean_or(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  const json_reader found = at(key);
  if (!found.value_->is_boolean()) found.expected("true or false");
  return found.value_->get<bool>();
}

std::int64_t json_reader::integer() const {
  if (!value_->is_number_integer()) expected("an integer");
  if (value_->is_number_unsigned() && value_->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) {
    expected("an integer below 2^63");
  }
  return value_->get<std::int64_t>();
}

std::int64_t json_reader::integer_or(const char* key, std::int64_t fallback) const {
  return has(key) ? at(key).integer() : fallback;
}

const nlohmann::json& json_reader::object() const {
  if (!value_->is_object()) expected("an object");
  return *value_;
}

const nlohmann::json& json_reader::array() const {
  if (!value_->is_array()) expected("an array");
  return *value_;
}

void json_reader::expected(const std::string& what) const {
  fail("expected " + what + ", found " + value_->type_name());
}

void json_reader::fail(const std::string& what) const {
  throw std::runtime_error((where_.empty() ? "" : "at " + where_ + ": ") + what);
}

}  // namespace fastserve::model
