#include <nlohmann/json.hpp>
#include <thread>

#include "sentencepiece_writer.hpp"
#include "support.hpp"

using namespace fastserve::model;
using namespace fastserve::model::test;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(loading)

BOOST_AUTO_TEST_CASE(an_empty_folder_is_refused) {
  const temporary_folder folder;
  BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "no tokenizer found"));
  BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path() / "absent"); }), "no tokenizer found"));
}

// GPT-2's two files say the same as a tokenizer.json with the same content, under both names.
BOOST_AUTO_TEST_CASE(vocab_and_merges_equal_tokenizer_json) {
  const json whole = json::parse(read_text(golden_folder("gpt2_like") / "tokenizer.json"));
  std::string merges = "#version: 0.2\n";
  for (const json& merge : whole.at("model").at("merges")) merges += merge.get<std::string>() + "\n";
  json plain = whole;
  plain["added_tokens"] = json::array();
  const temporary_folder reference;
  reference.write("tokenizer.json", plain.dump());
  const auto expected = load_tokenizer(reference.path());
  for (const auto& [vocab_name, merges_name] :
       {std::pair("vocab.json", "merges.txt"), {"encoder.json", "vocab.bpe"}}) {
    const temporary_folder folder;
    folder.write(vocab_name, whole.at("model").at("vocab").dump());
    folder.write(merges_name, merges);
    const auto tokens = load_tokenizer(folder.path());
    dice random(20);
    for (int round = 0; round < 300; ++round) {
      const std::string text = random.text(10);
      BOOST_TEST(tokens->encode(text, true) == expected->encode(text, false));
    }
    folder.write(merges_name, merges + "a b c\n");
    BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "expected two tokens"));
    folder.write(merges_name, merges + "zzz yyy\n");
    BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "'zzz', which is no token"));
  }
}

BOOST_AUTO_TEST_CASE(qwen_is_told_by_its_class) {
  const json whole = json::parse(read_text(golden_folder("qwen2_like") / "tokenizer.json"));
  std::string merges;
  for (const json& merge : whole.at("model").at("merges")) {
    merges += merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>() + "\n";
  }
  const temporary_folder folder;
  folder.write("vocab.json", whole.at("model").at("vocab").dump());
  folder.write("merges.txt", merges);
  json added = json::object();
  for (const json& token : whole.at("added_tokens")) {
    added[std::to_string(token.at("id").get<int>())] = token;
  }
  folder.write("tokenizer_config.json",
               json{{"tokenizer_class", "Qwen2Tokenizer"}, {"added_tokens_decoder", added}}.dump());
  const auto tokens = load_tokenizer(folder.path());
  const auto expected = load_tokenizer(golden_folder("qwen2_like"));
  dice random(21);
  for (int round = 0; round < 300; ++round) {
    const std::string text = random.text(10);
    BOOST_TEST(tokens->encode(text, true) == expected->encode(text, true));
  }
}

BOOST_AUTO_TEST_CASE(wordpiece_list_equals_tokenizer_json) {
  const json whole = json::parse(read_text(golden_folder("bert_like") / "tokenizer.json"));
  std::vector<std::string> tokens(whole.at("model").at("vocab").size());
  for (const auto& [token, id] : whole.at("model").at("vocab").items())
    tokens.at(id.get<std::size_t>()) = token;
  std::string list;
  for (const std::string& token : tokens) list += token + "\n";
  const temporary_folder folder;
  folder.write("vocab.txt", list);
  const auto found = load_tokenizer(folder.path());
  const auto expected = load_tokenizer(golden_folder("bert_like"));
  dice random(22);
  for (int round = 0; round < 300; ++round) {
    const std::string text = random.text(10);
    BOOST_TEST(found->encode(text, true) == expected->encode(text, true));
  }
  folder.write("tokenizer_config.json", R"({"do_lower_case": false})");
  BOOST_TEST(load_tokenizer(folder.path())->encode("The", false) != expected->encode("The", false));
}

BOOST_AUTO_TEST_CASE(tiktoken_lines) {
  // "a", "b", ..., one line a byte, then "ab" and "abb": ranks are ids.
  const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto base64 = [&](const std::string& bytes) {
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
      unsigned bits = 0;
      for (std::size_t j = 0; j < 3; ++j) {
        bits = bits << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
      }
      for (std::size_t j = 0; j < 4; ++j) {
        out.push_back(i + j > bytes.size() ? '=' : digits[bits >> (18 - 6 * j) & 63]);
      }
    }
    return out;
  };
  std::string lines;
  for (int byte = 0; byte < 256; ++byte) {
    lines += base64(std::string(1, static_cast<char>(byte))) + " " + std::to_string(byte) + "\n";
  }
  lines += base64("ab") + " 256\n" + base64("abb") + " 257\n";
  const temporary_folder folder;
  folder.write("tokenizer.model", lines);
  const auto tokens = load_tokenizer(folder.path());
  BOOST_TEST(tokens->encode("abbab<|eot_id|>", true) == (std::vector<token_id>{258, 257, 256, 258 + 9}));
  BOOST_TEST(tokens->vocab_size() == 258 + 256);
  BOOST_TEST(tokens->bos().value() == 258);
  BOOST_TEST(tokens->eos().value() == 259);
  BOOST_TEST(tokens->token_to_id("<|reserved_special_token_250|>").value() == 258 + 255);
  folder.write("added_tokens.json", R"({"<mine>": 514})");  // behind its own
  const auto more = load_tokenizer(folder.path());
  BOOST_TEST(more->encode("a<mine>", true) == (std::vector<token_id>{258, 97, 514}));
  std::filesystem::remove(folder.path() / "added_tokens.json");
  folder.write("tokenizer.model", lines + "!! 258\n");
  BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "line 259"));
  folder.write("tokenizer.model", lines + "YWJj 7\n");
  BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "rank 7, expected 258"));
  folder.write("tokenizer.model", "YWJj 0\n");
  BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "no token for the single byte"));
}

BOOST_AUTO_TEST_CASE(the_configuration_is_honoured) {
  const temporary_folder folder;
  folder.write("tokenizer.json", read_text(golden_folder("llama3_like") / "tokenizer.json"));
  const auto ends = [&](const char* config) {
    folder.write("tokenizer_config.json", config);
    const auto tokens = load_tokenizer(folder.path());
    const std::vector<token_id> ids = tokens->encode("a", true);
    std::string out = tokens->bos() ? tokens->piece(*tokens->bos()) : "-";
    out += tokens->eos() ? tokens->piece(*tokens->eos()) : "-";
    for (const token_id id : ids) out += "," + tokens->piece(id);
    return out;
  };
  BOOST_TEST(ends("{}") == "<s><|endoftext|>,<s>,a");
  BOOST_TEST(ends(R"({"bos_token": "<s>", "add_bos_token": false})") == "<s><|endoftext|>,a");
  BOOST_TEST(ends(R"({"eos_token": {"content": "<|eot|>"}, "add_eos_token": true})") ==
             "<s><|eot|>,<s>,a,<|eot|>");
  BOOST_TEST(ends(R"({"bos_token": null, "eos_token": "<|eot|>"})") == "<s><|eot|>,<s>,a");
  // Tokens that only the configuration knows.
  folder.write("tokenizer_config.json",
               R"({"added_tokens_decoder": {"1000": {"content": "<new>", "special": true}}})");
  const auto tokens = load_tokenizer(folder.path());
  BOOST_TEST(tokens->vocab_size() == 1001);
  BOOST_TEST(tokens->encode("a<new>", false).back() == 1000);
  BOOST_TEST(tokens->is_special(1000));
  BOOST_TEST(tokens->decode(std::vector<token_id>{950, 1000}, false) == "<new>");
}

namespace {

// 259 pieces: <unk>, <s>, </s> and the bytes, then a few of text.
std::string small_sentencepiece() {
  sentencepiece_writer writer;
  writer.piece("<unk>", 0, 2);
  writer.piece("<s>", 0, 3);
  writer.piece("</s>", 0, 3);
  for (int i = 0; i < 256; ++i) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(i));
    writer.piece(name, 0, 6);
  }
  for (const char* text : {"\xE2\x96\x81", "a", "b"}) writer.piece(text, -1, 1);
  return writer.finish(2, true, true, false);
}

}  // namespace

// Folders from before added_tokens_decoder: tokens of chats in a file of their own.
BOOST_AUTO_TEST_CASE(older_folders_add_tokens) {
  const temporary_folder folder;
  folder.write("tokenizer.model", small_sentencepiece());
  folder.write("added_tokens.json", R"({"<|im_end|>": 262, "<|im_start|>": 263, "<tool>": 264, "<x>": 265})");
  folder.write("special_tokens_map.json",
               R"({"eos_token": "<|im_end|>",
                   "additional_special_tokens": ["<|im_start|>", {"content": "<x>", "lstrip": false}]})");
  const auto tokens = load_tokenizer(folder.path());
  BOOST_TEST(tokens->vocab_size() == 266);
  BOOST_TEST(tokens->eos().value() == 262);
  BOOST_TEST(tokens->encode("<|im_start|>a<tool><|im_end|>", true) ==
             (std::vector<token_id>{1, 263, 259, 260, 264, 262}));
  BOOST_TEST(tokens->is_special(262));
  BOOST_TEST(tokens->is_special(263));
  BOOST_TEST(!tokens->is_special(264));
  BOOST_TEST(tokens->is_special(265));
  BOOST_TEST(tokens->decode(std::vector<token_id>{263, 260, 264, 262}, true) == "a<tool>");
  // The newer list is whole.
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {"262": {"content": "<new>"}}})");
  BOOST_TEST(load_tokenizer(folder.path())->vocab_size() == 263);

  const json whole = json::parse(read_text(golden_folder("gpt2_like") / "tokenizer.json"));
  const temporary_folder pairs;
  pairs.write("vocab.json", whole.at("model").at("vocab").dump());
  pairs.write("merges.txt", "");
  pairs.write("added_tokens.json", R"({"<|fim|>": 2000})");
  pairs.write("tokenizer_config.json", R"({"extra_special_tokens": {"middle": "<|fim|>"}})");
  const auto gpt2 = load_tokenizer(pairs.path());
  BOOST_TEST(gpt2->encode("<|fim|>", false) == std::vector<token_id>{2000});
  BOOST_TEST(gpt2->is_special(2000));
  // A tokenizer.json has them itself.
  pairs.write("tokenizer.json", whole.dump());
  BOOST_TEST(!load_tokenizer(pairs.path())->token_to_id("<|fim|>"));
}

BOOST_AUTO_TEST_CASE(bad_added_tokens_are_refused) {
  const temporary_folder folder;
  folder.write("tokenizer.model", small_sentencepiece());
  const auto refused = [&](const std::string& text) {
    folder.write("added_tokens.json", text);
    return refusal([&] { load_tokenizer(folder.path()); });
  };
  BOOST_TEST(contains(refused(R"(["<x>"])"), "added_tokens.json: expected a JSON object"));
  BOOST_TEST(
      contains(refused(R"({"<x>": -1})"), "added_tokens.json: at '<x>': is -1, expected 0 to 4194303"));
  BOOST_TEST(contains(refused(R"({"<x>": 4194304})"), "is 4194304"));
  BOOST_TEST(contains(refused(R"({"<x>": 18446744073709551615})"), "below 2^63"));
  BOOST_TEST(contains(refused(R"({"<x\n>": "262"})"), "at '<x\\u000a>': expected an integer, found string"));
  BOOST_TEST(contains(refused(R"({"<x>": 260})"), "id 260 is given to both 'a' and '<x>'"));
  BOOST_TEST(contains(refused(json{{std::string(2000, 'x'), 262}}.dump()), "2000 bytes"));
  folder.write("added_tokens.json", "{}");
  folder.write("special_tokens_map.json", R"({"additional_special_tokens": "<x>"})");
  BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }),
                      "special_tokens_map.json: at additional_special_tokens: expected an array"));
  folder.write("special_tokens_map.json", R"({"additional_special_tokens": [3]})");
  BOOST_TEST(contains(refusal([&] { load_tokenizer(folder.path()); }), "expected a string, found number"));
}

// One tokenizer, many threads: the same answers, and (under a sanitizer) no race.
BOOST_AUTO_TEST_CASE(threads_share_a_tokenizer) {
  const auto tokens = load_tokenizer(golden_folder("qwen2_like"));
  std::vector<std::string> texts;
  std::vector<std::vector<token_id>> expected;
  dice random(23);
  for (int i = 0; i < 200; ++i) {
    texts.push_back(random.text(20));
    expected.push_back(tokens->encode(texts.back(), false));
  }
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < texts.size(); ++i)
        count += tokens->encode(texts[i], false) != expected[i] ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : wrong) BOOST_TEST(count == 0);
}

BOOST_AUTO_TEST_SUITE_END()
