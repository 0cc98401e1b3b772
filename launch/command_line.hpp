#pragma once

#include <string>
#include <vector>

#include "launch/options.hpp"

namespace fastserve::launch {

/// What a command line amounts to.
struct invocation {
  enum class outcome : std::uint8_t {
    run,     ///< do `settings.what`
    print,   ///< write `text` to stdout and end with 0: help, the effective configuration
    refuse,  ///< write `text` to stderr and end with exit_code
  };
  outcome what = outcome::run;
  options settings;
  std::string text;  ///< ends in a newline
  int exit_code = 0;
};

/// Reads `arguments` (without the program's name) and the YAML file that --config names. Flags win over the
/// file, the file over the defaults. Never throws for bad input: that is a refusal, one line that says what
/// is wrong and one that says where help is, with exit code 2.
invocation read_command_line(const std::vector<std::string>& arguments);

}  // namespace fastserve::launch
