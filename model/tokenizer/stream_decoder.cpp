#include "model/tokenizer/stream_decoder.hpp"

#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

void utf8_assembler::push(std::string_view bytes, std::string& out) {
  // Byte by byte while a character is open, else character by character.
  while (!bytes.empty()) {
    if (held_.empty()) {
      const utf8::step next = utf8::look(bytes);
      if (next.kind == utf8::state::cut) {
        held_ = bytes;
        return;
      }
      if (next.kind == utf8::state::whole) {
        out.append(bytes.substr(0, next.size));
      } else {
        utf8::append(out, utf8::replacement);
      }
      bytes.remove_prefix(next.size);
      continue;
    }
    held_.push_back(bytes.front());
    const utf8::step next = utf8::look(held_);
    if (next.kind == utf8::state::broken) {
      // The new byte belongs to what follows: it starts afresh.
      utf8::append(out, utf8::replacement);
      held_.clear();
      continue;
    }
    bytes.remove_prefix(1);
    if (next.kind == utf8::state::whole) {
      out.append(held_);
      held_.clear();
    }
  }
}

void utf8_assembler::flush(std::string& out) {
  if (!held_.empty()) utf8::append(out, utf8::replacement);
  held_.clear();
}

stream_decoder::stream_decoder(const tokenizer& tokens, bool skip_special, start at)
    : table_(&tokens.pieces()), skip_special_(skip_special), start_(at) {
  begin();
}

void stream_decoder::begin() {
  first_ = start_ == start::of_text;
  drops_ = first_ ? table_->leading_drops() : 0;
}

std::string stream_decoder::push(token_id id) {
  std::string out;
  if (!table_->known(id) || (skip_special_ && table_->special(id))) return out;
  std::string_view bytes = table_->piece(id, first_);
  first_ = false;
  while (drops_ > 0 && !bytes.empty()) {
    if (bytes.front() != table_->leading_character()) {
      drops_ = 0;
    } else {
      bytes.remove_prefix(1);
      --drops_;
    }
  }
  assembler_.push(bytes, out);
  return out;
}

std::string stream_decoder::flush() {
  std::string out;
  assembler_.flush(out);
  begin();
  return out;
}

std::string tokenizer::decode(std::span<const token_id> ids, bool skip_special) const {
  stream_decoder decoder(*this, skip_special);
  std::string out;
  for (const token_id id : ids) out += decoder.push(id);
  return out += decoder.flush();
}

}  // namespace fastserve::model
