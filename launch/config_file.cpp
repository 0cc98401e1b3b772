#include "launch/config_file.hpp"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <system_error>

#include "launch/option_table.hpp"
#include "launch/parse_value.hpp"
#include "launch/suggest.hpp"
#include "launch/text_file.hpp"
#include "launch/yaml_tree.hpp"

namespace fastserve::launch {

namespace {

constexpr std::size_t max_config_bytes = 1U << 20U;

using type = yaml_node::type;

class config_reader {
 public:
  config_reader(const std::string& name, options& settings) : name_{name}, settings_{settings} {}

  void read(const yaml_node& root) {
    if (root.is == type::null) return;  // only comments
    if (root.is != type::map) fail(root, "expected sections and keys, found " + kind_of(root));
    for (const auto& [key, value] : unique_entries(root, "")) {
      const option_spec* spec = find({}, key->text);
      if (spec != nullptr)
        read_option(*spec, *key, *value);
      else if (is_section(key->text))
        read_section(*key, *value);
      else
        fail(*key, "unknown key " + in_quotes(key->text) + suggestion(key->text));
    }
  }

 private:
  using entry = std::pair<const yaml_node*, const yaml_node*>;

  [[noreturn]] void fail(const yaml_node& at, const std::string& what) const {
    throw std::runtime_error{at_line(name_, at.line) + what};
  }

  static std::string kind_of(const yaml_node& node) {
    switch (node.is) {
      case type::null:
        return "nothing";
      case type::scalar:
        return (node.quoted ? "the text " : "") + in_quotes(node.text);
      case type::sequence:
        return "a list";
      case type::map:
        return "a section";
    }
    return {};
  }

  static const option_spec* find(std::string_view section, std::string_view key) {
    for (const option_spec& spec : option_table())
      if (spec.in_yaml && spec.section == section && spec.key == key) return &spec;
    return nullptr;
  }

  static bool is_section(std::string_view name) {
    const auto& table = option_table();
    return !name.empty() && std::any_of(table.begin(), table.end(),
                                        [name](const option_spec& spec) { return spec.section == name; });
  }

  /// Near names first; a key that stands in another section is the likelier slip.
  static std::string suggestion(const std::string& word, const std::string& section = {}) {
    std::vector<std::string> here;
    for (const option_spec& spec : option_table()) {
      if (!spec.in_yaml) continue;
      if (spec.section != section && spec.key == word)
        return spec.section.empty() ? " (it belongs at the top level)"
                                    : " (it belongs in '" + std::string{spec.section} + "')";
      if (spec.section == section) here.emplace_back(spec.key);
      if (section.empty() && !spec.section.empty()) here.emplace_back(spec.section);
    }
    return did_you_mean(word, here);
  }

  std::vector<entry> unique_entries(const yaml_node& map, const std::string& section) const {
    std::vector<entry> entries;
    std::set<std::string> seen;
    for (std::size_t i = 0; i < map.keys.size(); ++i) {
      const yaml_node& key = map.keys[i];
      if (key.is != type::scalar) fail(key, "expected a key, found " + kind_of(key));
      if (!seen.insert(key.text).second)
        fail(key, "key " + in_quotes(key.text) + (section.empty() ? "" : " in '" + section + "'") +
                      " is given twice");
      entries.emplace_back(&key, &map.items[i]);
    }
    return entries;
  }

  void read_section(const yaml_node& name, const yaml_node& body) {
    if (body.is == type::null) return;  // all of its lines commented out
    if (body.is != type::map) fail(body, "expected keys under '" + name.text + "', found " + kind_of(body));
    for (const auto& [key, value] : unique_entries(body, name.text)) {
      const option_spec* spec = find(name.text, key->text);
      if (spec == nullptr)
        fail(*key, "unknown key " + in_quotes(key->text) + " in '" + name.text + "'" +
                       suggestion(key->text, name.text));
      read_option(*spec, *key, *value);
    }
  }

  void read_option(const option_spec& spec, const yaml_node& key, const yaml_node& value) {
    if (spec.form != option_spec::shape::list || value.is != type::sequence) {
      store(spec, key, value);
      return;
    }
    // [1, 2, 3] is one list of ids; ["1,2", [3, 4]] is a list of such lists.
    if (spec.id_list && is_flat(value)) {
      store(spec, key, value);
      return;
    }
    for (const yaml_node& item : value.items) store(spec, key, item);
  }

  static bool is_flat(const yaml_node& list) {
    return !list.items.empty() &&
           std::all_of(list.items.begin(), list.items.end(), [](const yaml_node& item) {
             return item.is == type::scalar && !item.quoted && item.text.find(',') == std::string::npos;
           });
  }

  void store(const option_spec& spec, const yaml_node& key, const yaml_node& value) {
    const std::string of = std::string{spec.key} + ": ";
    std::string text = value.text;
    if (spec.id_list && value.is == type::sequence) {
      if (!is_flat(value)) fail(value, of + "expected a list such as [1, 2, 3]");
      text.clear();
      for (const yaml_node& item : value.items) text += (text.empty() ? "" : ",") + item.text;
    } else if (value.is != type::scalar) {
      fail(value.is == type::null ? key : value, of + "expected a value, found " + kind_of(value));
    } else if (value.quoted && (spec.numeric || spec.form == option_spec::shape::flag)) {
      fail(value,
           of + "expected " + (spec.numeric ? "a number" : "true or false") + ", found " + kind_of(value));
    }
    try {
      spec.set(settings_, text);
    } catch (const std::invalid_argument& complaint) {
      fail(value, of + complaint.what());
    }
  }

  const std::string& name_;
  options& settings_;
};

/// A scalar that reads back as the same text whatever is in it.
std::string yaml_scalar(const option_spec& spec, const std::string& value) {
  if (spec.numeric || spec.id_list || spec.form == option_spec::shape::flag) return value;
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\x";
      out += digits[byte >> 4U];
      out += digits[byte & 15U];
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string format_option(const option_spec& spec, const options& settings) {
  const std::vector<std::string> values = spec.get(settings);
  const std::string indent = spec.section.empty() ? "" : "  ";
  std::string line = indent + std::string{spec.key} + ":";
  if (spec.form != option_spec::shape::list) {
    if (spec.empty_is_unset && values.front().empty()) return {};
    return line + ' ' + yaml_scalar(spec, values.front()) + '\n';
  }
  line += " [";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) line += ", ";
    line += spec.id_list ? "[" + values[i] + "]" : yaml_scalar(spec, values[i]);
  }
  return line + "]\n";
}

}  // namespace

void read_config_text(std::string_view text, const std::string& name, options& settings) {
  config_reader{name, settings}.read(parse_yaml(text, name));
}

void read_config_file(const std::string& path, options& settings) {
  read_config_text(read_text_file(path, "configuration file", max_config_bytes), path, settings);
  settings.config = path;
}

std::string format_config(const options& settings) {
  std::string out;
  std::string_view section;
  for (const option_spec& spec : option_table()) {
    if (!spec.in_yaml) continue;
    const std::string line = format_option(spec, settings);
    if (line.empty()) continue;
    if (spec.section != section) {
      section = spec.section;
      out += std::string{section} + ":\n";
    }
    out += line;
  }
  return out;
}

}  // namespace fastserve::launch
