#include "launch/line_layout.hpp"

#include <algorithm>

#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

constexpr int least_columns = 8;
constexpr std::string_view tab = "    ";
constexpr std::string_view dotted_circle = "\u25CC";

class row_writer {
 public:
  explicit row_writer(int columns) : columns_{columns} { out_.rows.emplace_back(); }

  void put(std::string_view cluster) {
    std::string shown{cluster == "\t" ? tab : cluster};
    // A mark with nothing to stand on would land on a neighbour, or nowhere.
    if (text_columns(shown) == 0) shown.insert(0, dotted_circle);
    const int width = std::min(text_columns(shown), columns_);
    if (column_ + width > columns_) new_row();
    out_.rows.back() += shown;
    column_ += width;
  }
  void put_all(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t next = next_cluster(text, at);
      put(text.substr(at, next - at));
      at = next;
    }
  }
  void new_row() {
    out_.rows.emplace_back();
    column_ = 0;
  }
  void mark_cursor() {
    if (column_ >= columns_) new_row();
    out_.cursor_row = out_.rows.size() - 1;
    out_.cursor_column = column_;
  }
  line_layout take() { return std::move(out_); }

 private:
  line_layout out_;
  int columns_;
  int column_ = 0;
};

}  // namespace

line_layout lay_out(std::string_view prompt, std::string_view more, std::string_view text, std::size_t cursor,
                    int columns) {
  row_writer writer{std::max(columns, least_columns)};
  writer.put_all(prompt);
  for (std::size_t at = 0; at < text.size();) {
    if (at == cursor) writer.mark_cursor();
    if (text[at] == '\n') {
      writer.new_row();
      writer.put_all(more);
      ++at;
      continue;
    }
    const std::size_t next = next_cluster(text, at);
    writer.put(text.substr(at, next - at));
    at = next;
  }
  if (cursor >= text.size()) writer.mark_cursor();
  return writer.take();
}

}  // namespace fastserve::launch
