#include "model/json_object.hpp"

#include <cmath>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "model/text.hpp"

namespace fastserve::model {
namespace {

using nlohmann::json;

constexpr int max_depth = 32;

/// What stands there, for "found" in an error; never long.
std::string shown(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list of " + std::to_string(value.size());
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>(), 60);
  return value.dump();
}

std::string range_text(std::string_view what, double low, double high) {
  std::ostringstream out;
  out.precision(10);
  out << what << " from " << low << " to " << high;
  return out.str();
}

std::optional<std::int64_t> as_integer(const json& value) {
  if (value.is_number_unsigned()) {
    const auto n = value.get<std::uint64_t>();
    if (n > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return {};
    return static_cast<std::int64_t>(n);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  // 32768.0, as some exporters write it
  if (value.is_number_float()) {
    const auto x = value.get<double>();
    if (std::abs(x) < 9e15 && x == std::floor(x)) return static_cast<std::int64_t>(x);
  }
  return {};
}

}  // namespace

std::string json_error_text(const std::exception& error) {
  std::string text = error.what();
  if (const auto end = text.find("] "); end != std::string::npos) text.erase(0, end + 2);
  const auto q = in_quotes(text, 160);
  return q.substr(1, q.size() - 2);
}

std::string read_text_file(const std::filesystem::path& file, std::size_t max_bytes) {
  std::error_code ec;
  if (!std::filesystem::is_regular_file(file, ec)) throw std::runtime_error(file.string() + ": no such file");
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error(file.string() + ": cannot be opened for reading");
  std::string text;
  std::vector<char> chunk(std::size_t{1} << 16);
  while (in.read(chunk.data(), static_cast<std::streamsize>(chunk.size())), in.gcount() > 0) {
    text.append(chunk.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > max_bytes)
      throw std::runtime_error(file.string() + ": larger than " + std::to_string(max_bytes) +
                               " bytes, which such a file never is");
  }
  if (in.bad()) throw std::runtime_error(file.string() + ": read error");
  return text;
}

json_object json_object::open(const std::filesystem::path& file, std::size_t max_bytes) {
  return parse(read_text_file(file, max_bytes), file.string());
}

json_object json_object::parse(std::string_view text, std::string file) {
  json value;
  try {
    value = json::parse(text.begin(), text.end(), [&](int depth, json::parse_event_t, const json&) {
      if (depth > max_depth)
        throw std::runtime_error("nested more than " + std::to_string(max_depth) + " levels deep");
      return true;
    });
  } catch (const json::exception& e) {
    throw std::runtime_error(file + ": not valid JSON: " + json_error_text(e));
  } catch (const std::runtime_error& e) {
    throw std::runtime_error(file + ": " + e.what());
  }
  if (!value.is_object()) throw std::runtime_error(file + ": holds " + shown(value) + ", expected an object");
  return {std::move(value), std::move(file), ""};
}

const json* json_object::find(std::string_view key) const {
  const auto it = value_.find(std::string(key));
  return it == value_.end() || it->is_null() ? nullptr : &*it;
}

std::vector<std::string> json_object::keys() const {
  std::vector<std::string> out;
  for (const auto& [key, value] : value_.items()) out.push_back(key);
  return out;
}

bool json_object::has_null(std::string_view key) const {
  const auto it = value_.find(std::string(key));
  return it != value_.end() && it->is_null();
}

bool json_object::off(std::string_view key, double neutral) const {
  const auto* value = find(key);
  if (value == nullptr || value->empty()) return true;
  if (value->is_boolean()) return !value->get<bool>();
  return value->is_number() && value->get<double>() == neutral;
}

void json_object::fail(std::string_view key, std::string_view expected) const {
  const auto* value = find(key);
  throw std::runtime_error(file_ + ": " + prefix_ + std::string(key) + " is " +
                           (value == nullptr ? "missing" : shown(*value)) + ", expected " +
                           std::string(expected));
}

std::int64_t json_object::integer(std::string_view key, std::int64_t low, std::int64_t high,
                                  std::optional<std::int64_t> fallback) const {
  const auto* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  const auto n = value == nullptr ? std::nullopt : as_integer(*value);
  if (!n || *n < low || *n > high)
    fail(key, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  return *n;
}

std::int32_t json_object::integer32(std::string_view key, std::int32_t low, std::int32_t high,
                                    std::optional<std::int32_t> fallback) const {
  return static_cast<std::int32_t>(integer(key, low, high, fallback));
}

double json_object::number(std::string_view key, double low, double high,
                           std::optional<double> fallback) const {
  const auto* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  const double x = value != nullptr && value->is_number() ? value->get<double>() : NAN;
  if (!(x >= low && x <= high)) fail(key, range_text("a number", low, high));
  return x;
}

bool json_object::flag(std::string_view key, bool fallback) const {
  const auto* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) fail(key, "true or false");
  return value->get<bool>();
}

std::string json_object::text(std::string_view key, std::optional<std::string> fallback) const {
  const auto* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_string()) fail(key, "a string");
  return value->get<std::string>();
}

std::vector<std::int32_t> json_object::integers(std::string_view key, std::int32_t low,
                                                std::int32_t high) const {
  std::vector<std::int32_t> out;
  const auto* value = find(key);
  if (value == nullptr) return out;
  const auto add = [&](const json& item) {
    const auto n = as_integer(item);
    if (!n || *n < low || *n > high)
      fail(key, "whole numbers from " + std::to_string(low) + " to " + std::to_string(high));
    out.push_back(static_cast<std::int32_t>(*n));
  };
  if (value->is_array()) {
    for (const auto& item : *value) add(item);
  } else {
    add(*value);
  }
  return out;
}

std::vector<std::string> json_object::texts(std::string_view key) const {
  std::vector<std::string> out;
  const auto* value = find(key);
  if (value == nullptr) return out;
  if (!value->is_array()) fail(key, "a list of strings");
  for (const auto& item : *value) {
    if (!item.is_string()) fail(key, "a list of strings");
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::optional<json_object> json_object::object(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_object()) fail(key, "an object");
  return json_object{*value, file_, prefix_ + std::string(key) + "."};
}

}  // namespace fastserve::model
