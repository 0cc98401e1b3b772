#include <sentencepiece_processor.h>

#include <cstdio>
#include <set>

#include "sentencepiece_writer.hpp"
#include "support.hpp"

using namespace fastserve::model;
using namespace fastserve::model::test;

namespace {

constexpr int normal = 1;
constexpr int unknown = 2;
constexpr int control = 3;
constexpr int user_defined = 4;
constexpr int byte = 6;

// A random byte-pair model over a few characters; some are no piece of their own.
std::string random_model(dice& random, bool with_user_defined) {
  sentencepiece_writer writer;
  writer.piece("<unk>", 0, unknown);
  writer.piece("<s>", 0, control);
  writer.piece("</s>", 0, control);
  for (int i = 0; i < 256; ++i) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(i));
    writer.piece(name, 0, byte);
  }
  const std::vector<std::string> characters = {"a", "b", "c", "\xE2\x96\x81", "\xC3\xA9", "\xE6\x97\xA5"};
  std::set<std::string> known;
  if (with_user_defined) {
    for (const char* text : {"abc", "ab", "q", "\xC3\xA9\xC3\xA9"}) {
      known.insert(text);
      writer.piece(text, 0, user_defined);
    }
  }
  std::vector<std::string> pieces;
  for (const std::string& text : characters) {
    if (random.once_in(4)) continue;
    pieces.push_back(text);
    known.insert(text);
    writer.piece(text, -100, normal);
  }
  while (pieces.size() < 24) {
    const std::string text = random.once_in(3) || pieces.empty()
                                 ? random.pick(characters) + random.pick(characters)
                                 : random.pick(pieces) + random.pick(pieces);
    if (text.size() > 24 || !known.insert(text).second) continue;
    pieces.push_back(text);
    writer.piece(text, -static_cast<float>(random.below(12)), normal);
  }
  return writer.finish(2, true, !random.once_in(4), random.once_in(3), random.once_in(5));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(sentencepiece_files)

BOOST_AUTO_TEST_CASE(byte_pair_models_equal_the_library) {
  dice random(15);
  const temporary_folder folder;
  const std::vector<std::string> parts = {
      "a", "b",  "c",     " ", "  ", "\xC3\xA9", "\xE6\x97\xA5", "\xE2\x96\x81", "x", "\xF0\x9F\x91\xA9",
      "q", "\n", "<0x41>"};
  std::size_t tokens_seen = 0;
  for (int model = 0; model < 60; ++model) {
    const std::string content = random_model(random, model % 2 == 1);
    folder.write("tokenizer.model", content);
    const auto tokens = load_tokenizer(folder.path());
    sentencepiece::SentencePieceProcessor library;
    BOOST_REQUIRE(library.LoadFromSerializedProto(content).ok());
    for (int round = 0; round < 100; ++round) {
      std::string text;
      for (std::size_t i = random.below(round % 10 == 0 ? 200 : 20); i > 0; --i) text += random.pick(parts);
      std::vector<int> expected;
      BOOST_REQUIRE(library.Encode(text, &expected).ok());
      BOOST_TEST(tokens->encode(text, false) == expected, "model " << model << ": " << text);
      tokens_seen += expected.size();
      expected.insert(expected.begin(), 1);
      BOOST_TEST(tokens->encode(text, true) == expected);
    }
  }
  BOOST_TEST(tokens_seen > 50000u);
}

BOOST_AUTO_TEST_CASE(other_models_go_through_the_library) {
  sentencepiece_writer writer;
  writer.piece("<unk>", 0, unknown);
  writer.piece("<s>", 0, control);
  writer.piece("</s>", 0, control);
  writer.piece("\xE2\x96\x81", -2, normal);
  writer.piece("\xE2\x96\x81the", -1, normal);
  writer.piece("the", -3, normal);
  writer.piece("t", -4, normal);
  const temporary_folder folder;
  folder.write("tokenizer.model", writer.finish(1, false, true, true));
  const auto tokens = load_tokenizer(folder.path());
  BOOST_TEST(tokens->encode("the the t z", true) == (std::vector<token_id>{1, 4, 4, 3, 6, 3, 0}));
  BOOST_TEST(tokens->encode("the</s>t", false) == (std::vector<token_id>{4, 2, 3, 6}));
  BOOST_TEST(tokens->decode(std::vector<token_id>{1, 4, 4, 2}, true) == "the the");
}

BOOST_AUTO_TEST_CASE(legacy_decides_on_the_space_after_special_tokens) {
  dice random(16);
  const temporary_folder folder;
  sentencepiece_writer writer;
  writer.piece("<unk>", 0, unknown);
  writer.piece("<s>", 0, control);
  writer.piece("</s>", 0, control);
  for (int i = 0; i < 256; ++i) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(i));
    writer.piece(name, 0, byte);
  }
  writer.piece("\xE2\x96\x81", -1, normal);  // 259
  writer.piece("a", -2, normal);             // 260
  folder.write("tokenizer.model", writer.finish(2, true, true, false));
  BOOST_TEST(load_tokenizer(folder.path())->encode("a</s>a", false) ==
             (std::vector<token_id>{259, 260, 2, 259, 260}));
  folder.write("tokenizer_config.json",
               R"({"legacy": false, "add_bos_token": false, "add_eos_token": true})");
  const auto modern = load_tokenizer(folder.path());
  BOOST_TEST(modern->encode("a</s>a", true) == (std::vector<token_id>{259, 260, 2, 260, 2}));
}

BOOST_AUTO_TEST_CASE(malformed_models_are_refused) {
  const temporary_folder folder;
  const auto message = [&](const std::string& content) {
    folder.write("tokenizer.model", content);
    return refusal([&] { load_tokenizer(folder.path()); });
  };
  BOOST_TEST(contains(message("\n\x05"
                              "ab"),
                      "past the end"));
  BOOST_TEST(contains(message(""), "no pieces"));
  sentencepiece_writer two;
  two.piece("<unk>", 0, unknown);
  two.piece("a", 0, normal);
  two.piece("a", 0, normal);
  BOOST_TEST(contains(message(two.finish(2, true, true, false)), "'a' has both id 1 and 2"));
  sentencepiece_writer none;
  none.piece("a", 0, normal);
  BOOST_TEST(contains(message(none.finish(2, true, true, false)), "0 unknown pieces"));
}

BOOST_AUTO_TEST_CASE(mutations_never_crash) {
  dice random(17);
  const temporary_folder folder;
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    dice maker(static_cast<std::uint32_t>(round % 7));
    std::string content = random_model(maker, round % 2 == 1);
    for (std::size_t i = 1 + random.below(4); i > 0; --i) {
      const std::size_t at = random.below(content.size());
      if (random.once_in(5)) {
        content.erase(at, 1 + random.below(20));
      } else if (random.once_in(20)) {
        content.resize(at);
      } else {
        content[at] = static_cast<char>(random.below(256));
      }
      if (content.empty()) break;
    }
    folder.write("tokenizer.model", content);
    try {
      const auto tokens = load_tokenizer(folder.path());
      tokens->decode(tokens->encode(random.text(10), true), false);
    } catch (const std::runtime_error&) {
      ++refused;
    }
  }
  BOOST_TEST(refused > 100);
}

BOOST_AUTO_TEST_SUITE_END()
