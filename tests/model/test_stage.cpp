// The real models of the shared data through stage: greedy text, reference logits, activations of every step.
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "model/model_folder.hpp"
#include "model/random_source.hpp"
#include "model/sampler.hpp"
#include "pipeline.hpp"

namespace fastserve::model::test {
namespace {

using kernels::dtype;
using nlohmann::json;

const std::filesystem::path shared_models = FASTSERVE_SHARED_DATA "/models";

boost::test_tools::assertion_result has_shared_data(boost::unit_test::test_unit_id) {
  if (std::filesystem::exists(shared_models)) return true;
  std::cout << "skipped: no shared data at " << shared_models << "\n";
  return false;
}

json read_json(const std::filesystem::path& file) { return json::parse(std::ifstream(file)); }

std::vector<float> decode_base64(const std::string& text) {
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const auto digit = alphabet.find(c);
    if (digit == std::string::npos) break;
    bits = bits << 6U | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count >= 8) bytes += static_cast<char>(bits >> (count -= 8));
  }
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), out.size() * sizeof(float));
  return out;
}

/// Largest absolute difference.
double difference(std::span<const float> got, std::span<const float> want) {
  BOOST_REQUIRE_EQUAL(got.size(), want.size());
  double worst = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(double{got[i]} - want[i]));
  return worst;
}

}  // namespace

BOOST_AUTO_TEST_CASE(stories_greedy_200, *boost::unit_test::precondition(has_shared_data)) {
  const auto reference = read_json(shared_models / "stories260K-hf/reference.json");
  const auto ids =
      reference.at("greedy_ids").get<std::vector<std::int32_t>>();  // the prompt, then the answer
  BOOST_REQUIRE_EQUAL(ids.size(), 201U);
  for (const auto* file : {"stories260K-hf", "stories260K/stories260K.gguf"}) {
    model_folder folder(shared_models / file);
    for (const auto& isa : kernels::supported_isas()) {
      const auto cpu = kernels::make_cpu_backend(1, isa);
      logit_rows first;
      for (const std::int32_t stages : {1, 2, 3, 5}) {
        BOOST_TEST_CONTEXT(file << ", " << isa << ", " << stages << " stages") {
          pipeline p(folder.arch(), folder.weights(), *cpu, stages, dtype::f32, dtype::f32);
          std::vector<std::int32_t> answer{ids.front()};
          logit_rows rows;
          while (answer.size() < ids.size()) {
            rows.push_back(p.feed({answer.back()}).front());
            answer.push_back(argmax(rows.back()));
          }
          BOOST_CHECK_EQUAL_COLLECTIONS(answer.begin(), answer.end(), ids.begin(), ids.end());
          const auto want = reference.at("first_step_logits").get<std::vector<float>>();
          BOOST_CHECK_LE(difference(rows.front(), want), 1e-4);
          if (stages == 1) first = rows;
          BOOST_CHECK(rows == first);  // bit for bit
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(sort_logits, *boost::unit_test::precondition(has_shared_data)) {
  const auto reference = read_json(shared_models / "gpt-nano-sort-hf/reference.json");
  const auto want = reference.at("logits").at("data").get<std::vector<float>>();
  model_folder folder(shared_models / "gpt-nano-sort-hf");
  for (const auto& isa : kernels::supported_isas()) {
    const auto cpu = kernels::make_cpu_backend(2, isa);
    std::vector<float> first;
    for (const std::int32_t stages : {1, 2, 3}) {
      pipeline p(folder.arch(), folder.weights(), *cpu, stages, dtype::f32, dtype::f32);
      std::vector<float> got;
      for (const auto& sequence : reference.at("idx")) {
        p.restart();
        for (const auto& row : p.feed(sequence.get<std::vector<std::int32_t>>()))
          got.insert(got.end(), row.begin(), row.end());
      }
      BOOST_CHECK_LE(difference(got, want), 1e-5);
      if (stages == 1) first = got;
      BOOST_CHECK(got == first);
    }
  }
}

BOOST_AUTO_TEST_CASE(sort_activations, *boost::unit_test::precondition(has_shared_data)) {
  const auto partials = read_json(shared_models / "gpt-nano-sort/gpt-nano-sort-t0-partials.json");
  const auto ids = decode_base64(partials.at("idx").at("data"));
  // our step -> the reference's name, in layer 0 and outside of layers
  const std::map<std::string, std::string> names{{"embedding", "x"},
                                                 {"input_norm", "ln1"},
                                                 {"qkv", "qkv"},
                                                 {"attention", "y"},
                                                 {"attention_residual", "attnResid"},
                                                 {"post_attention_norm", "ln2"},
                                                 {"up", "fc"},
                                                 {"activation", "gelu"},
                                                 {"mlp_residual", "mlpResid"},
                                                 {"final_norm", "ln_f"},
                                                 {"logits", "lm_head"}};

  model_folder folder(shared_models / "gpt-nano-sort-hf");
  const auto cpu = kernels::make_cpu_backend(2);
  const auto stream = cpu->make_stream();
  pipeline p(folder.arch(), folder.weights(), *cpu, 1, dtype::f32, dtype::f32);
  std::map<std::string, std::vector<float>> seen;
  p.stages().front()->set_tap([&](std::string_view what, std::int32_t layer, kernels::tensor_view value) {
    auto add = [&](const std::string& name) {
      const auto values = values_of(*cpu, *stream, value);
      seen[name].insert(seen[name].end(), values.begin(), values.end());
    };
    if (layer <= 0) add(names.at(std::string(what)));
    if (what == "mlp_residual") add("block" + std::to_string(layer));
  });
  constexpr std::size_t tokens = 11;
  for (std::size_t b = 0; b < ids.size() / tokens; ++b) {
    std::vector<std::int32_t> sequence(ids.begin() + static_cast<std::ptrdiff_t>(b * tokens),
                                       ids.begin() + static_cast<std::ptrdiff_t>((b + 1) * tokens));
    p.restart();
    p.feed(sequence);
  }
  BOOST_CHECK_EQUAL(seen.size(), names.size() + 3);
  for (const auto& [name, got] : seen) {
    BOOST_TEST_CONTEXT(name) {
      const auto want = decode_base64(partials.at(name).at("data"));
      BOOST_CHECK_LE(difference(got, want), 1e-5);
    }
  }
}

}  // namespace fastserve::model::test
