// Tens of thousands of damaged files, the same in every run. fuzz_main.cpp is for longer hunts.
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include "../support/sanitized.hpp"
#include "fuzz_targets.hpp"
#include "gguf_of.hpp"
#include "golden.hpp"
#include "model/pack_file.hpp"
#include "model/tensor_names.hpp"
#include "safetensors_writer.hpp"

namespace fastserve::model::test {
namespace {

using bytes = std::vector<std::uint8_t>;

bytes to_bytes(std::string_view text) { return {text.begin(), text.end()}; }

bytes read_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// Damages bytes as files get damaged, and as one would do it on purpose.
class mutator {
 public:
  explicit mutator(unsigned seed) : random_{seed} {}

  void damage(bytes& b, std::size_t header_end) {
    for (auto n = 1 + random_() % 4; n-- > 0;) once(b, std::min(header_end, b.size()));
  }

 private:
  std::size_t pick(std::size_t count) { return count == 0 ? 0 : random_() % count; }

  void once(bytes& b, std::size_t header_end) {
    static const std::vector<std::string> words{"{",
                                                "}",
                                                "[",
                                                "]",
                                                ",",
                                                ":",
                                                "\"",
                                                "null",
                                                "true",
                                                "-1",
                                                "0",
                                                "1e999",
                                                "1.5",
                                                "18446744073709551615",
                                                "9223372036854775808",
                                                "4294967296",
                                                "\"__metadata__\":{}",
                                                "\"dtype\":\"F32\"",
                                                "\"shape\":[]",
                                                "F4",
                                                "I64",
                                                "\\u0000",
                                                "\xff",
                                                "../",
                                                "\"weight_map\":{",
                                                "\"sliding_window\":1",
                                                "\"rope_scaling\":{\"type\":\"yarn\"}"};
    const auto at = pick(header_end);
    switch (random_() % 8) {
      case 0:
        if (!b.empty()) b[at % b.size()] ^= static_cast<std::uint8_t>(1U << random_() % 8);
        break;
      case 1:
        if (!b.empty()) b[at % b.size()] = static_cast<std::uint8_t>(random_());
        break;
      case 2:
        b.resize(pick(b.size() + 1));
        break;
      case 3: {
        const auto& word = words[pick(words.size())];
        b.insert(b.begin() + static_cast<std::ptrdiff_t>(at), word.begin(), word.end());
        break;
      }
      case 4: {
        const auto end = std::min(b.size(), at + pick(40));
        b.erase(b.begin() + static_cast<std::ptrdiff_t>(at), b.begin() + static_cast<std::ptrdiff_t>(end));
        break;
      }
      case 5: {  // a piece twice
        const auto end = std::min(b.size(), at + pick(200));
        const bytes piece(b.begin() + static_cast<std::ptrdiff_t>(at),
                          b.begin() + static_cast<std::ptrdiff_t>(end));
        b.insert(b.begin() + static_cast<std::ptrdiff_t>(pick(b.size())), piece.begin(), piece.end());
        break;
      }
      case 6: {  // another digit
        for (auto i = at; i < header_end; ++i)
          if (b[i] >= '0' && b[i] <= '9') {
            b[i] = static_cast<std::uint8_t>('0' + random_() % 10);
            break;
          }
        break;
      }
      default: {  // a key's value replaced by a word
        for (auto i = at; i + 1 < header_end; ++i)
          if (b[i] == ':') {
            auto end = i + 1;
            while (end < header_end && b[end] != ',' && b[end] != '}') ++end;
            const auto& word = words[pick(words.size())];
            b.erase(b.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                    b.begin() + static_cast<std::ptrdiff_t>(end));
            b.insert(b.begin() + static_cast<std::ptrdiff_t>(i) + 1, word.begin(), word.end());
            break;
          }
      }
    }
  }

  std::mt19937 random_;
};

/// Runs damaged copies of the seeds for `rounds`; the sound ones must be accepted, and some of the damaged.
void hunt(const std::vector<bytes>& seeds, bool (*target)(std::span<const std::uint8_t>), int rounds,
          std::size_t header_bytes, bool length_field = false) {
  BOOST_REQUIRE(!seeds.empty());
  for (const auto& seed : seeds) BOOST_CHECK(target(seed));
  mutator m(1);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    auto b = seeds[static_cast<std::size_t>(i) % seeds.size()];
    const auto before = b.size();
    m.damage(b, header_bytes);
    // a length that is right again lets the damage through to what comes after it
    if (length_field && i % 2 == 0 && b.size() >= 8) {
      std::uint64_t length = 0;
      for (std::size_t k = 8; k-- > 0;)
        length = length << 8U | seeds[static_cast<std::size_t>(i) % seeds.size()][k];
      length += b.size() - before;
      for (std::size_t k = 0; k < 8; ++k) b[k] = static_cast<std::uint8_t>(length >> (8 * k));
    }
    accepted += target(b) ? 1 : 0;
  }
  std::cout << accepted << " of " << rounds << " damaged files accepted\n";
  BOOST_CHECK_LT(accepted, rounds * 3 / 4);
}

std::vector<bytes> golden_files(const std::string& name) {
  std::vector<bytes> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(FASTSERVE_TEST_DATA "/models"))
    if (entry.path().filename() == name) out.push_back(read_file(entry.path()));
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(safetensors_headers) {
  std::vector<bytes> seeds;
  const std::vector<tensor_spec> specs{
      {"a.weight", {4, 8}, false, false}, {"b", {3}, true, true}, {"e", {0, 2}, false, false}};
  for (const auto type : {kernels::dtype::f32, kernels::dtype::bf16})
    seeds.push_back(to_bytes(safetensors_of(specs, type)));
  seeds.push_back(to_bytes(safetensors_bytes(R"({"__metadata__":{"format":"pt"}})", "")));
  hunt(seeds, fuzz_safetensors, 60000, 300, true);
}

BOOST_AUTO_TEST_CASE(shard_indices) {
  hunt(golden_files("model.safetensors.index.json"), fuzz_shard_index, 6000, std::size_t{1} << 20);
}

BOOST_AUTO_TEST_CASE(configs) { hunt(golden_files("config.json"), fuzz_config, 30000, std::size_t{1} << 20); }

BOOST_AUTO_TEST_CASE(pack_headers) {
  std::vector<bytes> seeds;
  for (const std::size_t count : {0, 1, 100, 5000}) {
    const std::vector<std::byte> payload(count, std::byte{7});
    auto file = write_pack_header("what it is\n" + std::string(count, 'k'), payload);
    file.insert(file.end(), payload.begin(), payload.end());
    const auto* data = reinterpret_cast<const std::uint8_t*>(file.data());
    seeds.emplace_back(data, data + file.size());
  }
  hunt(seeds, fuzz_pack_header, 30000, 64);
}

BOOST_AUTO_TEST_CASE(gguf_headers) {
  gguf_writer w;
  w.text("general.architecture", "llama");
  w.number("n", 5U);
  w.number("x", 1.5F);
  w.flag("f", true);
  w.texts("t", {"a", "bc"});
  w.numbers<std::int32_t>("i", gguf_type::i32, {1, 2, 3});
  w.f32_tensor("a", {2, 4}, std::vector<float>(8));
  w.tensor("b", {2, 32}, 8, std::string(68, 'x'));
  hunt({to_bytes(w.bytes())}, fuzz_gguf, 60000, w.header().size());
}

BOOST_AUTO_TEST_CASE(gguf_models) {
  std::vector<bytes> seeds;
  std::size_t header = 0;
  for (const auto& g : all_goldens()) {
    if (g.name != "llama" && g.name != "gpt2" && g.name != "qwen3") continue;
    model_folder model(g.folder);
    auto w = gguf_of(model);
    std::vector<std::string> tokens{"<unk>", "<s>", "</s>"};
    std::vector<std::int32_t> types{2, 3, 3};
    for (int i = 0; i < 256; ++i) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(i));
      tokens.emplace_back(name);
      types.push_back(6);
    }
    for (const auto* piece : {"\xE2\x96\x81", "a", "e", "t", "\xE2\x96\x81t", "\xE2\x96\x81te"}) {
      tokens.emplace_back(piece);
      types.push_back(1);
    }
    w.text("tokenizer.ggml.model", "llama");
    w.texts("tokenizer.ggml.tokens", tokens);
    w.numbers<float>("tokenizer.ggml.scores", gguf_type::f32, std::vector<float>(tokens.size(), -1.0F));
    w.numbers<std::int32_t>("tokenizer.ggml.token_type", gguf_type::i32, types);
    header = std::max(header, w.header().size());
    seeds.push_back(to_bytes(w.bytes()));
  }
  hunt(seeds, fuzz_gguf_model, fastserve::test::sanitized ? 3000 : 6000, header);
}

BOOST_AUTO_TEST_CASE(noise) {
  std::mt19937 random(2);
  for (int i = 0; i < 5000; ++i) {
    bytes b(random() % 200);
    for (auto& x : b) x = static_cast<std::uint8_t>(random());
    BOOST_CHECK(!fuzz_safetensors(b));
    BOOST_CHECK(!fuzz_shard_index(b));
    BOOST_CHECK(!fuzz_config(b));
    BOOST_CHECK(!fuzz_gguf(b));
  }
}

}  // namespace fastserve::model::test
