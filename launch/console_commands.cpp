#include "launch/console_commands.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "launch/option_table.hpp"
#include "launch/parse_value.hpp"
#include "launch/suggest.hpp"

namespace fastserve::launch {

namespace {

using kind = console_input::kind;

struct named_command {
  std::string_view name;
  kind what;
  std::string_view usage;
  std::string_view doc;
};

constexpr std::array<named_command, 6> commands{
    {{"/help", kind::help, "/help", "this text"},
     {"/stats", kind::stats, "/stats", "speed of the last answer, load of the ranks"},
     {"/set", kind::set, "/set [KEY [VALUE]]",
      "show or change how answers are drawn, such as /set temperature 0"},
     {"/drain", kind::drain, "/drain RANK", "give a rank's layers to others, so that it may be ended"},
     {"/quit", kind::quit, "/quit", "end; so does Ctrl-D on an empty line"},
     {"/exit", kind::quit, "", ""}}};

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

/// The first word; `rest` keeps what follows it.
std::string_view take_word(std::string_view& rest) {
  const auto end = std::find_if(rest.begin(), rest.end(), is_blank);
  const std::string_view word = rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
  rest = trimmed(rest.substr(word.size()));
  return word;
}

/// Without its quotes; in them, and everywhere where `escapes`, \n, \t and \\ stand for a character.
std::string unquoted(std::string_view value, bool escapes) {
  const bool in_quotes =
      value.size() >= 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front();
  if (!in_quotes && !escapes) return std::string{value};
  std::string out;
  if (in_quotes) value = value.substr(1, value.size() - 2);
  for (std::size_t i = 0; i < value.size(); ++i) {
    const char next = value[i] == '\\' && i + 1 < value.size() ? value[i + 1] : '\0';
    switch (next) {
      case 'n':
        out += '\n';
        break;
      case 't':
        out += '\t';
        break;
      case '\\':
      case '"':
      case '\'':
        out += next;
        break;
      default:
        out += value[i];
        continue;
    }
    ++i;
  }
  return out;
}

/// As it may be typed.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' || c == '\t' || c == '\\') out += '\\';
    out += c == '\n' ? 'n' : c == '\t' ? 't' : c;
  }
  return out;
}

bool holds_texts(const option_spec& spec) { return spec.form == option_spec::shape::list && !spec.id_list; }

std::string shown_values(const option_spec& spec, const options& settings) {
  const std::vector<std::string> values = spec.get(settings);
  if (values.empty()) return "none";
  std::string out;
  for (const std::string& value : values) {
    if (!out.empty()) out += ", ";
    out += holds_texts(spec) ? in_quotes(escaped(value)) : value;
  }
  return out;
}

std::string value_line(const option_spec& spec, const options& settings, std::size_t width) {
  std::string name{spec.key};
  name.append(width > name.size() ? width - name.size() : 0, ' ');
  return name + "  " + shown_values(spec, settings) + '\n';
}

/// "top-p" and "--top-p" are understood too.
std::string plain_key(std::string_view key) {
  while (key.starts_with('-')) key.remove_prefix(1);
  std::string out{key};
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

void change(const option_spec& spec, const std::string& value, options& settings) {
  options changed = settings;
  if (spec.clear) spec.clear(changed);
  if (!(spec.clear && value == "none")) spec.set(changed, unquoted(value, holds_texts(spec)));
  settings = changed;
}

}  // namespace

console_input parse_console_line(std::string_view line) {
  const std::string_view text = trimmed(line);
  console_input out;
  if (text.empty()) return out;
  if (text.starts_with("//")) return {kind::prompt, std::string{text.substr(1)}, {}, {}, false};
  // What was typed reaches the model as it is, leading blanks and all.
  if (text.front() != '/') return {kind::prompt, std::string{line}, {}, {}, false};

  std::string_view rest = text;
  const std::string_view word = take_word(rest);
  std::vector<std::string> names;
  for (const named_command& c : commands) {
    names.emplace_back(c.name);
    if (c.name != word) continue;
    out.what = c.what;
    if (c.what == kind::drain) out.key = std::string{rest};
    if (c.what == kind::set) {
      out.key = std::string{take_word(rest)};
      out.value = std::string{rest};
      out.value_given = !rest.empty();
    }
    return out;
  }
  out.what = kind::unknown;
  out.text = "unknown command " + in_quotes(word) + did_you_mean(word, names) +
             "; /help lists them, // begins a prompt with a slash";
  return out;
}

std::string console_help() {
  constexpr std::size_t width = 20;
  std::string out =
      "Type a prompt and press Enter. A backslash at the end of a line continues it on the next.\n";
  for (const named_command& c : commands) {
    if (c.usage.empty()) continue;
    out += "  " + std::string{c.usage};
    out.append(width > c.usage.size() ? width - c.usage.size() : 1, ' ');
    out += std::string{c.doc} + '\n';
  }
  return out +
         "  Ctrl-C              stop the answer\n"
         "  //text              a prompt that begins with a slash\n";
}

std::string run_set(const console_input& input, options& settings) {
  const auto live = live_options();
  std::size_t width = 0;
  std::vector<std::string> names;
  for (const option_spec* spec : live) {
    width = std::max(width, spec->key.size());
    names.emplace_back(spec->key);
  }
  if (input.key.empty()) {
    std::string all;
    for (const option_spec* spec : live) all += value_line(*spec, settings, width);
    return all;
  }
  const std::string key = plain_key(input.key);
  for (const option_spec* spec : live) {
    if (spec->key != key) continue;
    try {
      if (input.value_given) change(*spec, input.value, settings);
    } catch (const std::invalid_argument& complaint) {
      return key + ": " + complaint.what() + '\n';
    }
    return value_line(*spec, settings, 0);
  }
  return "no setting " + in_quotes(input.key) + did_you_mean(key, names) + "; /set lists them\n";
}

}  // namespace fastserve::launch
