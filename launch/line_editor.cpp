#include "launch/line_editor.hpp"

#include <algorithm>
#include <utility>

#include "launch/line_layout.hpp"
#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

std::string step(std::size_t count, char direction) {
  if (count == 0) return {};
  std::string sequence = "\x1b[";
  sequence += std::to_string(count);
  return sequence += direction;
}

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t'; }

std::size_t start_of_line(std::string_view text, std::size_t at) {
  const std::size_t line_break = at == 0 ? std::string_view::npos : text.rfind('\n', at - 1);
  return line_break == std::string_view::npos ? 0 : line_break + 1;
}

std::size_t end_of_line(std::string_view text, std::size_t at) {
  return std::min(text.find('\n', at), text.size());
}

}  // namespace

line_editor::line_editor(prompt_history& history, std::string prompt, std::string more)
    : history_{history}, prompt_{std::move(prompt)}, more_{std::move(more)} {}

bool line_editor::resize(int columns, int rows) {
  columns = columns > 0 ? columns : 80;
  rows = rows > 0 ? rows : 24;
  if (columns == columns_ && rows == screen_rows_) return false;
  columns_ = columns;
  screen_rows_ = rows;
  if (!shown_) return true;
  // Terminals wrap the rows anew when they are resized: that is where the cursor went.
  drawn_row_ = lay_out(prompt_, more_, text_, cursor_, columns_).cursor_row - std::min(top_, drawn_row_);
  drawn_row_ = std::min(drawn_row_, static_cast<std::size_t>(screen_rows_ - 1));
  return true;
}

std::string line_editor::show() {
  if (shown_) return redraw();
  shown_ = true;
  top_ = 0;
  drawn_row_ = 0;
  return redraw();
}

std::string line_editor::hide() {
  if (!shown_) return {};
  shown_ = false;
  return to_start_of_drawing() + "\x1b[J";
}

std::vector<line_editor::reply> line_editor::feed(unsigned char byte) {
  std::vector<reply> replies;
  for (const key_press& pressed : keys_.feed(byte)) replies.push_back(press(pressed));
  return replies;
}

line_editor::reply line_editor::press(const key_press& pressed) {
  switch (pressed.what) {
    case key::enter:
      return enter();
    case key::interrupt:
      return finish(event::interrupt, "^C");
    case key::end_of_input:
      if (text_.empty()) return finish(event::end_of_input, "");
      break;
    case key::clear_screen: {
      if (!shown_) return {};
      drawn_row_ = 0;
      reply out;
      out.output = "\x1b[H\x1b[2J";
      out.output += redraw();
      return out;
    }
    case key::unknown:
      return {};
    default:
      break;
  }
  const bool at_end = cursor_ == text_.size();
  const std::size_t size = text_.size();
  const bool done = move(pressed.what) || edit(pressed);
  if (!shown_) return {};
  if (!done) return {"\a", event::none, {}};
  if (pressed.what == key::character && at_end)
    return {type_at_end(std::string_view{text_}.substr(size)), event::none, {}};
  return {redraw(), event::none, {}};
}

bool line_editor::move(key where) {
  const std::size_t before = cursor_;
  switch (where) {
    case key::left:
      cursor_ = previous_cluster(text_, cursor_);
      break;
    case key::right:
      cursor_ = next_cluster(text_, cursor_);
      break;
    case key::home:
      cursor_ = start_of_line(text_, cursor_);
      return true;
    case key::end:
      cursor_ = end_of_line(text_, cursor_);
      return true;
    case key::word_left:
      cursor_ = word_start();
      break;
    case key::word_right:
      cursor_ = word_end();
      break;
    case key::up:
      return move_line(true) || recall(true);
    case key::down:
      return move_line(false) || recall(false);
    default:
      return false;
  }
  return cursor_ != before;
}

bool line_editor::edit(const key_press& pressed) {
  const std::size_t size = text_.size();
  switch (pressed.what) {
    case key::character:
    case key::paste:
      return insert(pressed.text);
    case key::tab:
      return insert("\t");
    case key::put_back:
      return !cut_text_.empty() && insert(cut_text_);
    case key::backspace:
      cut(previous_cluster(text_, cursor_), cursor_, false);
      break;
    case key::erase:
    case key::end_of_input:
      cut(cursor_, next_cluster(text_, cursor_), false);
      break;
    case key::erase_word_left:
      cut(word_start(), cursor_, true);
      break;
    case key::erase_word_right:
      cut(cursor_, word_end(), true);
      break;
    case key::cut_to_start:
      cut(start_of_line(text_, cursor_), cursor_, true);
      break;
    case key::cut_to_end:
      cut(cursor_, end_of_line(text_, cursor_), true);
      break;
    default:
      return false;
  }
  return text_.size() != size;
}

void line_editor::cut(std::size_t from, std::size_t to, bool keep) {
  if (from >= to) return;
  if (keep) cut_text_ = text_.substr(from, to - from);
  text_.erase(from, to - from);
  cursor_ = from;
}

bool line_editor::insert(std::string_view what) {
  if (what.size() > max_text_bytes - text_.size()) return false;
  std::string longer;
  longer.reserve(text_.size() + what.size());
  longer.append(text_, 0, cursor_).append(what).append(text_, cursor_);
  text_ = std::move(longer);
  cursor_ += what.size();
  return true;
}

bool line_editor::move_line(bool up) {
  const std::size_t start = start_of_line(text_, cursor_);
  const std::size_t end = end_of_line(text_, cursor_);
  if (up ? start == 0 : end == text_.size()) return false;
  const int column = text_columns(std::string_view{text_}.substr(start, cursor_ - start));
  std::size_t at = up ? start_of_line(text_, start - 1) : end + 1;
  const std::size_t stop = end_of_line(text_, at);
  for (int passed = 0; at < stop;) {
    const std::size_t next = next_cluster(text_, at);
    passed += text_columns(std::string_view{text_}.substr(at, next - at));
    if (passed > column) break;
    at = next;
  }
  cursor_ = at;
  return true;
}

bool line_editor::recall(bool older) {
  const auto& entries = history_.entries();
  recalled_ = std::min(recalled_, entries.size());
  if (older ? recalled_ == entries.size() : recalled_ == 0) return false;
  if (recalled_ == 0) typed_text_ = text_;
  recalled_ += older ? 1 : std::size_t(-1);
  text_ = recalled_ == 0 ? typed_text_ : entries[entries.size() - recalled_];
  cursor_ = text_.size();
  return true;
}

line_editor::reply line_editor::enter() {
  const std::size_t last = text_.find_last_not_of('\\');
  const std::size_t slashes = text_.size() - (last == std::string::npos ? 0 : last + 1);
  if (slashes % 2 == 1) {
    text_.back() = '\n';
    cursor_ = text_.size();
    return {shown_ ? redraw() : std::string{}, event::none, {}};
  }
  return finish(event::line, "");
}

line_editor::reply line_editor::finish(event what, std::string_view mark) {
  reply out;
  out.what = what;
  if (shown_) {
    // The whole text stays on the screen: the next output begins below it.
    cursor_ = text_.size();
    out.output = redraw();
    if (drawn_column_ + text_columns(mark) > columns_) out.output += "\r\n";
    out.output += mark;
    out.output += "\r\n";
  }
  if (what == event::line) {
    history_.add(text_);
    out.line = std::move(text_);
  }
  text_.clear();
  cursor_ = 0;
  recalled_ = 0;
  typed_text_.clear();
  shown_ = false;
  return out;
}

std::string line_editor::to_start_of_drawing() const {
  std::string out(1, '\r');
  return out += step(drawn_row_, 'A');
}

std::string line_editor::redraw() {
  const line_layout layout = lay_out(prompt_, more_, text_, cursor_, columns_);
  const auto window = static_cast<std::size_t>(screen_rows_);
  if (layout.cursor_row < top_) top_ = layout.cursor_row;
  if (layout.cursor_row >= top_ + window) top_ = layout.cursor_row - window + 1;
  if (layout.rows.size() <= top_ + window)
    top_ = layout.rows.size() > window ? layout.rows.size() - window : 0;
  const std::size_t last = std::min(layout.rows.size(), top_ + window);

  std::string out = to_start_of_drawing() + "\x1b[J";
  for (std::size_t row = top_; row < last; ++row) {
    if (row > top_) out += "\r\n";
    out += layout.rows[row];
  }
  out += step(last - 1 - layout.cursor_row, 'A');
  out += '\r';
  out += step(static_cast<std::size_t>(layout.cursor_column), 'C');
  drawn_row_ = layout.cursor_row - top_;
  drawn_rows_ = last - top_;
  drawn_column_ = layout.cursor_column;
  return out;
}

/// The common case: a character more at the end, on the same row, costs no redraw.
std::string line_editor::type_at_end(std::string_view typed) {
  const int width = text_columns(typed);
  const bool same_row = drawn_row_ + 1 == drawn_rows_ && drawn_column_ + width < columns_;
  // A mark that joins the character before it is drawn with it.
  const bool own_cluster = previous_cluster(text_, text_.size()) == text_.size() - typed.size();
  if (!same_row || !own_cluster || width == 0) return redraw();
  drawn_column_ += width;
  return std::string{typed};
}

std::size_t line_editor::word_start() const {
  std::size_t at = cursor_;
  while (at > 0 && is_blank(text_[at - 1])) --at;
  while (at > 0 && !is_blank(text_[at - 1])) --at;
  return at;
}

std::size_t line_editor::word_end() const {
  std::size_t at = cursor_;
  while (at < text_.size() && is_blank(text_[at])) ++at;
  while (at < text_.size() && !is_blank(text_[at])) ++at;
  return at;
}

}  // namespace fastserve::launch
