#pragma once

#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "../support/sanitized.hpp"
#include "../support/temporary_folder.hpp"
#include "model/tokenizer/tokenizer.hpp"

namespace fastserve::model::test {

/// Folders under tests/data/tokenizer, each with a tokenizer.json and golden.jsonl.
inline const std::vector<std::string> golden_names = {"gpt2_like",  "roberta_like", "llama3_like",
                                                      "qwen2_like", "llama2_like",  "mistral_like",
                                                      "bert_like",  "unigram_like", "splits_like"};

inline std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path(FASTSERVE_TEST_DATA) / "tokenizer" / name;
}

inline std::filesystem::path shared_data() { return FASTSERVE_SHARED_DATA; }

/// A precondition: skips, and says so, where the shared data is absent.
inline boost::test_tools::assertion_result has_shared_data(boost::unit_test::test_unit_id) {
  const bool there = std::filesystem::is_directory(shared_data() / "tokenizers");
  if (!there) std::cout << "skipped: " << shared_data().string() << " is absent\n";
  return there;
}

inline std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  BOOST_REQUIRE_MESSAGE(in, file.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Random numbers that are the same everywhere.
class dice {
 public:
  explicit dice(std::uint32_t seed) : engine_(seed) {}
  std::size_t below(std::size_t bound) { return engine_() % bound; }
  bool once_in(std::size_t n) { return below(n) == 0; }
  template <typename T>
  const T& pick(const std::vector<T>& list) {
    return list[below(list.size())];
  }
  /// Well-formed UTF-8 with all that tokenizers stumble over.
  std::string text(std::size_t parts);
  /// Any bytes.
  std::string bytes(std::size_t count) {
    std::string out;
    for (std::size_t i = 0; i < count; ++i) out.push_back(static_cast<char>(below(256)));
    return out;
  }

 private:
  std::mt19937 engine_;
};

/// The message of the std::runtime_error that `run` throws; fails the test if it throws none or not one line.
template <typename Run>
std::string refusal(Run run) {
  try {
    run();
  } catch (const std::runtime_error& error) {
    const std::string message = error.what();
    BOOST_TEST(message.find('\n') == std::string::npos, message);
    BOOST_TEST(!message.empty());
    return message;
  }
  BOOST_ERROR("expected an exception");
  return {};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace fastserve::model::test
