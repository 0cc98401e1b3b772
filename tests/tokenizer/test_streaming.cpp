#include <boost/test/data/test_case.hpp>

#include "model/tokenizer/stream_decoder.hpp"
#include "model/tokenizer/utf8.hpp"
#include "support.hpp"

using namespace fastserve::model;
using namespace fastserve::model::test;

BOOST_AUTO_TEST_SUITE(streaming)

BOOST_DATA_TEST_CASE(equals_the_whole_and_never_cuts_a_character, boost::unit_test::data::make(golden_names),
                     name) {
  const auto tokens = load_tokenizer(golden_folder(name));
  dice random(7);
  std::size_t held_back = 0;
  for (int round = 0; round < (fastserve::test::sanitized ? 300 : 1500); ++round) {
    const bool skip_special = random.once_in(2);
    std::vector<token_id> ids(1 + random.below(30));
    // The low ids are single bytes, which make broken characters.
    const auto size = static_cast<std::size_t>(tokens->vocab_size());
    const std::size_t bound = random.once_in(2) ? std::min<std::size_t>(size, 262) : size + 3;
    for (token_id& id : ids) id = static_cast<token_id>(random.below(bound)) - 1;
    stream_decoder decoder(*tokens, skip_special);
    std::string streamed;
    for (const token_id id : ids) {
      const std::string piece = decoder.push(id);
      BOOST_TEST(utf8::valid(piece));
      if (piece.empty() && !tokens->piece(id).empty()) ++held_back;
      streamed += piece;
    }
    streamed += decoder.flush();
    BOOST_TEST(streamed == tokens->decode(ids, skip_special));
    BOOST_TEST(utf8::valid(streamed));
  }
  if (name == "gpt2_like" || name == "llama2_like") BOOST_TEST(held_back > 0u);
}

// Byte-level pieces are the text: put together and repaired they are the decode.
BOOST_AUTO_TEST_CASE(pieces_make_the_text) {
  const auto tokens = load_tokenizer(golden_folder("qwen2_like"));
  dice random(8);
  for (int round = 0; round < 500; ++round) {
    std::vector<token_id> ids(random.below(20));
    std::string bytes;
    for (token_id& id : ids) {
      id = static_cast<token_id>(random.below(300));
      bytes += tokens->piece(id);
    }
    BOOST_TEST(tokens->decode(ids, false) == utf8::repaired(bytes));
  }
}

BOOST_DATA_TEST_CASE(texts_come_back,
                     boost::unit_test::data::make(std::vector<std::string>{"gpt2_like", "llama3_like",
                                                                           "llama2_like"}),
                     name) {
  const auto tokens = load_tokenizer(golden_folder(name));
  dice random(9);
  for (int round = 0; round < 500; ++round) {
    const std::string text = random.text(random.below(25));
    if (name == "llama2_like") {
      // U+2581 is a space to it.
      if (contains(text, "\xE2\x96\x81")) continue;
    } else if (contains(text, "<left>") || contains(text, "<right>")) {
      continue;  // they take the white space beside them along
    }
    if (contains(text, "<|endoftext|>") || contains(text, "<s>")) continue;
    BOOST_TEST(tokens->decode(tokens->encode(text, true), true) == text);
  }
}

BOOST_AUTO_TEST_CASE(the_first_word_loses_its_space_and_no_other) {
  const auto tokens = load_tokenizer(golden_folder("llama2_like"));
  const std::vector<token_id> ids = tokens->encode("the house", false);
  stream_decoder of_text(*tokens);
  stream_decoder within(*tokens, true, stream_decoder::start::within_text);
  std::string whole;
  std::string tail;
  for (const token_id id : ids) {
    whole += of_text.push(id);
    tail += within.push(id);
  }
  BOOST_TEST(whole + of_text.flush() == "the house");
  BOOST_TEST(tail + within.flush() == " the house");
  // After a flush the decoder is as new.
  BOOST_TEST(of_text.push(ids[0]).front() != ' ');
}

BOOST_AUTO_TEST_CASE(assembler_equals_repair_for_any_bytes_in_any_portions) {
  dice random(10);
  const std::vector<std::string> parts = {"a",    "\xC3",     "\xA9",     "\xE6",     "\x97",
                                          "\xA5", "\xF0\x9F", "\x91\xA9", "\xED\xA0", "\xF4",
                                          "\x90", "\xC0",     "\xFF",     "\xE0\x80", "zz"};
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    std::string out;
    utf8_assembler assembler;
    for (std::size_t i = random.below(8); i > 0; --i) {
      const std::string part = random.once_in(8) ? random.bytes(3) : random.pick(parts);
      bytes += part;
      assembler.push(part, out);
      BOOST_TEST(utf8::valid(out));
    }
    assembler.flush(out);
    BOOST_TEST(out == utf8::repaired(bytes));
  }
}

BOOST_AUTO_TEST_SUITE_END()
