#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "launch/options.hpp"

namespace fastserve::launch {

/// A line that the user typed, understood.
struct console_input {
  enum class kind : std::uint8_t {
    nothing,  ///< a blank line
    prompt,   ///< `text` goes to the model
    help,
    stats,
    set,    ///< `key` and `value`; both empty: show all; only `value` empty: show one, if `value_given` is
            ///< false
    drain,  ///< `key`: the rank
    quit,
    unknown,  ///< `text` is a hint for the user, one line
  };
  kind what = kind::nothing;
  std::string text;
  std::string key;
  std::string value;
  bool value_given = false;
};

/// Commands begin with a slash; "//" begins a prompt that begins with one slash. Anything else is a prompt.
console_input parse_console_line(std::string_view line);

/// What /help prints.
std::string console_help();

/// Carries out /set: changes `settings` or shows values. The answer is for stderr and ends in a newline. A
/// refused value changes nothing. Quotes around a value are taken off, so that a stop text may have blanks;
/// \n and \t in quotes are a line break and a tab; "none" empties a list.
std::string run_set(const console_input& input, options& settings);

}  // namespace fastserve::launch
