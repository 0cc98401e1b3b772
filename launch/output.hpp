#pragma once

#include <filesystem>
#include <ios>
#include <string_view>

namespace fastserve::launch {

/// The exit code of a command that would end with `code`: 1 instead of 0 where stdout did not take everything
/// that was written to it. Says so in a line on stderr, once.
int code_of_output(int code);

/// Makes the file hold `text`, or with std::ios::app end with it. Throws std::runtime_error that says why
/// not.
void write_file(const std::filesystem::path& path, std::string_view text, std::ios::openmode how = {});

}  // namespace fastserve::launch
