#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fastserve::launch {

enum class key : std::uint8_t {
  character,  ///< text holds one whole UTF-8 character
  paste,      ///< text holds all that was pasted, line breaks as \n
  enter,
  tab,  ///< text holds it
  left,
  right,
  up,
  down,
  home,
  end,
  word_left,
  word_right,
  backspace,
  erase,  ///< the character under the cursor (Delete)
  erase_word_left,
  erase_word_right,
  cut_to_start,
  cut_to_end,
  put_back,
  clear_screen,
  interrupt,     ///< Ctrl-C
  end_of_input,  ///< Ctrl-D
  unknown,
};

struct key_press {
  key what = key::unknown;
  std::string text;
};

/// Turns a terminal's bytes into keys: control characters, the escape sequences of xterm and its relatives,
/// UTF-8 (broken sequences become U+FFFD) and bracketed paste. Keeps at most one key's bytes, or one paste.
class key_reader {
 public:
  /// A paste is cut off at this size; a hostile one costs no more.
  static constexpr std::size_t max_paste_bytes = std::size_t{1} << 20;

  /// The keys that this byte completes: none, one, or two where it cuts off a broken character.
  std::vector<key_press> feed(unsigned char byte);

 private:
  enum class state : std::uint8_t { plain, utf8, escape, sequence, ss3, pasting };

  std::vector<key_press> plain_byte(unsigned char byte);
  std::vector<key_press> utf8_byte(unsigned char byte);
  std::vector<key_press> escape_byte(unsigned char byte);
  std::vector<key_press> sequence_byte(unsigned char byte);
  std::vector<key_press> paste_byte(unsigned char byte);
  key_press finish_paste();

  state state_ = state::plain;
  std::string pending_;        ///< bytes of the unfinished character, sequence or paste
  bool after_return_ = false;  ///< the \n of a \r\n is not another Enter
};

}  // namespace fastserve::launch
