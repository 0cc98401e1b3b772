#include "launch/key_reader.hpp"

#include <array>
#include <string_view>
#include <utility>

#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";
constexpr std::string_view paste_end = "\x1b[201~";
constexpr std::size_t max_sequence_bytes = 32;

struct named_sequence {
  std::string_view bytes;  ///< after ESC [
  key what;
};

constexpr std::array<named_sequence, 24> sequences{{{"A", key::up},
                                                    {"B", key::down},
                                                    {"C", key::right},
                                                    {"D", key::left},
                                                    {"H", key::home},
                                                    {"F", key::end},
                                                    {"1~", key::home},
                                                    {"7~", key::home},
                                                    {"4~", key::end},
                                                    {"8~", key::end},
                                                    {"3~", key::erase},
                                                    {"1;5C", key::word_right},
                                                    {"1;5D", key::word_left},
                                                    {"1;3C", key::word_right},
                                                    {"1;3D", key::word_left},
                                                    {"1;2C", key::right},
                                                    {"1;2D", key::left},
                                                    {"1;5H", key::home},
                                                    {"1;5F", key::end},
                                                    {"3;5~", key::erase_word_right},
                                                    {"3;3~", key::erase_word_right},
                                                    {"5C", key::word_right},
                                                    {"5D", key::word_left},
                                                    {"Z", key::unknown}}};

key control_key(unsigned char byte) {
  switch (byte) {
    case 0x01:
      return key::home;  // Ctrl-A
    case 0x02:
      return key::left;  // Ctrl-B
    case 0x03:
      return key::interrupt;  // Ctrl-C
    case 0x04:
      return key::end_of_input;  // Ctrl-D
    case 0x05:
      return key::end;  // Ctrl-E
    case 0x06:
      return key::right;  // Ctrl-F
    case 0x08:
      return key::backspace;  // Ctrl-H
    case 0x09:
      return key::tab;
    case 0x0A:
    case 0x0D:
      return key::enter;
    case 0x0B:
      return key::cut_to_end;  // Ctrl-K
    case 0x0C:
      return key::clear_screen;  // Ctrl-L
    case 0x0E:
      return key::down;  // Ctrl-N
    case 0x10:
      return key::up;  // Ctrl-P
    case 0x15:
      return key::cut_to_start;  // Ctrl-U
    case 0x17:
      return key::erase_word_left;  // Ctrl-W
    case 0x19:
      return key::put_back;  // Ctrl-Y
    case 0x7F:
      return key::backspace;
    default:
      return key::unknown;
  }
}

key alt_key(unsigned char byte) {
  switch (byte) {
    case 'b':
      return key::word_left;
    case 'f':
      return key::word_right;
    case 'd':
      return key::erase_word_right;
    case 0x08:
    case 0x7F:
      return key::erase_word_left;
    default:
      return key::unknown;
  }
}

std::vector<key_press> one(key what, std::string text = {}) { return {key_press{what, std::move(text)}}; }

std::vector<key_press> broken_character() { return one(key::character, std::string{replacement}); }

bool is_continuation(unsigned char byte) { return (byte & 0xC0U) == 0x80U; }

}  // namespace

std::vector<key_press> key_reader::feed(unsigned char byte) {
  switch (state_) {
    case state::plain:
      return plain_byte(byte);
    case state::utf8:
      return utf8_byte(byte);
    case state::escape:
      return escape_byte(byte);
    case state::sequence:
    case state::ss3:
      return sequence_byte(byte);
    case state::pasting:
      return paste_byte(byte);
  }
  return {};
}

std::vector<key_press> key_reader::plain_byte(unsigned char byte) {
  const bool second_of_pair = after_return_ && byte == '\n';
  after_return_ = byte == '\r';
  if (second_of_pair) return {};
  if (byte == 0x1B) {
    state_ = state::escape;
    return {};
  }
  if (byte < 0x20 || byte == 0x7F) {
    const key what = control_key(byte);
    return one(what, what == key::tab ? std::string(1, '\t') : std::string{});
  }
  if (byte < 0x80) return one(key::character, std::string(1, static_cast<char>(byte)));
  if (sequence_bytes(byte) == 0) return broken_character();
  pending_.assign(1, static_cast<char>(byte));
  state_ = state::utf8;
  return {};
}

std::vector<key_press> key_reader::utf8_byte(unsigned char byte) {
  if (!is_continuation(byte)) {
    state_ = state::plain;
    std::vector<key_press> both = broken_character();
    for (key_press& next : plain_byte(byte)) both.push_back(std::move(next));
    return both;
  }
  pending_ += static_cast<char>(byte);
  if (pending_.size() < sequence_bytes(static_cast<unsigned char>(pending_.front()))) return {};
  state_ = state::plain;
  return decode_char(pending_, 0).valid ? one(key::character, pending_) : broken_character();
}

std::vector<key_press> key_reader::escape_byte(unsigned char byte) {
  pending_.clear();
  switch (byte) {
    case '[':
      state_ = state::sequence;
      return {};
    case 'O':
      state_ = state::ss3;
      return {};
    case 0x1B:
      return {};  // still an escape
    default:
      break;
  }
  state_ = state::plain;
  // Ctrl-C or Enter after a lone Esc must work; only printable characters are Alt combinations.
  if ((byte < 0x20 && byte != 0x08)) return plain_byte(byte);
  return one(alt_key(byte));
}

std::vector<key_press> key_reader::sequence_byte(unsigned char byte) {
  if (byte < 0x20 || byte >= 0x7F) {  // no sequence has these: it was cut off
    state_ = state::plain;
    return plain_byte(byte);
  }
  pending_ += static_cast<char>(byte);
  const bool final = state_ == state::ss3 || (byte >= 0x40 && !(pending_.size() == 1 && byte == '['));
  if (!final && pending_.size() < max_sequence_bytes) return {};
  state_ = state::plain;
  if (pending_ == "200~") {
    state_ = state::pasting;
    pending_.clear();
    return {};
  }
  for (const named_sequence& known : sequences)
    if (known.bytes == pending_) return one(known.what);
  return one(key::unknown);
}

std::vector<key_press> key_reader::paste_byte(unsigned char byte) {
  pending_ += static_cast<char>(byte);
  if (pending_.ends_with(paste_end)) {
    pending_.resize(pending_.size() - paste_end.size());
    state_ = state::plain;
    return {finish_paste()};
  }
  // Keep as many bytes as the end mark has beyond the limit, so that it is still found.
  if (pending_.size() > max_paste_bytes + paste_end.size()) pending_.erase(max_paste_bytes, 1);
  return {};
}

key_press key_reader::finish_paste() {
  key_press press{key::paste, {}};
  if (pending_.size() > max_paste_bytes) pending_.resize(max_paste_bytes);
  for (std::size_t at = 0; at < pending_.size();) {
    const decoded_char c = decode_char(pending_, at);
    if (!c.valid) {
      press.text += replacement;
    } else if (c.code == '\r') {
      press.text += '\n';
      if (at + 1 < pending_.size() && pending_[at + 1] == '\n') ++at;
    } else if (c.code == '\n' || c.code == '\t' ||
               (c.code >= 0x20 && c.code != 0x7F && !(c.code >= 0x80 && c.code < 0xA0))) {
      press.text.append(pending_, at, c.bytes);
    }
    at += c.bytes;
  }
  pending_.clear();
  pending_.shrink_to_fit();
  return press;
}

}  // namespace fastserve::launch
