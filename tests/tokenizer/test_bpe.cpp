#include "model/tokenizer/bpe_merge.hpp"
#include "model/tokenizer/string_table.hpp"
#include "model/tokenizer/word_cache.hpp"
#include "support.hpp"

using namespace fastserve::model;
using namespace fastserve::model::test;

namespace {

// The definition: the lowest rank, the leftmost of those, again and again.
std::vector<symbol_id> merge_slowly(const merge_table& table, std::vector<symbol_id> symbols) {
  for (;;) {
    const merge_rule* best = nullptr;
    std::size_t place = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const merge_rule* rule = table.find(symbols[i], symbols[i + 1]);
      if (rule != nullptr && (best == nullptr || rule->rank < best->rank)) {
        best = rule;
        place = i;
      }
    }
    if (best == nullptr) return symbols;
    symbols[place] = best->result;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(bpe)

// Tokens are strings of a's and b's, as in a real table: a pair becomes the token of its text.
BOOST_AUTO_TEST_CASE(merging_equals_its_definition) {
  dice random(12);
  int merges = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> tokens = {"a", "b"};
    merge_table table;
    std::uint32_t rank = 0;
    while (tokens.size() < 14) {
      const std::string text = random.pick(tokens) + random.pick(tokens);
      if (text.size() > 9 || std::find(tokens.begin(), tokens.end(), text) != tokens.end()) continue;
      tokens.push_back(text);
      // Every split of a token has the same rank, as in tiktoken and SentencePiece, or the next one.
      const bool tie = random.once_in(2);
      for (std::size_t left = 0; left < tokens.size(); ++left) {
        for (std::size_t right = 0; right < tokens.size(); ++right) {
          if (tokens[left] + tokens[right] != text) continue;
          table.set(static_cast<symbol_id>(left), static_cast<symbol_id>(right),
                    {rank, static_cast<symbol_id>(tokens.size() - 1)});
          if (!tie) ++rank;
        }
      }
      ++rank;
    }
    merge_scratch scratch;
    for (const std::size_t size : {0, 1, 2, 5, 39, 40, 41, 80, 300}) {
      std::vector<symbol_id> symbols(size);
      for (symbol_id& symbol : symbols) symbol = static_cast<symbol_id>(random.below(2));
      const auto expected = merge_slowly(table, symbols);
      merges += static_cast<int>(size - expected.size());
      merge_symbols(table, symbols, scratch);
      BOOST_TEST(symbols == expected);
    }
  }
  BOOST_TEST(merges > 10000);
}

BOOST_AUTO_TEST_CASE(the_last_rule_of_a_pair_counts) {
  merge_table table;
  table.set(1, 2, {5, 3});
  table.set(1, 2, {9, 4});
  BOOST_TEST(table.size() == 1u);
  BOOST_TEST(table.find(1, 2)->result == 4);
  BOOST_TEST(table.find(2, 1) == nullptr);
}

// A quadratic merge would run into the test's time limit by far.
BOOST_AUTO_TEST_CASE(a_long_run_of_one_letter_is_no_trap) {
  for (const char* name : {"gpt2_like", "llama3_like", "llama2_like", "unigram_like"}) {
    const auto tokens = load_tokenizer(golden_folder(name));
    for (const char* unit : {"a", " ", "\n", "\xE6\x97\xA5"}) {
      std::string text;
      while (text.size() < (fastserve::test::sanitized ? 1u << 17 : 1u << 20)) text += unit;
      const std::vector<token_id> ids = tokens->encode(text, false);
      if (std::string_view(name) != "unigram_like") {
        const bool same = tokens->decode(ids, false) == text;
        BOOST_TEST(same, name << " of " << unit);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(cache_tells_what_it_was_told) {
  word_cache cache;
  dice random(13);
  std::size_t known = 0;
  for (int round = 0; round < (fastserve::test::sanitized ? 100000 : 400000); ++round) {
    const std::string word = std::to_string(random.below(150000));
    const std::vector<token_id> ids = {static_cast<token_id>(word.size()),
                                       static_cast<token_id>(std::stoi(word))};
    const std::uint64_t hash = hash_bytes(word);
    const auto found = cache.find(word, hash);
    if (found.empty()) {
      cache.insert(word, hash, ids);
      continue;
    }
    ++known;
    BOOST_TEST(std::equal(found.begin(), found.end(), ids.begin(), ids.end()));
  }
  BOOST_TEST(known > 10000u);
}

BOOST_AUTO_TEST_SUITE_END()
