#include "support.hpp"

#include "model/tokenizer/utf8.hpp"

namespace fastserve::model::test {

std::string dice::text(std::size_t parts) {
  static const std::vector<std::string> fragments = {"the ",
                                                     " house",
                                                     "'s",
                                                     "'LL",
                                                     "'\xC5\xBF",
                                                     "\n",
                                                     "\r\n",
                                                     "\n\n",
                                                     " ",
                                                     "  ",
                                                     "\t",
                                                     "\xC2\xA0",
                                                     "\xE3\x80\x80",
                                                     "\xE1\xA0\x8E",
                                                     "1234",
                                                     "3.14",
                                                     "...",
                                                     "!!",
                                                     "<s>",
                                                     "\xE2\x96\x81",
                                                     "e\xCC\x81",
                                                     "\xC4\xB0",
                                                     "\xE6\x97\xA5\xE6\x9C\xAC",
                                                     "\xF0\x9F\x91\xA9",
                                                     "<|endoftext|>",
                                                     "don't",
                                                     "[MASK]",
                                                     "caf\xC3\xA9",
                                                     "<left>",
                                                     "  <right>  ",
                                                     "<word>",
                                                     "##a"};
  std::string out;
  for (std::size_t i = 0; i < parts; ++i) {
    if (once_in(2)) {
      out += pick(fragments);
      continue;
    }
    static const std::vector<char32_t> ends = {0x80,   0x80,   0x80,    0x300,   0x2000,
                                               0x3100, 0xD800, 0x20000, 0x110000};
    const char32_t end = pick(ends);
    const auto code = static_cast<char32_t>(below(end));
    utf8::append(out, code >= 0xD800 && code < 0xE000 ? U'?' : code);
  }
  return out;
}

}  // namespace fastserve::model::test
