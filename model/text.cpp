#include "model/text.hpp"

namespace fastserve::model {

std::string in_quotes(std::string_view raw, std::size_t limit) {
  std::string out = "'";
  for (const char c : raw.substr(0, limit)) out += c >= ' ' && c <= '~' ? c : '?';
  if (raw.size() > limit) out += "...";
  return out + "'";
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

std::string joined(std::span<const std::string_view> names) {
  std::string out;
  for (const auto name : names) {
    if (!out.empty()) out += ", ";
    out += name;
  }
  return out;
}

}  // namespace fastserve::model
