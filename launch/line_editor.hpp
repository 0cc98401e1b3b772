#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launch/key_reader.hpp"
#include "launch/prompt_history.hpp"

namespace fastserve::launch {

/// A line editor over a stream of bytes: what the user types goes in, what the terminal is to show comes out.
/// It touches no file descriptor and no clock.
///
///     out << editor.show();
///     for each byte: for (line_editor::reply& r : editor.feed(byte)) { out << r.output; act on r.what; }
///
/// Keys: arrows, Home, End, Ctrl-A/B/D/E/F/H/K/L/N/P/U/W/Y, Alt-B/D/F, Ctrl or Alt with an arrow, Delete.
/// A paste is one insertion, line breaks and all. Enter after a trailing backslash begins another line.
class line_editor {
 public:
  enum class event : std::uint8_t {
    none,
    line,          ///< `line` is what was typed; may hold line breaks
    interrupt,     ///< Ctrl-C; what was typed is gone
    end_of_input,  ///< Ctrl-D on an empty line
  };
  struct reply {
    std::string output;  ///< bytes for the terminal
    event what = event::none;
    std::string line;
  };

  /// Longest text; what is typed or pasted beyond rings the bell.
  static constexpr std::size_t max_text_bytes = std::size_t{1} << 20;

  /// Bytes that switch a terminal's bracketed paste on and off.
  static constexpr std::string_view paste_on = "\x1b[?2004h";
  static constexpr std::string_view paste_off = "\x1b[?2004l";

  /// `history` must outlive the editor; finished lines are added to it. `prompt` begins the first row, `more`
  /// every further line of the text.
  explicit line_editor(prompt_history& history, std::string prompt = "> ", std::string more = "| ");

  /// The terminal's size; unknown (0) counts as 80 by 24. True when it is another one: what is shown is to be
  /// shown again.
  bool resize(int columns, int rows);

  /// Draws the prompt and what is typed so far. After a line, an interrupt or an end the editor is hidden:
  /// keys still edit, so that one can type ahead while an answer streams, but nothing shows until the next
  /// show().
  std::string show();
  /// Takes prompt and text off the screen, for others to print there.
  std::string hide();
  bool shown() const { return shown_; }

  /// The replies of one byte, in order; mostly none or one.
  std::vector<reply> feed(unsigned char byte);

  const std::string& text() const { return text_; }
  std::size_t cursor() const { return cursor_; }  ///< byte of text()

 private:
  reply press(const key_press& pressed);
  bool move(key where);
  bool edit(const key_press& pressed);
  void cut(std::size_t from, std::size_t to, bool keep);
  bool insert(std::string_view what);
  bool move_line(bool up);
  bool recall(bool older);
  reply finish(event what, std::string_view mark);
  reply enter();
  std::string redraw();
  std::string type_at_end(std::string_view typed);
  std::string to_start_of_drawing() const;
  std::size_t word_start() const;
  std::size_t word_end() const;

  prompt_history& history_;
  std::string prompt_;
  std::string more_;
  key_reader keys_;
  std::string text_;
  std::size_t cursor_ = 0;
  std::string cut_text_;
  std::size_t recalled_ = 0;  ///< entries back from the newest; 0 = the text being typed
  std::string typed_text_;    ///< that text, while an older entry shows

  int columns_ = 80;
  int screen_rows_ = 24;
  bool shown_ = false;
  std::size_t top_ = 0;        ///< first row of the layout on the screen, when it is taller than that
  std::size_t drawn_row_ = 0;  ///< of the cursor, from the drawing's first row
  std::size_t drawn_rows_ = 0;
  int drawn_column_ = 0;
};

}  // namespace fastserve::launch
