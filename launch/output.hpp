#pragma once

namespace fastserve::launch {

/// The exit code of a command that would end with `code`: 1 instead of 0 where stdout did not take everything
/// that was written to it. Says so in a line on stderr, once.
int code_of_output(int code);

}  // namespace fastserve::launch
