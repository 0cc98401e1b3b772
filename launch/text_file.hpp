#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace fastserve::launch {

/// The text of a file, or of a pipe, that a user names. `what` is the kind of file, for the messages:
/// "cluster file". Throws std::runtime_error with one line that names the file when it does not exist, is a
/// folder, cannot be read or is larger than `max_bytes`.
std::string read_text_file(const std::string& path, std::string_view what, std::size_t max_bytes);

}  // namespace fastserve::launch
