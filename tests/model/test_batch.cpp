// A sequence gives the same bits alone and beside others; layouts that do not fit are refused.
#include <boost/test/unit_test.hpp>
#include <random>

#include "model/random_source.hpp"
#include "model/stage.hpp"
#include "pipeline.hpp"

namespace fastserve::model::test {
namespace {

using kernels::dtype;

architecture small_model() {
  return parse_architecture(
      R"({"model_type": "qwen3", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 256, "use_sliding_window": true, "sliding_window": 20, "max_window_layers": 1})",
      "test");
}

/// A sequence on its way: its tokens, how many the KV store holds, its blocks.
struct job {
  std::vector<std::int32_t> tokens;
  std::int32_t done = 0;
  std::vector<std::int32_t> blocks;
  logit_rows rows;
};

/// Runs `rows[i]` next tokens of each job in one step.
void run_step(stage& s, kernels::kv_store& kv, kernels::backend& on, kernels::stream& stream,
              std::vector<job*> jobs, const std::vector<std::int32_t>& rows) {
  kernels::step_layout layout;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    auto& j = *jobs[i];
    layout.sequences.push_back(
        {static_cast<std::int32_t>(layout.positions.size()), rows[i], j.done, j.blocks});
    for (std::int32_t r = 0; r < rows[i]; ++r) {
      layout.sampled_rows.push_back(static_cast<std::int32_t>(layout.positions.size()));
      layout.token_ids.push_back(j.tokens[static_cast<std::size_t>(j.done)]);
      layout.positions.push_back(j.done++);
    }
  }
  s.forward(layout, kv, stream);
  const auto total = static_cast<std::int32_t>(layout.positions.size());
  const auto values = values_of(on, stream, s.logits(total));
  const auto vocab = static_cast<std::size_t>(s.arch().vocab_size);
  std::size_t row = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i)
    for (std::int32_t r = 0; r < rows[i]; ++r, ++row)
      jobs[i]->rows.emplace_back(values.begin() + static_cast<std::ptrdiff_t>(row * vocab),
                                 values.begin() + static_cast<std::ptrdiff_t>((row + 1) * vocab));
}

constexpr auto symmetric = kernels::zero_kind::none;
struct quantized_case {
  kernels::quantized_format format;
  double bound;
};
const quantized_case quantized_cases[] = {{{8, 32, symmetric, dtype::f16}, 0.04},
                                          {{4, 32, symmetric, dtype::f16}, 0.4}};
const weight_form forms[] = {{dtype::f32},
                             {dtype::bf16},
                             {dtype::f16},
                             {dtype::bf16, kernels::quantized_format{8, 128, symmetric, dtype::f16}},
                             {dtype::f32, kernels::quantized_format{4, 32, symmetric, dtype::f16}}};

}  // namespace

/// How far logits move when weights are rounded while loading.
BOOST_AUTO_TEST_CASE(rounded_weights_stay_close) {
  const auto arch = small_model();
  const std::vector<std::int32_t> tokens{5, 17, 3, 96, 44, 45, 46, 0, 12, 80};
  for (const auto& isa : kernels::supported_isas()) {
    const auto cpu = kernels::make_cpu_backend(2, isa);
    const auto stream = cpu->make_stream();
    random_source weights(arch, dtype::f32);
    const auto logits_of = [&](const std::optional<kernels::quantized_format>& rounded) {
      stage s(arch, weights, {whole_range(arch), dtype::f32, 64, 64, rounded}, *cpu);
      const auto kv = cpu->make_kv_store(s.kv_shape(4, dtype::f32));
      job j{tokens, 0, {2}, {}};
      run_step(s, *kv, *cpu, *stream, {&j}, {static_cast<std::int32_t>(tokens.size())});
      return std::pair{j.rows, s.step_weight_bytes()};
    };
    const auto [exact, exact_bytes] = logits_of({});
    double before = 0;
    for (const quantized_case& c : quantized_cases) {
      const auto [rows, bytes] = logits_of(c.format);
      double worst = 0;
      for (std::size_t i = 0; i < rows.size(); ++i)
        worst = std::max(worst, relative_error(rows[i], exact[i]));
      BOOST_TEST(worst < c.bound, isa << ", " << to_string(c.format) << ": " << worst);
      BOOST_TEST(worst > before);  // fewer bits cost more
      BOOST_TEST(bytes < exact_bytes);
      before = worst;
    }
  }
}

BOOST_AUTO_TEST_CASE(batch_invariance) {
  const auto arch = small_model();
  std::mt19937 random(7);
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (const auto& isa : kernels::supported_isas()) {
    for (const auto& form : forms) {
      const auto type = form.compute;
      const auto cpu = kernels::make_cpu_backend(2, isa);
      const auto stream = cpu->make_stream();
      random_source weights(arch, type);
      stage s(arch, weights, {whole_range(arch), type, 64, 64, form.rounded}, *cpu);
      const auto kv = cpu->make_kv_store(s.kv_shape(64, type));

      std::vector<job> jobs(6);
      std::int32_t block = 0;
      for (auto& j : jobs) {
        j.tokens.resize(static_cast<std::size_t>(pick(1, 90)));
        for (auto& t : j.tokens) t = pick(0, arch.vocab_size - 1);
        for (std::size_t b = 0; b * kernels::kv_block_tokens < j.tokens.size(); ++b)
          j.blocks.push_back(block++);
      }
      auto alone = jobs;
      // together: each step takes a random few, one token (decode) or several (prefill) of each
      for (;;) {
        std::vector<job*> chosen;
        std::vector<std::int32_t> rows;
        std::int32_t room = 64;
        for (auto& j : jobs) {
          const auto left = static_cast<std::int32_t>(j.tokens.size()) - j.done;
          if (left == 0 || room == 0 || pick(0, 3) == 0) continue;
          rows.push_back(std::min({left, room, pick(0, 1) == 0 ? 1 : pick(1, 30)}));
          room -= rows.back();
          chosen.push_back(&j);
        }
        if (!chosen.empty()) run_step(s, *kv, *cpu, *stream, chosen, rows);
        if (std::all_of(jobs.begin(), jobs.end(),
                        [](auto& j) { return j.done == static_cast<std::int32_t>(j.tokens.size()); }))
          break;
      }
      for (std::size_t i = 0; i < jobs.size(); ++i) {
        while (alone[i].done < static_cast<std::int32_t>(alone[i].tokens.size()))
          run_step(s, *kv, *cpu, *stream, {&alone[i]},
                   {std::min(64, static_cast<std::int32_t>(alone[i].tokens.size()) - alone[i].done)});
        BOOST_CHECK_MESSAGE(alone[i].rows == jobs[i].rows,
                            isa << ", " << name_of(type) << ", "
                                << (form.rounded ? to_string(*form.rounded) : "") << ", sequence " << i);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(layouts_that_do_not_fit_are_refused) {
  const auto arch = small_model();
  const auto cpu = kernels::make_cpu_backend(1);
  const auto stream = cpu->make_stream();
  random_source weights(arch, dtype::f32);
  stage s(arch, weights, {whole_range(arch), dtype::f32, 4, 2}, *cpu);
  const auto kv = cpu->make_kv_store(s.kv_shape(2, dtype::f32));

  const kernels::step_layout good{{1, 2, 3}, {0, 1, 2}, {{0, 3, 0, {0}}}, {2}};
  BOOST_CHECK_NO_THROW(s.forward(good, *kv, *stream));
  BOOST_CHECK_NO_THROW(s.forward(kernels::step_layout{}, *kv, *stream));
  const auto refused = [&](auto change) {
    auto bad = good;
    change(bad);
    BOOST_CHECK_THROW(s.forward(bad, *kv, *stream), std::invalid_argument);
  };
  refused([](auto& l) { l.token_ids[1] = 97; });
  refused([](auto& l) { l.token_ids[1] = -1; });
  refused([](auto& l) { l.token_ids.pop_back(); });
  refused([](auto& l) { l.positions[2] = 5; });
  refused([](auto& l) { l.positions[0] = -1; });
  refused([](auto& l) { l.sequences[0].blocks = {2}; });
  refused([](auto& l) { l.sequences[0].blocks = {-1}; });
  refused([](auto& l) { l.sequences[0].blocks.clear(); });
  refused([](auto& l) { l.sequences[0].rows = 2; });
  refused([](auto& l) { l.sequences[0].rows = 4; });
  refused([](auto& l) { l.sequences[0].first_row = 1; });
  refused([](auto& l) { l.sequences.clear(); });
  refused([](auto& l) { l.sampled_rows = {3}; });
  refused([](auto& l) { l.sampled_rows = {-1}; });
  refused([](auto& l) { l.sampled_rows = {1, 1}; });
  refused([](auto& l) { l.sampled_rows = {0, 1, 2}; });
  refused([](auto& l) {
    l.sequences[0].first_position = 254;
    l.positions = {254, 255, 256};
    l.sequences[0].blocks.assign(17, 0);
  });
  refused([](auto& l) {
    l.token_ids.assign(5, 0);
    l.positions = {0, 1, 2, 3, 4};
    l.sequences[0].rows = 5;
  });
  auto other = s.kv_shape(2, dtype::f32);
  other.layers = 1;
  const auto wrong = cpu->make_kv_store(other);
  BOOST_CHECK_THROW(s.forward(good, *wrong, *stream), std::invalid_argument);
  BOOST_CHECK_THROW(s.hidden(5), std::invalid_argument);
  BOOST_CHECK_THROW(s.logits(3), std::invalid_argument);
  for (const auto& range :
       {stage_range{-1, 2, true, true}, stage_range{2, 1, true, true}, stage_range{0, 4, true, true}})
    BOOST_CHECK_THROW(stage(arch, weights, {range, dtype::f32, 4, 2}, *cpu), std::invalid_argument);
  BOOST_CHECK_THROW(stage(arch, weights, {whole_range(arch), dtype::i32, 4, 2}, *cpu), std::invalid_argument);
  BOOST_CHECK_THROW(stage(arch, weights, {whole_range(arch), dtype::f32, 0, 2}, *cpu), std::invalid_argument);
}

}  // namespace fastserve::model::test
