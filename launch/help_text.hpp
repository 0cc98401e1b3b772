#pragma once

#include <string>

#include "launch/options.hpp"

namespace fastserve::launch {

/// A command as it is typed: "bench serve".
std::string words_of(command which);

/// fastserve --help
std::string program_help();

/// fastserve COMMAND --help: usage, every option of the command with its default, examples.
std::string command_help(command which);

/// One line about a command, for the list of commands.
std::string_view summary_of(command which);

}  // namespace fastserve::launch
