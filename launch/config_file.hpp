#pragma once

#include <string>
#include <string_view>

#include "launch/options.hpp"

namespace fastserve::launch {

// The YAML file: sections of keys, as option_table() lists them.
//
//     model: models/demo
//     sampling:
//       temperature: 0.7
//       top_p: 0.9
//
// A file serves every command: what a command has no use for is checked and not used. Paths in it are
// relative to the working directory, as on the command line. Anchors, aliases, tags and further documents are
// refused.

/// Stores what the file says into `settings`. Throws std::runtime_error with one line, "FILE:LINE: ...", for
/// a file that is missing, over 1 MB, not YAML, or has an unknown or repeated key or a value out of its
/// range.
void read_config_file(const std::string& path, options& settings);

/// The same for text already in memory; `name` stands for the file in messages.
void read_config_text(std::string_view text, const std::string& name, options& settings);

/// All settings as YAML that reads back as the same settings.
std::string format_config(const options& settings);

}  // namespace fastserve::launch
