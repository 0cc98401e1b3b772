// Stages whose decode steps are recorded (CUDA graphs) give the bits of stages that run op by op, while
// sequences come, grow and go, and stages are replaced. On a GPU, or the emulated one.
#include <stdlib.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <optional>
#include <random>

#include "kernels/cuda/cuda_backend.hpp"
#include "model/random_source.hpp"
#include "pipeline.hpp"
#ifdef FASTSERVE_CUDA_EMULATION
#include "runtime.hpp"
#endif

namespace fastserve::model::test {
namespace {

using kernels::dtype;

#ifdef FASTSERVE_CUDA_EMULATION
constexpr int steps = 60;
#else
constexpr int steps = 600;
#endif
constexpr std::int32_t most_sequences = 5;
constexpr std::int32_t longest = 300;  // tokens: two segments of attention
constexpr std::int32_t blocks_each = (longest + kernels::kv_block_tokens - 1) / kernels::kv_block_tokens;

architecture small_model() {
  return parse_architecture(
      R"({"model_type": "qwen3", "vocab_size": 50, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 512, "use_sliding_window": true, "sliding_window": 20, "max_window_layers": 1})",
      "test");
}

/// Two stages on one device.
class served_model {
 public:
  served_model(const architecture& arch, weight_source& source, const weight_form& form, bool graphs)
      : arch_{arch},
        source_{source},
        form_{form},
        graphs_{graphs},
        device_{kernels::make_cuda_backend(0)},
        stream_{device_->make_stream()} {
    build();
  }

  /// As a failover does: weights stay, all else is made anew, the KV store too.
  void build() {
    ::setenv("FASTSERVE_CUDA_GRAPHS", graphs_ ? "1" : "0", 1);
    const auto ranges = even_ranges(arch_, 2);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      auto kept = stages_[i] ? std::optional{stages_[i]->take_weights()} : std::nullopt;
      stages_[i].reset();
      kv_[i].reset();
      stages_[i] = std::make_unique<stage>(
          arch_, source_, stage_options{ranges[i], form_.compute, 32, most_sequences, form_.rounded},
          *device_, load_progress{}, kept ? &*kept : nullptr);
      kv_[i] = device_->make_kv_store(stages_[i]->kv_shape(most_sequences * blocks_each, dtype::bf16));
      fill(*kv_[i]);
    }
    ::unsetenv("FASTSERVE_CUDA_GRAPHS");
  }

  std::vector<float> run(const kernels::step_layout& layout, bool tapped) {
    const auto rows = static_cast<std::int32_t>(layout.positions.size());
    int seen = 0;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      if (i > 0) device_->copy(stages_[i]->hidden(rows), stages_[i - 1]->hidden(rows), *stream_);
      stages_[i]->set_tap(tapped ? [&seen](auto...) { ++seen; } : stage_tap{});
      stages_[i]->forward(layout, *kv_[i], *stream_);
    }
    BOOST_REQUIRE((seen > 0) == tapped);
    return values_of(*device_, *stream_,
                     stages_.back()->logits(static_cast<std::int32_t>(layout.sampled_rows.size())));
  }

 private:
  /// So that a sequence may begin anywhere.
  void fill(kernels::kv_store& kv) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> values(kv.shape().block_bytes() / 2);
    std::vector<std::byte> bytes(kv.shape().block_bytes());
    for (std::int32_t b = 0; b < kv.shape().blocks; ++b) {
      for (auto& v : values) v = normal(random);
      kernels::from_f32(bytes.data(), dtype::bf16, values.data(), values.size());
      device_->write_block(kv, b, bytes.data(), *stream_);
      stream_->synchronize();
    }
  }

  architecture arch_;
  weight_source& source_;
  weight_form form_;
  bool graphs_;
  std::unique_ptr<kernels::backend> device_;
  std::unique_ptr<kernels::stream> stream_;
  std::array<std::unique_ptr<stage>, 2> stages_;
  std::array<std::unique_ptr<kernels::kv_store>, 2> kv_;
};

struct sequence {
  bool runs = false;
  std::int32_t length = 0;
  std::vector<std::int32_t> blocks;
};

}  // namespace

BOOST_AUTO_TEST_CASE(recorded_stages_give_the_same_bits) {
  const auto arch = small_model();
  for (const weight_form& form :
       {weight_form{dtype::bf16, {}},
        weight_form{dtype::bf16, kernels::quantized_format{8, 0, kernels::zero_kind::none, dtype::f16}}}) {
    random_source weights(arch, dtype::bf16);
    served_model recorded(arch, weights, form, true);
    served_model plain(arch, weights, form, false);
    std::mt19937 random(form.rounded ? 1 : 2);
    const auto pick = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    std::vector<sequence> all(most_sequences);
    std::int32_t block = 0;
    for (auto& s : all) {
      for (std::int32_t i = 0; i < blocks_each; ++i) s.blocks.push_back(block++);
      std::shuffle(s.blocks.begin(), s.blocks.end(), random);
    }

    for (int i = 0; i < steps; ++i) {
      if (i == steps / 2) {
        recorded.build();
        plain.build();
        for (auto& s : all) s.runs = false;
      }
      // One in a while begins, with its prompt beside the others' tokens, or ends.
      kernels::step_layout layout;
      for (auto& s : all) {
        std::int32_t rows = s.runs ? 1 : 0;
        if (!s.runs && pick(0, 9) == 0) {
          s.runs = true;
          s.length = 0;
          rows = pick(1, 6);
        } else if (s.runs && (s.length + 1 >= longest || pick(0, 39) == 0)) {
          s.runs = false;
          rows = 0;
        }
        // What it reads may be anything, as long as it is the same for both.
        if (rows > 1) s.length = pick(0, 1) == 0 ? 0 : pick(200, 280);
        if (rows == 0) continue;
        const auto first = static_cast<std::int32_t>(layout.positions.size());
        layout.sequences.push_back({first, rows, s.length, s.blocks});
        for (std::int32_t r = 0; r < rows; ++r) {
          layout.token_ids.push_back(pick(0, arch.vocab_size - 1));
          layout.positions.push_back(s.length++);
        }
        layout.sampled_rows.push_back(first + rows - 1);
      }
      if (layout.positions.empty()) continue;
      const bool tapped = pick(0, 19) == 0;
      BOOST_REQUIRE(recorded.run(layout, tapped) == plain.run(layout, tapped));
    }
#ifdef FASTSERVE_CUDA_EMULATION
    BOOST_TEST(emulation::calls("cudaGraphLaunch") >= 40U);
#endif
  }
}

}  // namespace fastserve::model::test
