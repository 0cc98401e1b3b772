#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/options.hpp"

namespace fastserve::launch {

/// One setting: everything that the command line, its help, the YAML reader and the console's /set know of
/// it.
///
/// The flag is the key with dashes ("max_batch" is --max-batch); in YAML it is `section: {key: value}`, or a
/// key of the top level where the section is empty.
struct option_spec {
  enum class shape : std::uint8_t {
    flag,   ///< true or false; --key and --no-key
    value,  ///< one value; the last one given counts
    list,   ///< repeatable; in YAML a sequence or one value
  };

  std::string_view section;
  std::string_view key;
  shape form = shape::value;
  std::string_view value_name;  ///< "N", "DIR": what the help shows after the flag
  std::string_view doc;         ///< for the help, without the default
  std::string_view unset;       ///< what the default means, where the bare value would not say it
  std::vector<command> commands;
  bool numeric = false;  ///< YAML: a quoted text is refused
  bool id_list = false;  ///< one value is a list, such as 1,2,3; YAML also takes [1, 2, 3]
  bool in_yaml = true;
  bool live = false;            ///< can be changed by /set between prompts
  bool empty_is_unset = false;  ///< an empty text stands for "not given"

  /// Stores one value; a list grows by it. Throws std::invalid_argument: "expected ..., found '...'".
  std::function<void(options&, std::string_view)> set;
  /// The values in the form that `set` reads: exactly one, or any number of a list.
  std::function<std::vector<std::string>(const options&)> get;
  /// Empties a list. Null for the rest.
  std::function<void(options&)> clear;

  bool belongs_to(command which) const;
  std::string flag() const;  ///< "--max-batch"
};

/// All settings in the order of the help. Built once; safe to call from any thread.
const std::vector<option_spec>& option_table();

/// The settings that /set changes.
std::vector<const option_spec*> live_options();

}  // namespace fastserve::launch
