#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::launch {

/// A YAML document as it was written: order, repeated keys and lines kept, nothing resolved.
struct yaml_node {
  enum class type : std::uint8_t { null, scalar, sequence, map };
  type is = type::null;
  int line = 1;
  std::string text;              ///< of a scalar
  bool quoted = false;           ///< the scalar was written as a string
  std::vector<yaml_node> items;  ///< of a sequence; of a map its values
  std::vector<yaml_node> keys;   ///< of a map, as many as items
};

/// Parses one document. Throws std::runtime_error "NAME:LINE: ..." for bad syntax, for more than 4 levels or
/// 100,000 nodes, and for anchors, aliases, tags and a second document.
yaml_node parse_yaml(std::string_view text, const std::string& name);

/// "NAME:LINE: " for messages.
std::string at_line(const std::string& name, int line);

}  // namespace fastserve::launch
