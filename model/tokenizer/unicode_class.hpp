#pragma once

#include <cstdint>
#include <string_view>

#include "model/tokenizer/utf8.hpp"

/// Character classes as the reference tokenizers see them, which is not one Unicode version:
///  - letter, number, mark, punctuation, symbol, space, word: Unicode 16, as its regular expressions;
///  - bert_*: Unicode 8, as its BERT normalizer and pre-tokenizer, with their few slips;
///  - accent: Unicode 9, as its StripAccents.
/// ICU is asked once a character (Unicode 15 in Debian 12); a small table adds what came after.
namespace fastserve::model {

enum unicode_bits : std::uint16_t {
  is_letter = 1,           ///< \p{L}
  is_number = 2,           ///< \p{N}
  is_space = 4,            ///< White_Space
  is_mark = 8,             ///< \p{M}
  is_punctuation = 16,     ///< \p{P}
  is_symbol = 32,          ///< \p{S}
  is_word = 64,            ///< \w: alphabetic, mark, decimal number, connector, join control
  bert_control = 128,      ///< removed by the BERT normalizer's clean_text
  bert_punctuation = 256,  ///< split off by the BERT pre-tokenizer
  bert_accent = 512,       ///< removed by the BERT normalizer after decomposition
  is_accent = 1024,        ///< removed by StripAccents
  is_numeric = 2048,       ///< split by the Digits pre-tokenizer (Unicode 17)
};

/// All bits of a character.
std::uint16_t unicode_class(char32_t code);

/// Bits of the 128 ASCII characters, for the scanners' inner loops.
const std::uint16_t* ascii_classes();

/// Lower case of one character, context-free; U+0130 becomes two characters. Unicode 17.
void append_lower(std::string& out, char32_t code);

/// Code points that have all of `bits` but are younger than Unicode 14, the version of PCRE2 10.42:
/// "\x{..}-\x{..}" pieces for use inside of a character class.
std::string young_ranges(unsigned bits);

}  // namespace fastserve::model
