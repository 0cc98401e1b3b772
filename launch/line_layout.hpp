#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::launch {

/// A prompt and a text as rows of a terminal.
struct line_layout {
  std::vector<std::string> rows;  ///< at least one; none wider than the terminal
  std::size_t cursor_row = 0;
  int cursor_column = 0;  ///< always less than the width: a full row puts the cursor on the next
};

/// Lays out `prompt` + `text` with the cursor before byte `cursor` of `text`. Breaks rows at `columns`, never
/// inside a user-perceived character; line breaks of the text begin a row with `more` instead of the prompt.
/// Tabs show as 4 blanks. `columns` below 8 count as 8.
line_layout lay_out(std::string_view prompt, std::string_view more, std::string_view text, std::size_t cursor,
                    int columns);

}  // namespace fastserve::launch
