#include "model/tokenizer/unicode_class.hpp"

#include <unicode/uchar.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <string>

namespace fastserve::model {

namespace {

struct young_range {
  std::uint16_t bits;
  char32_t first;
  char32_t last;
};

// Code points assigned since Unicode 14, PCRE2 10.42's version: first those of 15.0, which ICU 72 knows, then
// those of 15.1, 16 and (is_numeric alone) 17. Source: the Unicode Character Database,
// DerivedGeneralCategory.
constexpr young_range young[] = {
    {is_letter | is_word, 0x1123F, 0x11240},
    {is_letter | is_word, 0x11F02, 0x11F02},
    {is_letter | is_word, 0x11F04, 0x11F10},
    {is_letter | is_word, 0x11F12, 0x11F33},
    {is_letter | is_word, 0x1342F, 0x1342F},
    {is_letter | is_word, 0x13441, 0x13446},
    {is_letter | is_word, 0x1B132, 0x1B132},
    {is_letter | is_word, 0x1B155, 0x1B155},
    {is_letter | is_word, 0x1DF25, 0x1DF2A},
    {is_letter | is_word, 0x1E030, 0x1E06D},
    {is_letter | is_word, 0x1E4D0, 0x1E4EB},
    {is_letter | is_word, 0x2B739, 0x2B739},
    {is_letter | is_word, 0x31350, 0x323AF},
    {is_number | is_word | is_numeric, 0x11F50, 0x11F59},
    {is_number | is_word | is_numeric, 0x1E4F0, 0x1E4F9},
    {is_number | is_numeric, 0x1D2C0, 0x1D2D3},
    {is_mark | is_word, 0xCF3, 0xCF3},
    {is_mark | is_word, 0xECE, 0xECE},
    {is_mark | is_word, 0x10EFD, 0x10EFF},
    {is_mark | is_word, 0x11241, 0x11241},
    {is_mark | is_word, 0x11F00, 0x11F01},
    {is_mark | is_word, 0x11F03, 0x11F03},
    {is_mark | is_word, 0x11F34, 0x11F3A},
    {is_mark | is_word, 0x11F3E, 0x11F42},
    {is_mark | is_word, 0x13440, 0x13440},
    {is_mark | is_word, 0x13447, 0x13455},
    {is_mark | is_word, 0x1E08F, 0x1E08F},
    {is_mark | is_word, 0x1E4EC, 0x1E4EF},
    {is_punctuation, 0x11B00, 0x11B09},
    {is_punctuation, 0x11F43, 0x11F4F},
    {is_symbol, 0x1F6DC, 0x1F6DC},
    {is_symbol, 0x1F774, 0x1F776},
    {is_symbol, 0x1F77B, 0x1F77F},
    {is_symbol, 0x1F7D9, 0x1F7D9},
    {is_symbol, 0x1FA75, 0x1FA77},
    {is_symbol, 0x1FA87, 0x1FA88},
    {is_symbol, 0x1FAAD, 0x1FAAF},
    {is_symbol, 0x1FABB, 0x1FABD},
    {is_symbol, 0x1FABF, 0x1FABF},
    {is_symbol, 0x1FACE, 0x1FACF},
    {is_symbol, 0x1FADA, 0x1FADB},
    {is_symbol, 0x1FAE8, 0x1FAE8},
    {is_symbol, 0x1FAF7, 0x1FAF8},
    {is_letter | is_word, 0x1C89, 0x1C8A},
    {is_letter | is_word, 0xA7CB, 0xA7CD},
    {is_letter | is_word, 0xA7DA, 0xA7DC},
    {is_letter | is_word, 0x105C0, 0x105F3},
    {is_letter | is_word, 0x10D4A, 0x10D65},
    {is_letter | is_word, 0x10D6F, 0x10D85},
    {is_letter | is_word, 0x10EC2, 0x10EC4},
    {is_letter | is_word, 0x11380, 0x11389},
    {is_letter | is_word, 0x1138B, 0x1138B},
    {is_letter | is_word, 0x1138E, 0x1138E},
    {is_letter | is_word, 0x11390, 0x113B5},
    {is_letter | is_word, 0x113B7, 0x113B7},
    {is_letter | is_word, 0x113D1, 0x113D1},
    {is_letter | is_word, 0x113D3, 0x113D3},
    {is_letter | is_word, 0x11BC0, 0x11BE0},
    {is_letter | is_word, 0x13460, 0x143FA},
    {is_letter | is_word, 0x16100, 0x1611D},
    {is_letter | is_word, 0x16D40, 0x16D6C},
    {is_letter | is_word, 0x18CFF, 0x18CFF},
    {is_letter | is_word, 0x1E5D0, 0x1E5ED},
    {is_letter | is_word, 0x1E5F0, 0x1E5F0},
    {is_letter | is_word, 0x2EBF0, 0x2EE5D},
    {is_number | is_word | is_numeric, 0x10D40, 0x10D49},
    {is_number | is_word | is_numeric, 0x116D0, 0x116E3},
    {is_number | is_word | is_numeric, 0x11BF0, 0x11BF9},
    {is_number | is_word | is_numeric, 0x16130, 0x16139},
    {is_number | is_word | is_numeric, 0x16D70, 0x16D79},
    {is_number | is_word | is_numeric, 0x1CCF0, 0x1CCF9},
    {is_number | is_word | is_numeric, 0x1E5F1, 0x1E5FA},
    {is_numeric, 0x11DE0, 0x11DE9},
    {is_numeric, 0x16FF4, 0x16FF6},
    {is_mark | is_word, 0x897, 0x897},
    {is_mark | is_word, 0x10D69, 0x10D6D},
    {is_mark | is_word, 0x10EFC, 0x10EFC},
    {is_mark | is_word, 0x113B8, 0x113C0},
    {is_mark | is_word, 0x113C2, 0x113C2},
    {is_mark | is_word, 0x113C5, 0x113C5},
    {is_mark | is_word, 0x113C7, 0x113CA},
    {is_mark | is_word, 0x113CC, 0x113D0},
    {is_mark | is_word, 0x113D2, 0x113D2},
    {is_mark | is_word, 0x113E1, 0x113E2},
    {is_mark | is_word, 0x11F5A, 0x11F5A},
    {is_mark | is_word, 0x1611E, 0x1612F},
    {is_mark | is_word, 0x1E5EE, 0x1E5EF},
    {is_punctuation, 0x1B4E, 0x1B4F},
    {is_punctuation, 0x1B7F, 0x1B7F},
    {is_punctuation, 0x10D6E, 0x10D6E},
    {is_punctuation, 0x113D4, 0x113D5},
    {is_punctuation, 0x113D7, 0x113D8},
    {is_punctuation, 0x11BE1, 0x11BE1},
    {is_punctuation, 0x16D6D, 0x16D6F},
    {is_punctuation, 0x1E5FF, 0x1E5FF},
    {is_symbol, 0x2427, 0x2429},
    {is_symbol, 0x2FFC, 0x2FFF},
    {is_symbol, 0x31E4, 0x31E5},
    {is_symbol, 0x31EF, 0x31EF},
    {is_symbol, 0x10D8E, 0x10D8F},
    {is_symbol, 0x1CC00, 0x1CCEF},
    {is_symbol, 0x1CD00, 0x1CEB3},
    {is_symbol, 0x1F8B2, 0x1F8BB},
    {is_symbol, 0x1F8C0, 0x1F8C1},
    {is_symbol, 0x1FA89, 0x1FA89},
    {is_symbol, 0x1FA8F, 0x1FA8F},
    {is_symbol, 0x1FABE, 0x1FABE},
    {is_symbol, 0x1FAC6, 0x1FAC6},
    {is_symbol, 0x1FADC, 0x1FADC},
    {is_symbol, 0x1FADF, 0x1FADF},
    {is_symbol, 0x1FAE9, 0x1FAE9},
    {is_symbol, 0x1FBCB, 0x1FBEF},
};

// True for characters of that Unicode version or an older one. An unassigned code point has no age.
bool no_younger_than(char32_t code, int major) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(code), age);
  return age[0] != 0 && (age[0] < major || (age[0] == major && age[1] == 0));
}

// What the reference's Unicode 8 tables say of non-spacing marks; the last four are other categories there.
bool accent_for_bert(char32_t code, std::uint32_t category) {
  if (code == 0x1734) return true;
  return (category & U_GC_MN_MASK) != 0 && no_younger_than(code, 8) && code != 0x1885 && code != 0x1886 &&
         code != 0xA9BD && code != 0x111C9;
}

std::uint16_t bits_of(char32_t code) {
  const auto point = static_cast<UChar32>(code);
  const std::uint32_t category = U_GET_GC_MASK(point);
  std::uint16_t bits = 0;
  if ((category & U_GC_L_MASK) != 0) bits |= is_letter;
  if ((category & U_GC_N_MASK) != 0) bits |= is_number | is_numeric;
  if (u_isUWhiteSpace(point) != 0) bits |= is_space;
  if ((category & U_GC_M_MASK) != 0) bits |= is_mark;
  if ((category & U_GC_P_MASK) != 0) bits |= is_punctuation;
  if ((category & U_GC_S_MASK) != 0) bits |= is_symbol;
  if (u_hasBinaryProperty(point, UCHAR_ALPHABETIC) != 0 || code == 0x200C || code == 0x200D ||
      (category & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0) {
    bits |= is_word;
  }
  if (code == 0 || code == utf8::replacement ||
      ((category & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK)) != 0 && no_younger_than(code, 8) &&
       code != '\t' && code != '\n' && code != '\r')) {
    bits |= bert_control;
  }
  const bool ascii_symbol = code < 0x80 && (category & (U_GC_P_MASK | U_GC_S_MASK)) != 0;
  if (ascii_symbol || code == 0x166D || code == 0x111C9 ||
      ((category & U_GC_P_MASK) != 0 && no_younger_than(code, 8))) {
    bits |= bert_punctuation;
  }
  if (accent_for_bert(code, category)) bits |= bert_accent;
  if (code == 0x1CF2 || code == 0x1CF3 ||
      ((category & U_GC_M_MASK) != 0 && no_younger_than(code, 9) && code != 0x111C9)) {
    bits |= is_accent;
  }
  constexpr char32_t first_young = 0x897;
  if (code < first_young) return bits;
  for (const young_range& range : young) {
    if (code >= range.first && code <= range.last) bits |= range.bits;
  }
  return bits;
}

// Pages of 256 characters, each filled when first touched and kept for the life of the program.
using page = std::array<std::uint16_t, 256>;
std::array<std::atomic<const page*>, 0x1100> pages{};

const page& page_of(char32_t code) {
  std::atomic<const page*>& slot = pages[code >> 8];
  const page* found = slot.load(std::memory_order_acquire);
  if (found != nullptr) return *found;
  auto* fresh = new page;
  for (char32_t i = 0; i < 256; ++i) (*fresh)[i] = bits_of((code & ~char32_t{0xFF}) | i);
  if (slot.compare_exchange_strong(found, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *found;
}

}  // namespace

std::uint16_t unicode_class(char32_t code) { return page_of(code)[code & 0xFF]; }

const std::uint16_t* ascii_classes() { return page_of(0).data(); }

void append_lower(std::string& out, char32_t code) {
  struct pair_range {
    char32_t first, last, to;
  };
  // Case pairs younger than ICU 72's.
  static constexpr pair_range pairs[] = {{0x1C89, 0x1C89, 0x1C8A},    {0xA7CB, 0xA7CB, 0x264},
                                         {0xA7CC, 0xA7CC, 0xA7CD},    {0xA7CE, 0xA7CE, 0xA7CF},
                                         {0xA7D2, 0xA7D2, 0xA7D3},    {0xA7D4, 0xA7D4, 0xA7D5},
                                         {0xA7DA, 0xA7DA, 0xA7DB},    {0xA7DC, 0xA7DC, 0x19B},
                                         {0x10D50, 0x10D65, 0x10D70}, {0x16EA0, 0x16EB8, 0x16EBB}};
  if (code < 0x80) {
    out.push_back(static_cast<char>(code >= 'A' && code <= 'Z' ? code + 32 : code));
    return;
  }
  if (code == 0x130) {
    out.append("i\xCC\x87");
    return;
  }
  for (const pair_range& range : pairs) {
    if (code >= range.first && code <= range.last) {
      utf8::append(out, range.to + (code - range.first));
      return;
    }
  }
  utf8::append(out, static_cast<char32_t>(u_tolower(static_cast<UChar32>(code))));
}

std::string young_ranges(unsigned bits) {
  std::string out;
  for (const young_range& range : young) {
    if ((range.bits & bits) != bits) continue;
    char text[40];
    std::snprintf(text, sizeof text, "\\x{%x}-\\x{%x}", static_cast<unsigned>(range.first),
                  static_cast<unsigned>(range.last));
    out += text;
  }
  return out;
}

}  // namespace fastserve::model
