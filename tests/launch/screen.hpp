#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "launch/utf8_text.hpp"

/// As much of a terminal as the line editor relies on: rows of cells, wrapping at the right edge only when
/// the next character comes (as xterm does), scrolling at the bottom. Anything else it is sent, it counts as
/// an error.
class screen {
 public:
  screen(int columns, int rows) : columns_{columns}, cells_(rows, row_of(columns)) {}

  void write(std::string_view bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
      const char c = bytes[at];
      if (c == '\x1b') {
        at = escape(bytes, at + 1);
        continue;
      }
      const auto decoded = fastserve::launch::decode_char(bytes, at);
      if (c == '\r')
        column_ = 0;
      else if (c == '\n')
        line_feed();
      else if (c == '\a')
        ++bells;
      else if (!decoded.valid || decoded.code < 0x20 || decoded.code == 0x7F)
        ++errors;
      else
        put(bytes.substr(at, decoded.bytes), fastserve::launch::char_columns(decoded.code));
      at += decoded.bytes;
    }
  }

  /// A row without its trailing blanks.
  std::string row(int index) const {
    std::string text;
    for (const std::string& cell : cells_[static_cast<std::size_t>(index)]) text += cell;
    return text.substr(0, text.find_last_not_of(' ') + 1);
  }
  int rows() const { return static_cast<int>(cells_.size()); }
  int cursor_row() const { return row_; }
  int cursor_column() const { return column_; }

  int errors = 0;
  int bells = 0;

 private:
  using cell_row = std::vector<std::string>;
  static cell_row row_of(int columns) { return cell_row(static_cast<std::size_t>(columns), " "); }

  void line_feed() {
    if (row_ + 1 < rows()) {
      ++row_;
      return;
    }
    cells_.erase(cells_.begin());
    cells_.push_back(row_of(columns_));
  }

  void put(std::string_view character, int width) {
    if (width == 0) {
      if (column_ > 0) cell(column_ - 1) += character;
      return;
    }
    if (column_ + width > columns_) {
      ++wraps;
      column_ = 0;
      line_feed();
    }
    cell(column_) = character;
    for (int i = 1; i < width; ++i) cell(column_ + i).clear();
    column_ += width;  // == columns_: the wrap is pending
  }

  std::string& cell(int column) {
    return cells_[static_cast<std::size_t>(row_)][static_cast<std::size_t>(column)];
  }

  std::size_t escape(std::string_view bytes, std::size_t at) {
    if (at >= bytes.size() || bytes[at] != '[') {
      ++errors;
      return at;
    }
    std::size_t end = at + 1;
    while (end < bytes.size() && (bytes[end] < 0x40 || bytes[end] > 0x7E)) ++end;
    if (end >= bytes.size()) {
      ++errors;
      return end;
    }
    const std::string argument{bytes.substr(at + 1, end - at - 1)};
    const int count = argument.empty() ? 1 : std::atoi(argument.c_str());
    switch (bytes[end]) {
      case 'A':
        row_ = std::max(0, row_ - count);
        break;
      case 'C':
        column_ = std::min(columns_ - 1, std::min(column_, columns_ - 1) + count);
        break;
      case 'H':
        row_ = column_ = 0;
        break;
      case 'K':
        clear_row(row_, column_);
        break;
      case 'J':
        if (count == 2) {
          for (int r = 0; r < rows(); ++r) clear_row(r, 0);
        } else {
          clear_row(row_, column_);
          for (int r = row_ + 1; r < rows(); ++r) clear_row(r, 0);
        }
        break;
      default:
        ++errors;
    }
    return end + 1;
  }

  void clear_row(int row, int from) {
    auto& cells = cells_[static_cast<std::size_t>(row)];
    const std::string blank(1, ' ');
    std::fill(cells.begin() + std::min(from, columns_), cells.end(), blank);
  }

 public:
  int wraps = 0;  ///< rows that the terminal broke, not the sender

 private:
  int columns_;
  std::vector<cell_row> cells_;
  int row_ = 0;
  int column_ = 0;
};
