#include <boost/test/unit_test.hpp>
#include <cmath>
#include <filesystem>
#include <random>
#include <stdexcept>

#include "../support/temporary_folder.hpp"
#include "compress/compressor.hpp"
#include "compress/folder_writer.hpp"
#include "compress/gram.hpp"
#include "compress/perplexity.hpp"
#include "compress/product_sums.hpp"
#include "compress/refinement.hpp"
#include "compress/rounding.hpp"
#include "compress/scale_search.hpp"
#include "compress/target.hpp"
#include "model/model_folder.hpp"

namespace fastserve::compress {
namespace {

using kernels::dtype;
using kernels::zero_kind;
using numbers = std::vector<float>;

numbers random_numbers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  numbers out(count);
  for (auto& x : out) x = normal(random);
  return out;
}

std::unique_ptr<kernels::backend> cpu() { return kernels::make_cpu_backend(1); }

/// The Gram matrix of `x`, rows of `size` values.
gram gram_of(const numbers& x, std::int64_t size) {
  const auto on = cpu();
  const auto stream = on->make_stream();
  product_sums sums(size, size, *on, *stream);
  sums.add(x, x);
  std::vector<double> magnitudes(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < x.size(); ++i) magnitudes[i % magnitudes.size()] += std::abs(x[i]);
  return {sums.values(), magnitudes, static_cast<std::int64_t>(x.size()) / size};
}

/// Inputs as models have them: columns correlate, and a few are large.
gram correlated(std::int64_t size, std::int64_t rows) {
  const auto n = static_cast<std::size_t>(size);
  auto x = random_numbers(static_cast<std::size_t>(rows) * n, 1);
  for (std::size_t r = 0; r < x.size(); r += n)
    for (std::size_t i = 1; i < n; ++i)
      x[r + i] = (0.7F * x[r + i - 1] + x[r + i]) * (i % 16 == 3 ? 4.0F : 1.0F);
  return gram_of(x, size);
}

const kernels::quantized_format formats[] = {{4, 32, zero_kind::none, dtype::f16},
                                             {4, 32, zero_kind::integer, dtype::f16},
                                             {4, 16, zero_kind::integer, dtype::f32},
                                             {8, 0, zero_kind::none, dtype::f16},
                                             {8, 64, zero_kind::integer, dtype::f32}};

}  // namespace

BOOST_AUTO_TEST_CASE(grams_add_up) {
  const auto g = gram_of({1, 2, 3, -4}, 2);
  BOOST_CHECK((g.values() == numbers{10, -10, -10, 20}));
  BOOST_CHECK((g.mean_magnitudes() == numbers{2, 3}));
  const auto half = g.divided({2, 1});
  BOOST_CHECK((half.values() == numbers{2.5F, -5, -5, 20}));
  BOOST_CHECK((half.mean_magnitudes() == numbers{1, 3}));
  // d = (1, 0): 10; w = (1, 1): 10
  const numbers w{1, 1}, v{2, 1};
  BOOST_CHECK_CLOSE(relative_error(w.data(), v.data(), 1, 2, &g), 1.0, 1e-4);
  BOOST_CHECK_CLOSE(relative_error(w.data(), v.data(), 1, 2, nullptr), std::sqrt(0.5), 1e-4);
}

BOOST_AUTO_TEST_CASE(the_factor_is_the_inverse) {
  constexpr std::int64_t n = 48;
  const auto g = correlated(n, 500);
  const auto u = inverse_factor(g, 0.01);
  double mean = 0;
  for (std::int64_t i = 0; i < n; ++i) mean += g.at(i, i) / static_cast<double>(n);
  const auto at = [&](std::int64_t i, std::int64_t j) {
    return double{u[static_cast<std::size_t>(i * n + j)]};
  };
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      if (j < i) BOOST_CHECK_EQUAL(at(i, j), 0.0);
      double sum = 0;  // (U^T U (G + damping))[i][j]
      for (std::int64_t k = 0; k < n; ++k) {
        double inverse = 0;
        for (std::int64_t l = 0; l < n; ++l) inverse += at(l, i) * at(l, k);
        sum += inverse * (g.at(k, j) + (k == j ? 0.01 * mean : 0.0));
      }
      BOOST_CHECK_SMALL(sum - (i == j ? 1.0 : 0.0), 1e-3);
    }
  // inputs that were never there
  const auto none = inverse_factor(gram_of({0, 0, 0}, 3), 0.01);
  BOOST_CHECK((none == numbers{1, 0, 0, 0, 1, 0, 0, 0, 1}));
  BOOST_CHECK_THROW(inverse_factor(gram_of({1, NAN}, 2), 0.01), std::runtime_error);
}

BOOST_AUTO_TEST_CASE(rounding_to_nearest_is_the_kernels_rounding) {
  const auto w = random_numbers(7 * 100, 2);
  for (const auto& format : formats) {
    BOOST_TEST_CONTEXT(kernels::to_string(format)) {
      const auto got = round_nearest(w.data(), 7, 100, {format});
      const auto want = kernels::quantize_nearest(format, w.data(), 7, 100);
      BOOST_CHECK(got.integers->scales == want.scales);
      BOOST_CHECK(got.integers->zeros == want.zeros);
      BOOST_CHECK(got.integers->codes == want.codes);
      for (std::int64_t r = 0; r < 7; ++r) {
        numbers row(100);
        kernels::dequantize_row(row.data(), want.view(), r);
        BOOST_CHECK(std::equal(row.begin(), row.end(), got.values.begin() + r * 100));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(calibration_lessens_the_error) {
  constexpr std::int64_t rows = 24, cols = 160;
  const auto w = random_numbers(rows * cols, 3);
  const auto g = correlated(cols, 2000);
  for (const auto& format : formats) {
    BOOST_TEST_CONTEXT(kernels::to_string(format)) {
      const auto error = [&](const compressed_matrix& m) {
        kernels::check(m.integers->view());
        numbers row(cols);
        for (std::int64_t r = 0; r < rows; ++r) {
          kernels::dequantize_row(row.data(), m.integers->view(), r);
          BOOST_CHECK(std::equal(row.begin(), row.end(), m.values.begin() + r * cols));
        }
        return relative_error(w.data(), m.values.data(), rows, cols, &g);
      };
      const auto nearest = error(round_nearest(w.data(), rows, cols, {format}));
      const auto clipped = error(round_nearest(w.data(), rows, cols, {format, true}));
      auto fed = round_with_feedback(w.data(), rows, cols, inverse_factor(g, 0.01), {format, true});
      const auto feedback = error(fed);
      refine(fed, w.data(), rows, cols, g, {format, true}, 3);
      const auto refined = error(fed);
      BOOST_CHECK_LT(feedback, 0.9 * nearest);
      BOOST_CHECK_LT(refined, feedback);
      BOOST_CHECK_LT(clipped, 1.1 * nearest);
      // the same, however many threads
      BOOST_CHECK(round_with_feedback(w.data(), rows, cols, inverse_factor(g, 0.01), {format, true}).values ==
                  round_with_feedback(w.data(), rows, cols, inverse_factor(g, 0.01), {format, true}).values);
    }
  }
}

/// Where inputs and residual drift apart by what is linear in the inputs, all of it is made up for.
BOOST_AUTO_TEST_CASE(targets_make_up_for_what_was_lost) {
  constexpr std::int64_t rows = 6, cols = 20, tokens = 300;
  const auto w = random_numbers(rows * cols, 7);
  const auto seen = random_numbers(tokens * cols, 8);
  const auto lost = random_numbers(rows * cols, 9);  // of the residual, per input
  numbers inputs_off(seen.size()), residuals_off(tokens * rows);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t c = 0; c < cols; ++c) inputs_off[t * cols + c] = 0.1F * seen[t * cols + (c + 1) % cols];
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c)
        residuals_off[t * rows + r] += lost[r * cols + c] * seen[t * cols + c];
  }
  const auto on = cpu();
  const auto stream = on->make_stream();
  product_sums of_inputs(cols, cols, *on, *stream), of_residuals(rows, cols, *on, *stream);
  of_inputs.add(inputs_off, seen);
  of_residuals.add(residuals_off, seen);
  const auto factor = inverse_factor(gram_of(seen, cols), 1e-6);
  drift half{of_inputs.values(), of_residuals.values()};
  for (auto* sums : {&half.inputs, &half.residuals})
    for (auto& x : *sums) x /= 2;
  const std::array off{half, half};
  const auto target = least_squares_target(w.data(), rows, cols, factor, off);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c)
      BOOST_CHECK_SMALL(target[r * cols + c] - (w[r * cols + c] + lost[r * cols + c] +
                                                0.1F * w[r * cols + (c + cols - 1) % cols]),
                        1e-3F);
  // inputs divided by d: columns of the matrix and of its target times d
  numbers by(cols), scaled = w;
  for (std::size_t c = 0; c < cols; ++c) by[c] = 0.5F + 0.1F * static_cast<float>(c);
  for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] *= by[i % cols];
  drift divided{half.inputs, {}};
  divided.divide(by);
  const auto smaller = inverse_factor(gram_of(seen, cols).divided(by), 1e-6);
  const auto without =
      least_squares_target(w.data(), rows, cols, factor, {drift{half.inputs, {}}, drift{half.inputs, {}}});
  const auto moved = least_squares_target(scaled.data(), rows, cols, smaller, {divided, divided});
  for (std::size_t i = 0; i < moved.size(); ++i)
    BOOST_CHECK_SMALL(moved[i] / by[i % cols] - without[i], 1e-3F);
  // nothing lost, nothing to make up for
  const drift none{numbers(cols * cols), {}};
  BOOST_CHECK(least_squares_target(w.data(), rows, cols, factor, {none, none}) == w);
  // what only one half says, or one says of the other's opposite, is not believed
  BOOST_CHECK(least_squares_target(w.data(), rows, cols, factor, {half, drift{}}) == w);
  auto opposite = half;
  for (auto* sums : {&opposite.inputs, &opposite.residuals})
    for (auto& x : *sums) x *= -0.5F;
  BOOST_CHECK(least_squares_target(w.data(), rows, cols, factor, {half, opposite}) == w);
}

BOOST_AUTO_TEST_CASE(scales_follow_the_inputs) {
  constexpr std::int64_t rows = 32, cols = 64;
  const auto w = random_numbers(rows * cols, 4);
  numbers x = random_numbers(1000 * cols, 5);
  for (std::size_t i = 7; i < x.size(); i += cols) x[i] *= 100;  // one loud channel
  const auto g = gram_of(x, cols);
  const auto factors = search_scales({{w.data(), rows}}, cols, g, formats[0]);
  BOOST_CHECK_GT(factors[7], 1.5F * factors[6]);
  std::vector<std::int32_t> shared(cols);
  for (std::size_t i = 0; i < cols; ++i) shared[i] = static_cast<std::int32_t>(i % 8);
  const auto eighths = search_scales({{w.data(), rows}}, cols, g, formats[0], shared);
  for (std::size_t i = 8; i < cols; ++i) BOOST_CHECK_EQUAL(eighths[i], eighths[i - 8]);
}

BOOST_AUTO_TEST_CASE(pruning_is_read_and_done) {
  BOOST_CHECK(!parse_pruning("").any());
  BOOST_CHECK_EQUAL(to_string(parse_pruning("0.5")), "50%");
  BOOST_CHECK_EQUAL(to_string(parse_pruning("2:4")), "2:4");
  for (const auto* wrong : {"0", "1", "-0.5", "x", "4:4", "0:4", "2:", ":4", "2:4:8", "nan", "1e9", "2:100"})
    BOOST_CHECK_THROW(parse_pruning(wrong), std::invalid_argument);
  const numbers w{1, -5, 2, 3, 0.5F, 4, -6, 0.1F};
  using mask = std::vector<std::uint8_t>;
  const numbers equal(8, 1.0F);
  BOOST_CHECK((keep_mask(parse_pruning("0.5"), w.data(), 1, 8, equal) == mask{0, 1, 0, 1, 0, 1, 1, 0}));
  BOOST_CHECK((keep_mask(parse_pruning("2:4"), w.data(), 1, 8, equal) == mask{0, 1, 0, 1, 0, 1, 1, 0}));
  BOOST_CHECK((keep_mask(parse_pruning("1:4"), w.data(), 1, 8, {100, 1, 1, 1, 1, 1, 1, 1}) ==
               mask{1, 0, 0, 0, 0, 0, 1, 0}));

  constexpr std::int64_t rows = 8, cols = 64;
  const auto big = random_numbers(rows * cols, 6);
  const auto g = correlated(cols, 1000);
  const auto keep = keep_mask(parse_pruning("2:4"), big.data(), rows, cols, numbers(cols, 1.0F));
  for (const auto& format : formats) {
    rounding_options options{format, true};
    options.keep = &keep;
    auto m = round_with_feedback(big.data(), rows, cols, inverse_factor(g, 0.01), options);
    refine(m, big.data(), rows, cols, g, options, 2);
    for (std::size_t i = 0; i < keep.size(); ++i)
      if (keep[i] == 0) BOOST_CHECK_EQUAL(m.values[i], 0.0F);
    const auto plain = round_nearest(big.data(), rows, cols, options);
    BOOST_CHECK_LT(relative_error(big.data(), m.values.data(), rows, cols, &g),
                   relative_error(big.data(), plain.values.data(), rows, cols, &g));
  }
}

BOOST_AUTO_TEST_CASE(texts_are_cut) {
  std::vector<std::int32_t> tokens(100);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i);
  const auto all = cut_sequences(tokens, 11, 3, 7);
  BOOST_REQUIRE_EQUAL(all.size(), 3U);
  for (const auto& s : all) BOOST_CHECK(s.size() == 11 && s.front() == 7);
  BOOST_CHECK_EQUAL(all[1][1], 30);
  BOOST_CHECK_EQUAL(cut_sequences(tokens, 200, 3, -1).at(0).size(), 100U);
  BOOST_CHECK(cut_sequences({}, 200, 3, -1).empty());
}

/// Whole models: what is written loads, holds what was said, and calibration is worth its while.
BOOST_AUTO_TEST_CASE(models_are_compressed) {
  const auto cpu = kernels::make_cpu_backend(2);
  for (const auto* name : {"llama", "qwen2", "qwen3", "llama_biases"}) {
    BOOST_TEST_CONTEXT(name) {
      model::model_folder from(std::filesystem::path(FASTSERVE_TEST_DATA) / "models" / name);
      std::mt19937 random(1);
      std::vector<std::vector<std::int32_t>> sequences(40);
      for (auto& s : sequences)
        for (int i = 0; i < 32; ++i)
          s.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(from.arch().vocab_size)));
      const std::vector judged(sequences.begin(), sequences.begin() + 10);
      double divergence[3] = {};
      for (int how = 0; how < 3; ++how) {
        const temporary_folder folder;
        compress_options options;
        options.format = {how == 0 ? 8 : 4, how == 0 ? 0 : 16,
                          how == 0 ? zero_kind::none : zero_kind::integer, dtype::f16};
        if (how == 2) options.calibration.assign(sequences.begin() + 10, sequences.end());
        folder_writer writer(folder.path() / "out", from.path(), from.arch(), options, from.weights());
        const auto reports = compress_model(from.arch(), from.weights(), options, *cpu, writer, {});
        writer.finish();
        BOOST_CHECK_EQUAL(reports.size(), static_cast<std::size_t>(7 * from.arch().layers));
        for (const auto& r : reports) BOOST_CHECK(r.compressed > 0 && r.compressed <= r.nearest);
        model::model_folder to(folder.path() / "out");
        const auto d = to.describe();
        BOOST_CHECK(d.unused.empty());
        const auto about = to.weights().describe("model.layers.0.mlp.down_proj.weight");
        BOOST_CHECK(about.quantized == *options.format);
        const auto score =
            compare_on_text({from.arch(), from.weights()}, {to.arch(), to.weights()}, judged, *cpu, {});
        BOOST_CHECK_EQUAL(score.tokens, 310);
        BOOST_CHECK_GT(score.perplexity, 1);
        divergence[how] = score.divergence;
        if (how == 1) {  // every weight as rounding gives it
          const auto values = to.weights().quantized("model.layers.0.mlp.down_proj.weight");
          const auto original = from.weights().tensor("model.layers.0.mlp.down_proj.weight");
          numbers w(values.codes.size());
          kernels::to_f32(w.data(), original.data, original.type, w.size());
          const auto want = kernels::quantize_nearest(*options.format, w.data(), values.rows, values.cols);
          BOOST_CHECK(values.codes == want.codes && values.scales == want.scales &&
                      values.zeros == want.zeros);
        }
      }
      BOOST_CHECK_LT(divergence[0], 0.2 * divergence[1]);
      BOOST_CHECK_LT(divergence[2], 0.9 * divergence[1]);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_done_is_refused) {
  const auto cpu = kernels::make_cpu_backend(1);
  const auto models = std::filesystem::path(FASTSERVE_TEST_DATA) / "models";
  const temporary_folder folder;
  folder.write("there", "x");
  compress_options options;
  options.format = formats[0];
  model::model_folder llama(models / "llama");
  BOOST_CHECK_THROW(folder_writer(folder.path(), llama.path(), llama.arch(), options, llama.weights()),
                    std::runtime_error);
  model::model_folder gpt2(models / "gpt2");
  struct nothing : compressed_sink {
    void matrix(std::string_view, const kernels::quantized_tensor&) override {}
    void numbers(std::string_view, const std::vector<std::int64_t>&, const std::vector<float>&,
                 bool) override {}
    void copy(std::string_view, const model::host_tensor&) override {}
  } sink;
  BOOST_CHECK_THROW(compress_model(gpt2.arch(), gpt2.weights(), options, *cpu, sink, {}), std::runtime_error);
}

}  // namespace fastserve::compress
