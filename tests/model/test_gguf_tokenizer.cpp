// Tokenizers from GGUF metadata: against llama.cpp's own vectors on real vocabularies, and against the
// goldens of the Hugging Face library by way of a GGUF file.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "../support/temporary_folder.hpp"
#include "expect_error.hpp"
#include "gguf_writer.hpp"
#include "model/gguf_tokenizer.hpp"
#include "model/model_folder.hpp"

namespace fastserve::model::test {
namespace {

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  BOOST_REQUIRE_MESSAGE(in, file.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::filesystem::path shared() { return FASTSERVE_SHARED_DATA; }

boost::test_tools::assertion_result has_vectors(boost::unit_test::test_unit_id) {
  const bool there = std::filesystem::is_directory(shared() / "vectors");
  if (!there) std::cout << "skipped: " << (shared() / "vectors").string() << " is absent\n";
  return there;
}

gguf_writer byte_level(const nlohmann::json& tokenizer, const std::string& pre) {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  const auto put = [&](const std::string& text, std::size_t id, std::int32_t type) {
    if (tokens.size() <= id) tokens.resize(id + 1), types.resize(id + 1, 5);
    tokens[id] = text;
    types[id] = type;
  };
  for (const auto& [text, id] : tokenizer["model"]["vocab"].items()) put(text, id, 1);
  for (const auto& added : tokenizer["added_tokens"])
    put(added["content"], added["id"], added["special"] ? 3 : 4);
  std::vector<std::string> merges;
  for (const auto& merge : tokenizer["model"]["merges"])
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  gguf_writer w;
  w.text("general.architecture", "llama");
  w.text("tokenizer.ggml.model", "gpt2");
  w.text("tokenizer.ggml.pre", pre);
  w.texts("tokenizer.ggml.tokens", tokens);
  w.numbers<std::int32_t>("tokenizer.ggml.token_type", gguf_type::i32, types);
  w.texts("tokenizer.ggml.merges", merges);
  return w;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(vectors, *boost::unit_test::precondition(has_vectors))

BOOST_DATA_TEST_CASE(every_line, boost::unit_test::data::make({"gpt-2", "llama-spm"}), name) {
  const auto base = shared() / "vectors" / ("ggml-vocab-" + std::string(name) + ".gguf");
  const auto tokens = gguf_tokenizer(gguf_file(base));
  BOOST_REQUIRE(tokens);
  const std::string mark = "\n__ggml_vocab_test__\n";
  auto text = read_text(base.string() + ".inp");
  std::istringstream lines(read_text(base.string() + ".out"));
  int count = 0;
  for (std::string line; !text.empty() && std::getline(lines, line); ++count) {
    const auto end = text.find(mark);
    std::istringstream numbers(line);
    const std::vector<token_id> expected{std::istream_iterator<token_id>(numbers), {}};
    const auto one = text.substr(0, end);
    BOOST_TEST(tokens->encode(one, false) == expected, one);
    text = end == text.npos ? "" : text.substr(end + mark.size());
  }
  BOOST_TEST(count >= 46);
  if (std::string_view(name) == "llama-spm") {
    BOOST_TEST((tokens->encode("a", true) == std::vector<token_id>{1, 263}));
    BOOST_TEST(tokens->decode(tokens->encode("a b", false), true) == "a b");
  }
}

BOOST_AUTO_TEST_CASE(a_whole_model_speaks_like_its_folder) {
  const auto models = shared() / "models";
  const auto a = open_tokenizer(models / "stories260K/stories260K.gguf");
  const auto b = open_tokenizer(models / "stories260K-hf");
  const auto text = read_text(shared() / "corpora/tinyshakespeare/input.txt").substr(0, 200000);
  BOOST_TEST((a->encode(text, true) == b->encode(text, true)));
  const auto ids = a->encode(text, true);
  BOOST_TEST(a->decode(ids, true) == text);
  BOOST_TEST(a->vocab_size() == 512);
  BOOST_TEST((a->bos() == 1 && a->eos() == 2));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_DATA_TEST_CASE(equal_the_reference_library,
                     boost::unit_test::data::make({"gpt2_like", "llama3_like", "qwen2_like"}) ^
                         boost::unit_test::data::make({"gpt-2", "llama-bpe", "qwen2"}),
                     name, pre) {
  const auto golden = std::filesystem::path(FASTSERVE_TEST_DATA) / "tokenizer" / name;
  const auto json = nlohmann::json::parse(read_text(golden / "tokenizer.json"));
  const temporary_folder folder;
  auto w = byte_level(json, pre);
  const bool has_bos = std::string_view(pre) == "llama-bpe";
  if (has_bos) w.number("tokenizer.ggml.bos_token_id", 909U);
  const auto tokens = open_tokenizer(folder.write("m.gguf", w.bytes()));
  BOOST_REQUIRE(tokens);
  // GGUF has no flags of added tokens
  std::vector<std::string> flagged;
  for (const auto& added : json["added_tokens"])
    if (added["lstrip"] || added["rstrip"] || added["single_word"] || added["normalized"])
      flagged.push_back(added["content"]);
  std::istringstream lines(read_text(golden / "golden.jsonl"));
  int count = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto want = nlohmann::json::parse(line);
    const auto text = want.at("text").get<std::string>();
    if (std::any_of(flagged.begin(), flagged.end(), [&](const auto& f) { return text.find(f) != text.npos; }))
      continue;
    ++count;
    auto ids = want.at("ids").get<std::vector<token_id>>();
    BOOST_TEST(tokens->encode(text, false) == ids, line);
    BOOST_TEST(tokens->decode(ids, false) == want.value("decoded", text));
    if (has_bos) ids.insert(ids.begin(), 909);
    BOOST_TEST(tokens->encode(text, true) == ids, line);
  }
  BOOST_TEST(count > 80);
}

BOOST_AUTO_TEST_CASE(every_pre_tokenizer_loads) {
  const auto json = nlohmann::json::parse(
      read_text(std::filesystem::path(FASTSERVE_TEST_DATA) / "tokenizer/gpt2_like/tokenizer.json"));
  const temporary_folder folder;
  const std::string text = "Hello WORLD's 1234 caf\xC3\xA9\n\n  x";
  for (const auto* pre : {"tekken", "smollm", "llama-bpe", "command-r", "deepseek-r1-qwen"}) {
    const auto tokens = open_tokenizer(folder.write("m.gguf", byte_level(json, pre).bytes()));
    BOOST_TEST(tokens->decode(tokens->encode(text, true), true) == text);
  }
  const auto digits = open_tokenizer(folder.write("m.gguf", byte_level(json, "smollm").bytes()));
  BOOST_TEST(digits->encode("1234", false).size() == 4U);
  expect_error([&] { open_tokenizer(folder.write("m.gguf", byte_level(json, "default").bytes())); },
               {"m.gguf: tokenizer.ggml.pre is", "default", "expected one of: tekken, gpt-2"});
}

BOOST_AUTO_TEST_CASE(hostile_vocabularies_are_refused) {
  const temporary_folder folder;
  const auto with = [&](const std::string& model, const std::vector<std::string>& tokens,
                        const std::function<void(gguf_writer&)>& more) {
    gguf_writer w;
    w.text("tokenizer.ggml.model", model);
    w.texts("tokenizer.ggml.tokens", tokens);
    more(w);
    const auto file = folder.write("m.gguf", w.bytes());
    return [file] { open_tokenizer(file); };
  };
  const auto nothing = [](gguf_writer&) {};
  const auto types = [](std::vector<std::int32_t> all) {
    return
        [all](gguf_writer& w) { w.numbers<std::int32_t>("tokenizer.ggml.token_type", gguf_type::i32, all); };
  };
  const auto merges = [](std::vector<std::string> all) {
    return [all](gguf_writer& w) { w.texts("tokenizer.ggml.merges", all); };
  };
  expect_error(with("rwkv", {"a"}, nothing), {"m.gguf: tokenizer.ggml.model is", "rwkv", "llama or gpt2"});
  expect_error(with("llama", {}, nothing), {"tokenizer.ggml.tokens is missing or empty"});
  expect_error(with("llama", {"a", "a"}, nothing), {"m.gguf: "});
  expect_error(with("llama", {"a"}, nothing), {"tokenizer.ggml.scores has 0 entries, expected 1"});
  expect_error(with("llama", {"a"}, types({1, 1})), {"tokenizer.ggml.token_type has 2 entries, expected 1"});
  expect_error(with("llama", {"a"}, types({9})), {"token 0 is of type 9"});
  expect_error(with("llama", {"a"},
                    [](gguf_writer& w) { w.numbers<float>("tokenizer.ggml.scores", gguf_type::f32, {NAN}); }),
               {"the score of token 0 is not a number"});
  expect_error(
      with("llama", {"a"},
           [](gguf_writer& w) { w.numbers<float>("tokenizer.ggml.scores", gguf_type::f32, {0.0F}); }),
      {"has no token <0x00>"});
  expect_error(with("gpt2", {"a"}, nothing), {"tokenizer.ggml.merges is missing or empty"});
  expect_error(with("gpt2", {"a"}, merges({"ab"})), {"merge 0 is", "expected two tokens"});
  expect_error(with("gpt2", {"a"}, merges({"a b"})), {"which is no token"});
  expect_error(with("gpt2", {"a", "b"}, merges({"a b"})), {"m.gguf: "});
  gguf_writer none;
  none.text("general.architecture", "llama");
  BOOST_TEST(!open_tokenizer(folder.write("m.gguf", none.bytes())));
}

}  // namespace fastserve::model::test
