#include <boost/test/data/test_case.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support.hpp"

using namespace fastserve::model;
using namespace fastserve::model::test;

BOOST_AUTO_TEST_SUITE(goldens)

// scripts/make_tokenizer_goldens.py wrote them with the Hugging Face library.
BOOST_DATA_TEST_CASE(equal_the_reference_library, boost::unit_test::data::make(golden_names), name) {
  const auto tokens = load_tokenizer(golden_folder(name));
  std::istringstream lines(read_text(golden_folder(name) / "golden.jsonl"));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto golden = nlohmann::json::parse(line);
    const auto text = golden.at("text").get<std::string>();
    const auto ids = golden.at("ids").get<std::vector<token_id>>();
    BOOST_TEST(tokens->encode(text, false) == ids, line);
    const auto special = golden.contains("special") ? golden.at("special").get<std::vector<token_id>>() : ids;
    BOOST_TEST(tokens->encode(text, true) == special, line);
    BOOST_TEST(tokens->decode(ids, false) == golden.value("decoded", text));
  }
  BOOST_TEST(count == 140);
}

BOOST_AUTO_TEST_CASE(special_tokens_are_known) {
  const auto tokens = load_tokenizer(golden_folder("llama3_like"));
  const auto bos = tokens->token_to_id("<s>");
  BOOST_REQUIRE(bos.has_value());
  BOOST_TEST(tokens->bos().value() == *bos);
  BOOST_TEST(tokens->is_special(*bos));
  BOOST_TEST(!tokens->is_special(tokens->token_to_id("<left>").value()));
  BOOST_TEST(!tokens->is_special(0));
  BOOST_TEST(!tokens->token_to_id("no such token").has_value());
  BOOST_TEST(tokens->vocab_size() == 910);
  const std::vector<token_id> ids = tokens->encode("so<|eot|> it is", true);
  BOOST_TEST(ids.front() == *bos);
  BOOST_TEST(tokens->decode(ids, true) == "so it is");
  BOOST_TEST(tokens->decode(ids, false) == "<s>so<|eot|> it is");
}

BOOST_AUTO_TEST_CASE(ids_without_a_token_are_left_out) {
  const auto tokens = load_tokenizer(golden_folder("gpt2_like"));
  const std::vector<token_id> ids = {-1, tokens->vocab_size(), 2'000'000'000, -2'000'000'000};
  BOOST_TEST(tokens->decode(ids, false).empty());
  for (const token_id id : ids) BOOST_TEST(tokens->piece(id).empty());
}

BOOST_AUTO_TEST_CASE(ill_formed_text_reads_as_replacement_characters) {
  const auto tokens = load_tokenizer(golden_folder("gpt2_like"));
  BOOST_TEST(tokens->encode("a\xFF\xE6\x97 b\xC3", false) ==
             tokens->encode("a\xEF\xBF\xBD\xEF\xBF\xBD b\xEF\xBF\xBD", false));
}

BOOST_AUTO_TEST_SUITE_END()
