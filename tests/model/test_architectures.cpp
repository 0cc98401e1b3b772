// Architectures drawn at random, of every feature in any combination, against the naive forward pass.
#include <boost/test/unit_test.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/dispatch.hpp"
#include "model/random_source.hpp"
#include "naive_forward.hpp"
#include "pipeline.hpp"

namespace fastserve::model::test {
namespace {

using kernels::dtype;
using nlohmann::json;

/// random_source, but with norm gains and biases that show.
class lively_source : public weight_source {
 public:
  lively_source(const architecture& arch, dtype type) : random_{arch, type} {
    for (const auto& spec : tensors_of(arch, whole_range(arch), names_of(arch.model_type).prefix))
      if (spec.vector) {
        std::vector<float> values(static_cast<std::size_t>(spec.elements()));
        for (std::size_t i = 0; i < values.size(); ++i)
          values[i] =
              (spec.gain ? 1.0F : 0.0F) + 0.3F * std::sin(static_cast<float>(i * i + spec.name.size()));
        auto& bytes = vectors_[spec.name];
        bytes.resize(values.size() * kernels::size_of(type));
        kernels::from_f32(bytes.data(), type, values.data(), values.size());
      }
  }
  bool has(std::string_view name) const override { return random_.has(name); }
  host_tensor describe(std::string_view name) override { return random_.describe(name); }
  host_tensor tensor(std::string_view name) override {
    const auto it = vectors_.find(name);
    if (it == vectors_.end()) return random_.tensor(name);
    auto out = describe(name);
    out.data = it->second.data();
    return out;
  }
  std::string where(std::string_view name) const override { return random_.where(name); }
  void release(std::string_view) override {}

 private:
  random_source random_;
  std::map<std::string, std::vector<std::byte>, std::less<>> vectors_;
};

/// The host's processors with a product that ends in a gated activation, as a GPU may have: the two ops it is
/// made of.
class gated_backend final : public kernels::cpu::cpu_backend {
 public:
  static constexpr std::int64_t turn = 8;

  explicit gated_backend(const std::string& isa) : cpu_backend{1, kernels::cpu::choose_table(isa)} {}

  std::int64_t gated_turn(kernels::activation f, dtype) const override {
    return f == kernels::activation::silu || f == kernels::activation::gelu_tanh ? turn : 0;
  }
  void linear_gated(kernels::tensor_view out, kernels::tensor_view in, const kernels::weight& w,
                    kernels::tensor_view bias, kernels::activation f, kernels::stream& on) override {
    ++calls;
    const auto rows = in.rows;
    const auto both = 2 * out.cols;
    const auto turns = allocate(kernels::bytes_of(dtype::f32, rows, both));
    linear(turns.view(dtype::f32, rows, both), in, w, bias, false, on);
    const auto parts = allocate(kernels::bytes_of(dtype::f32, rows, both));
    const auto* from = static_cast<const float*>(turns.data());
    auto* to = static_cast<float*>(parts.data());
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < both; ++c)
        to[r * both + c / turn % 2 * out.cols + c / (2 * turn) * turn + c % turn] = from[r * both + c];
    activate(out, parts.view(dtype::f32, rows, both), f, true, on);
  }

  int calls = 0;
};

class config_maker {
 public:
  explicit config_maker(unsigned seed) : random_{seed} {}

  json make() {
    const auto type = one_of<std::string>({"gpt2", "llama", "mistral", "qwen2", "qwen3"});
    const int kv_heads = one_of({1, 2, 3});
    const int heads = kv_heads * one_of({1, 2, 4});
    const int layers = one_of({1, 2, 3});
    if (type == "gpt2") {
      const int hidden = heads * one_of({4, 10, 16});
      return {{"model_type", type},
              {"vocab_size", one_of({33, 64, 101})},
              {"n_embd", hidden},
              {"n_head", heads},
              {"n_layer", layers},
              {"n_positions", 64},
              {"n_inner", one_of<json>({nullptr, 40, 77})},
              {"activation_function", one_of<std::string>({"gelu_new", "gelu", "relu", "silu"})},
              {"tie_word_embeddings", coin()},
              {"scale_attn_weights", coin()}};
    }
    const int head_dim = one_of({2, 8, 12, 16, 20, 32});
    const bool explicit_dim = type == "qwen3" || coin();
    json c{{"model_type", type},
           {"vocab_size", one_of({33, 64, 101})},
           {"num_hidden_layers", layers},
           {"hidden_size", explicit_dim ? one_of({24, 40, 64}) : heads * head_dim},
           {"intermediate_size", one_of({24, 56, 64})},
           {"num_attention_heads", heads},
           {"num_key_value_heads", kv_heads},
           {"max_position_embeddings", 64},
           {"rms_norm_eps", one_of({1e-6, 1e-5, 1e-2})},
           {"tie_word_embeddings", coin()},
           {"hidden_act", one_of<std::string>({"silu", "gelu", "gelu_new", "relu"})},
           {"attention_bias", coin()},
           {"mlp_bias", coin()},
           {"rope_theta", one_of({100.0, 10000.0})},
           {"use_sliding_window", coin()},
           {"sliding_window", one_of({1, 3, 16, 17, 40})},
           {"max_window_layers", one_of({0, 1, 2})}};
    if (explicit_dim) c["head_dim"] = head_dim;
    if (type == "llama") c["use_sliding_window"] = false;  // it has none
    c["rope_scaling"] =
        one_of<json>({nullptr,
                      {{"type", "linear"}, {"factor", 3.0}},
                      {{"rope_type", "llama3"},
                       {"factor", 4.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 16}},
                      {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}}});
    return c;
  }
  int one_of(std::initializer_list<int> choices) { return choices.begin()[random_() % choices.size()]; }
  double one_of(std::initializer_list<double> choices) { return choices.begin()[random_() % choices.size()]; }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[random_() % choices.size()];
  }
  bool coin() { return random_() % 2 == 0; }

 private:
  std::mt19937 random_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(random_architectures) {
  const auto isas = kernels::supported_isas();
  config_maker maker(21);
  double worst_f32 = 0, worst_16 = 0;
  for (int round = 0; round < 300; ++round) {
    const auto config = maker.make();
    const auto arch = parse_architecture(config.dump(), "random");
    const auto stored = round % 3 == 0 ? dtype::f16 : round % 3 == 1 ? dtype::bf16 : dtype::f32;
    lively_source source(arch, stored);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(maker.one_of({1, 18, 35})));
    for (auto& t : tokens) t = maker.one_of({0, 1, 5, 17, 32, 20, 9, 30});
    const auto want = naive_forward(arch, source, tokens);

    const auto cpu = kernels::make_cpu_backend(1, isas[static_cast<std::size_t>(round) % isas.size()]);
    const auto run = [&](dtype compute) {
      pipeline p(arch, source, *cpu, 1 + round % arch.layers, compute, compute);
      const auto got = p.feed(tokens, static_cast<std::size_t>(round % 9));
      double worst = 0;
      for (std::size_t i = 0; i < want.size(); ++i) worst = std::max(worst, relative_error(got[i], want[i]));
      return worst;
    };
    BOOST_TEST_CONTEXT("round " << round << ": " << config.dump()) {
      const auto f32 = run(dtype::f32);
      BOOST_CHECK_LE(f32, 1e-4);
      worst_f32 = std::max(worst_f32, f32);
      // deep in rounding: a sanity bound, the goldens hold the real tolerance
      const auto f16 = run(dtype::f16), bf16 = run(dtype::bf16);
      BOOST_CHECK_LE(f16, 3e-2);
      BOOST_CHECK_LE(bf16, 1.5e-1);
      worst_16 = std::max({worst_16, f16, bf16});
    }
  }
  BOOST_TEST_MESSAGE("worst f32 " << worst_f32 << ", worst 16 bit " << worst_16);
}

BOOST_AUTO_TEST_CASE(gated_products_change_no_bit) {
  config_maker maker(5);
  const auto isas = kernels::supported_isas();
  int with_bias = 0;
  int gated = 0;
  for (int round = 0; round < 120; ++round) {
    const auto config = maker.make();
    const auto arch = parse_architecture(config.dump(), "random");
    lively_source source(arch, dtype::f32);
    const auto isa = isas[static_cast<std::size_t>(round) % isas.size()];
    gated_backend in_turns(isa);
    kernels::cpu::cpu_backend plain(1, kernels::cpu::choose_table(isa));
    const auto run = [&](kernels::backend& on) {
      const auto compute = round % 2 == 0 ? dtype::f32 : dtype::bf16;
      return pipeline(arch, source, on, 1, compute, compute).feed({1, 5, 17, 32, 20, 9, 30, 2, 4});
    };
    BOOST_TEST_CONTEXT("round " << round << ": " << config.dump()) {
      BOOST_CHECK(run(in_turns) == run(plain));
    }
    const bool can = arch.gated_mlp && in_turns.gated_turn(arch.act, dtype::f32) > 0;
    BOOST_TEST(in_turns.calls == (can ? arch.layers : 0));
    gated += can ? 1 : 0;
    with_bias += can && arch.mlp_bias ? 1 : 0;
  }
  BOOST_TEST(gated > 5);
  BOOST_TEST(with_bias > 2);
}

}  // namespace fastserve::model::test
