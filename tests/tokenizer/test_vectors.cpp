#include <boost/test/data/test_case.hpp>
#include <iterator>
#include <sstream>

#include "support.hpp"

using namespace fastserve::model;
using namespace fastserve::model::test;

namespace {

struct vector_set {
  const char* name;    // of the vectors
  const char* folder;  // of the tokenizer
  const char* only;    // the one file to use, or null for the folder as it is
};

std::ostream& operator<<(std::ostream& out, const vector_set& set) {
  return out << set.name << " " << set.folder << " " << (set.only ? set.only : "");
}

const std::vector<vector_set> sets = {{"gpt-2", "gpt2", nullptr},
                                      {"llama-bpe", "llama3", nullptr},
                                      {"llama-bpe", "llama3", "tokenizer.model"},
                                      {"llama-spm", "llama2", "tokenizer.json"},
                                      {"llama-spm", "llama2", "tokenizer.model"},
                                      {"bert-bge", "bert-base-uncased", "tokenizer.json"},
                                      {"bert-bge", "bert-base-uncased", "vocab.txt"}};

std::vector<std::string> split_text(const std::string& text, const std::string& mark) {
  std::vector<std::string> out;
  std::size_t done = 0;
  for (std::size_t at; (at = text.find(mark, done)) != std::string::npos; done = at + mark.size()) {
    out.push_back(text.substr(done, at - done));
  }
  out.push_back(text.substr(done));
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(vectors, *boost::unit_test::precondition(has_shared_data))

BOOST_DATA_TEST_CASE(every_line, boost::unit_test::data::make(sets), set) {
  const auto base = shared_data() / "vectors" / (std::string("ggml-vocab-") + set.name + ".gguf");
  const auto texts = split_text(read_text(base.string() + ".inp"), "\n__ggml_vocab_test__\n");
  const auto lines = split_text(read_text(base.string() + ".out"), "\n");
  BOOST_REQUIRE(texts.size() == 47);
  BOOST_REQUIRE(lines.size() >= texts.size());

  temporary_folder one_file;
  auto folder = shared_data() / "tokenizers" / set.folder;
  if (set.only != nullptr) {
    std::filesystem::create_symlink(std::filesystem::absolute(folder / set.only), one_file.path() / set.only);
    folder = one_file.path();
  }
  const auto tokens = load_tokenizer(folder);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    std::istringstream numbers(lines[i]);
    const std::vector<token_id> expected{std::istream_iterator<token_id>(numbers), {}};
    BOOST_TEST(tokens->encode(texts[i], false) == expected, "block " << i << ": " << texts[i]);
  }
}

BOOST_AUTO_TEST_CASE(every_folder_loads_and_names_its_ends) {
  const auto ends = [](const char* folder) {
    const auto tokens = load_tokenizer(shared_data() / folder);
    return std::pair(tokens->bos().value_or(-1), tokens->eos().value_or(-1));
  };
  BOOST_TEST((ends("tokenizers/llama2") == std::pair(1, 2)));
  BOOST_TEST((ends("tokenizers/llama3") == std::pair(128000, 128001)));
  BOOST_TEST((ends("tokenizers/roberta") == std::pair(0, 2)));
  BOOST_TEST((ends("tokenizers/gpt2") == std::pair(-1, 50256)));
  BOOST_TEST((ends("models/stories260K-hf") == std::pair(1, 2)));
}

BOOST_AUTO_TEST_CASE(whole_corpora_come_back) {
  const std::string text = read_text(shared_data() / "corpora/tinyshakespeare/input.txt");
  for (const char* folder : {"tokenizers/gpt2", "tokenizers/llama2", "tokenizers/llama3",
                             "tokenizers/roberta", "models/stories260K-hf"}) {
    const auto tokens = load_tokenizer(shared_data() / folder);
    const bool same = tokens->decode(tokens->encode(text, true), true) == text;
    BOOST_TEST(same, folder);
  }
}

BOOST_AUTO_TEST_SUITE_END()
