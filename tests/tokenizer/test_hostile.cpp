#include <boost/test/data/test_case.hpp>
#include <nlohmann/json.hpp>

#include "support.hpp"

using namespace fastserve::model;
using namespace fastserve::model::test;
using nlohmann::json;

namespace {

// A small valid tokenizer.json.
json small() {
  return json::parse(R"({
    "added_tokens": [{"id": 5, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}},
    "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "unk_token": "?", "vocab": {"a": 0, "b": 1, "ab": 2, "?": 3, "bab": 4},
              "merges": ["a b", ["b", "ab"]]}
  })");
}

// The refusal of that file after a change.
template <typename Change>
std::string refusal_of(Change change) {
  const temporary_folder folder;
  json document = small();
  change(document);
  folder.write("tokenizer.json", document.dump());
  const std::string message = refusal([&] { load_tokenizer(folder.path()); });
  BOOST_TEST(contains(message, "tokenizer.json: "), message);
  return message;
}

// Every value of a document, by pointer.
void all_values(json& value, std::vector<json*>& out) {
  out.push_back(&value);
  if (value.is_structured()) {
    for (json& child : value) all_values(child, out);
  }
}

void use(const tokenizer& tokens, dice& random) {
  const std::vector<token_id> ids = tokens.encode(random.text(12), true);
  tokens.decode(ids, false);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(hostile)

BOOST_AUTO_TEST_CASE(the_small_file_works) {
  const temporary_folder folder;
  folder.write("tokenizer.json", small().dump());
  const auto tokens = load_tokenizer(folder.path());
  BOOST_TEST(tokens->encode("bab ab x<s>", true) == (std::vector<token_id>{5, 4, 2, 3, 5}));
}

BOOST_AUTO_TEST_CASE(each_lie_is_named) {
  const auto& is = [](const std::string& message, const char* part) {
    BOOST_TEST(contains(message, part), message << " should name: " << part);
  };
  is(refusal_of([](json& d) { d.erase("model"); }), "has no 'model'");
  is(refusal_of([](json& d) { d["model"] = 7; }), "expected an object");
  is(refusal_of([](json& d) { d["model"]["type"] = "Magic"; }), "'Magic' is not supported");
  is(refusal_of([](json& d) { d["model"]["vocab"] = "abc"; }),
     "model.vocab: expected an object, found string");
  is(refusal_of([](json& d) { d["model"]["vocab"]["a"] = "0"; }), "expected an integer as id of 'a'");
  is(refusal_of([](json& d) { d["model"]["vocab"]["a"] = -1; }), "id -1");
  is(refusal_of([](json& d) { d["model"]["vocab"]["a"] = 1e300; }), "expected an integer as id of 'a'");
  is(refusal_of([](json& d) { d["model"]["vocab"]["a"] = 4294967296; }), "'a'");
  is(refusal_of([](json& d) { d["model"]["vocab"]["a"] = 18446744073709551615u; }), "'a'");
  is(refusal_of([](json& d) { d["model"]["vocab"]["a"] = 1; }), "id 1 is given to both 'a' and 'b'");
  is(refusal_of([](json& d) { d["model"]["vocab"][std::string(70000, 'x')] = 9; }), "70000 bytes");
  is(refusal_of([](json& d) { d["model"]["merges"] = json::array({"a c"}); }),
     "names 'c', which is no token");
  is(refusal_of([](json& d) { d["model"]["merges"] = json::array({"b a"}); }), "'ba' is no token");
  is(refusal_of([](json& d) { d["model"]["merges"] = json::array({"a b c"}); }), "expected two tokens");
  is(refusal_of([](json& d) { d["model"]["merges"] = json::array({json::array({"a"})}); }),
     "expected two tokens");
  is(refusal_of([](json& d) { d["model"]["merges"] = 1; }), "model.merges: expected an array");
  is(refusal_of([](json& d) { d["model"]["end_of_word_suffix"] = "</w>"; }), "'end_of_word_suffix'");
  is(refusal_of([](json& d) { d["added_tokens"][0]["id"] = 1; }), "id 1 is given to both 'b' and '<s>'");
  is(refusal_of([](json& d) { d["added_tokens"][0]["id"] = 1000000000; }), "id 1000000000");
  is(refusal_of([](json& d) { d["added_tokens"][0].erase("content"); }), "added_tokens[0]: has no 'content'");
  is(refusal_of([](json& d) { d["added_tokens"][0]["special"] = 1; }), "expected true or false");
  is(refusal_of([](json& d) { d["added_tokens"][0]["content"] = std::string(3000, 'x'); }), "3000 bytes");
  is(refusal_of([](json& d) { d["pre_tokenizer"]["type"] = "Tea\nleaves"; }), "Tea\\u000aleaves");
  is(refusal_of([](json& d) { d["normalizer"] = {{"type", "Nmt"}}; }), "normalizer 'Nmt' is not supported");
  is(refusal_of([](json& d) { d["decoder"] = {{"type", "CTC"}}; }), "decoder 'CTC' is not supported");
  is(refusal_of([](json& d) {
       d["pre_tokenizer"] = {{"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "(a"}}}};
     }),
     "does not compile");
  is(refusal_of([](json& d) { d["post_processor"]["special_tokens"]["<s>"]["ids"] = {77}; }), "id 77");
  is(refusal_of([](json& d) { d["post_processor"]["special_tokens"] = json::object(); }), "has no '<s>'");
  is(refusal_of([](json& d) {
       d["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAEAAAAA"}};
     }),
     "character map");
  is(refusal_of([](json& d) {
       json deep = {{"type", "NFC"}};
       for (int i = 0; i < 100; ++i) deep = {{"type", "Sequence"}, {"normalizers", json::array({deep})}};
       d["normalizer"] = deep;
     }),
     "deeper than 16");
}

BOOST_AUTO_TEST_CASE(files_that_are_no_json) {
  const temporary_folder folder;
  for (const std::string content :
       {"", "{", "[]", "null", "{\"model\": {\"vocab\": {\"\xFF\": 1}}}", "\x01\x02"}) {
    folder.write("tokenizer.json", content);
    BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "tokenizer.json: "));
  }
  folder.write("tokenizer.json", std::string(200000, '['));
  refusal([&] { load_tokenizer(folder.path()); });
  folder.write("tokenizer.json", small().dump());
  folder.write("tokenizer_config.json", "{]");
  BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "tokenizer_config.json: "));
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "a"}}})");
  BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "added_tokens_decoder"));
}

BOOST_DATA_TEST_CASE(truncated_files, boost::unit_test::data::make(golden_names), name) {
  const std::string whole = read_text(golden_folder(name) / "tokenizer.json");
  const temporary_folder folder;
  for (std::size_t part = 0; part < 16; ++part) {
    folder.write("tokenizer.json", whole.substr(0, (whole.size() - 2) * part / 16));
    refusal([&] { load_tokenizer(folder.path()); });
  }
}

// Changed bytes: mostly broken JSON, some changed tokens and merges.
BOOST_DATA_TEST_CASE(random_bytes, boost::unit_test::data::make(golden_names), name) {
  const std::string whole = read_text(golden_folder(name) / "tokenizer.json");
  const temporary_folder folder;
  dice random(18);
  for (int round = 0; round < (fastserve::test::sanitized ? 50 : 100); ++round) {
    std::string content = whole;
    for (std::size_t i = 1 + random.below(3); i > 0; --i) {
      const std::size_t at = random.below(content.size());
      if (random.once_in(4)) {
        content.erase(at, 1 + random.below(40));
      } else {
        content[at] = static_cast<char>(random.once_in(2) ? random.below(256) : '0' + random.below(75));
      }
    }
    folder.write("tokenizer.json", content);
    try {
      use(*load_tokenizer(folder.path()), random);
    } catch (const std::runtime_error& error) {
      BOOST_TEST(!contains(error.what(), "\n"));
    }
  }
}

// Changed values: valid JSON that says other things.
BOOST_DATA_TEST_CASE(random_values, boost::unit_test::data::make(golden_names), name) {
  const json whole = json::parse(read_text(golden_folder(name) / "tokenizer.json"));
  const temporary_folder folder;
  dice random(19);
  const std::vector<json> strange = {nullptr,
                                     true,
                                     -1,
                                     0,
                                     3,
                                     1e300,
                                     4000000000u,
                                     "",
                                     "a",
                                     "\xE2\x96\x81",
                                     " ",
                                     json::array(),
                                     json::object(),
                                     json::array({1, 2}),
                                     "<s>",
                                     ".*",
                                     "ByteLevel"};
  int refused = 0;
  for (int round = 0; round < (fastserve::test::sanitized ? 40 : 120); ++round) {
    json document = whole;
    for (std::size_t i = 1 + random.below(2); i > 0; --i) {
      // The vocabulary and the merges are most of the file: half of the changes go elsewhere.
      json model = std::move(document["model"]);
      document["model"] = nullptr;
      std::vector<json*> small_values;
      all_values(document, small_values);
      std::vector<json*> model_values;
      all_values(model, model_values);
      *(random.once_in(2) ? random.pick(small_values) : random.pick(model_values)) = random.pick(strange);
      if (document.is_object() && document.contains("model") && document["model"].is_null()) {
        document["model"] = std::move(model);
      }
      if (!document.is_object()) break;
    }
    folder.write("tokenizer.json", document.dump());
    try {
      use(*load_tokenizer(folder.path()), random);
    } catch (const std::runtime_error& error) {
      ++refused;
      BOOST_TEST(!contains(error.what(), "\n"));
    }
  }
  BOOST_TEST(refused > 20);
}

BOOST_AUTO_TEST_SUITE_END()
