#include <set>

#include "fixture.hpp"

using namespace fastserve::kernels;

BOOST_AUTO_TEST_SUITE(rows)

BOOST_DATA_TEST_CASE(norms, every_isa(), isa) {
  bench_top top{isa};
  for (const std::int64_t cols : {1, 3, 8, 15, 16, 17, 48, 63, 64, 65, 172, 513, 2048}) {
    for (const std::int64_t rows : {1, 5, 40}) {
      const auto seed = static_cast<unsigned>(rows * 4001 + cols);
      auto input = random_matrix(rows, cols, seed, 3.0F);
      for (auto& x : input.values) x += 1.0F;
      const auto gain = random_values(static_cast<std::size_t>(cols), seed + 1);
      const auto bias = random_values(static_cast<std::size_t>(cols), seed + 2);
      const auto in = top.put(input);
      const auto gain_row = top.put(gain);
      const auto bias_row = top.put(bias);
      for (const auto type : float_types) {
        auto out = top.empty(rows, cols, type);
        const double relative = 4e-6 + rounding(type);
        norm_weights by{norm_kind::rms, 1e-5F, gain_row.view, {}};
        top.ops->norm(out.view, in.view, by, top.on());
        check_close(top.get(out.view), reference::rms_norm(input, gain, 1e-5F), 1e-7, relative);
        // A layer norm of few columns subtracts nearly equal numbers.
        by = {norm_kind::layer, 1e-5F, gain_row.view, bias_row.view};
        top.ops->norm(out.view, in.view, by, top.on());
        check_close(top.get(out.view), reference::layer_norm(input, gain, bias, 1e-5F), 2e-5, relative);
        by.bias = {};
        top.ops->norm(out.view, in.view, by, top.on());
        check_close(top.get(out.view), reference::layer_norm(input, gain, {}, 1e-5F), 2e-5, relative);
      }
    }
  }
}

// A device has host copies of the last two views that were read, wherever they were.
BOOST_DATA_TEST_CASE(the_host_reads_any_number_of_views, every_isa(), isa) {
  bench_top top{isa};
  std::vector<device_matrix> views;
  std::set<const void*> places;
  std::vector<const float*> read;
  for (unsigned i = 0; i < 8; ++i) {
    const auto values = random_values(100, i);
    views.push_back(top.put(values));
    read.push_back(static_cast<const float*>(top.ops->host_read(views.back().view, top.on())));
    places.insert(read.back());
    BOOST_TEST(std::equal(values.begin(), values.end(), read[i]));
    if (i == 0) continue;
    const auto before = random_values(100, i - 1);
    BOOST_TEST(std::equal(before.begin(), before.end(), read[i - 1]));
  }
  if (views[0].memory.where().kind != device_kind::cpu) BOOST_TEST(places.size() <= 2U);
}

BOOST_DATA_TEST_CASE(activations, every_isa(), isa) {
  bench_top top{isa};
  matrix input{1, 40001};
  for (std::int64_t i = 0; i < input.cols; ++i) input.at(0, i) = static_cast<float>(i - 20000) * 1e-3F;
  for (const auto f : {activation::silu, activation::gelu, activation::gelu_tanh, activation::relu}) {
    matrix expected{1, input.cols};
    for (std::int64_t i = 0; i < input.cols; ++i) {
      expected.at(0, i) = static_cast<float>(reference::activate(input.at(0, i), f));
    }
    const auto in = top.put(input);
    for (const auto type : float_types) {
      auto out = top.empty(1, input.cols, type);
      top.ops->activate(out.view, in.view, f, false, top.on());
      check_close(top.get(out.view), expected, type == dtype::f16 ? 6e-8 : 3e-7, 2e-6 + rounding(type));
    }
  }
}

BOOST_DATA_TEST_CASE(activations_far_out_stay_finite, every_isa(), isa) {
  bench_top top{isa};
  matrix input{1, 6};
  input.values = {-1e30F, -200.0F, -90.0F, 90.0F, 200.0F, 1e12F};
  const auto in = top.put(input);
  for (const auto f : {activation::silu, activation::gelu, activation::gelu_tanh, activation::relu}) {
    auto out = top.empty(1, 6);
    top.ops->activate(out.view, in.view, f, false, top.on());
    const auto found = top.get(out.view);
    for (std::int64_t i = 0; i < 3; ++i) BOOST_TEST(std::abs(found.at(0, i)) < 1e-30F);
    for (std::int64_t i = 3; i < 6; ++i) BOOST_TEST(found.at(0, i) == input.at(0, i));
  }
}

BOOST_DATA_TEST_CASE(gated_activations, every_isa(), isa) {
  bench_top top{isa};
  for (const std::int64_t cols : {1, 7, 48, 2049, 5632}) {
    for (const std::int64_t rows : {1, 3, 17}) {
      const auto input = random_matrix(rows, 2 * cols, static_cast<unsigned>(rows * 7 + cols), 2.0F);
      const auto in = top.put(input);
      matrix expected{rows, cols};
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < cols; ++c) {
          expected.at(r, c) = static_cast<float>(reference::activate(input.at(r, c), activation::silu) *
                                                 input.at(r, c + cols));
        }
      }
      for (const auto type : float_types) {
        auto out = top.empty(rows, cols, type);
        top.ops->activate(out.view, in.view, activation::silu, true, top.on());
        check_close(top.get(out.view), expected, 1e-7, 2e-6 + rounding(type));
      }
    }
  }
}

BOOST_DATA_TEST_CASE(embedding, every_isa(), isa) {
  bench_top top{isa};
  for (const auto type : float_types) {
    for (const std::int64_t cols : {1, 33, 256}) {
      const auto words = rounded(random_matrix(50, cols, 1), type);
      const auto places = rounded(random_matrix(20, cols, 2), type);
      auto word_bytes = bytes_of(words.values, type);
      word_bytes.insert(word_bytes.begin(), std::byte{});  // an odd address, as mapped files have
      const auto place_bytes = bytes_of(places.values, type);
      const auto tokens = top.ops->table({word_bytes.data() + 1, type, 50, cols, false});
      const auto positions = top.ops->table({place_bytes.data(), type, 20, cols, false});
      step_layout layout;
      layout.token_ids = {0, 49, 7, 7, 21};
      layout.positions = {3, 4, 5, 0, 19};
      const auto plan = top.ops->plan_step(layout, {}, {}, top.on());
      auto out = top.empty(5, cols);
      top.ops->embed(out.view, *tokens, nullptr, *plan, top.on());
      auto found = top.get(out.view);
      for (std::size_t r = 0; r < 5; ++r) {
        for (std::int64_t c = 0; c < cols; ++c) {
          BOOST_REQUIRE_EQUAL(found.at(static_cast<int>(r), c), words.at(layout.token_ids[r], c));
        }
      }
      top.ops->embed(out.view, *tokens, positions.get(), *plan, top.on());
      found = top.get(out.view);
      for (std::size_t r = 0; r < 5; ++r) {
        for (std::int64_t c = 0; c < cols; ++c) {
          BOOST_REQUIRE_EQUAL(found.at(static_cast<int>(r), c),
                              words.at(layout.token_ids[r], c) + places.at(layout.positions[r], c));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(gathered_rows) {
  bench_top top{""};
  const auto input = random_matrix(6, 19, 1);
  const auto in = top.put(input);
  step_layout layout;
  layout.positions = {0, 1, 2, 3, 4, 5};
  layout.sampled_rows = {0, 3, 5};
  const auto plan = top.ops->plan_step(layout, {}, {}, top.on());
  auto out = top.empty(3, 19);
  top.ops->gather_sampled(out.view, in.view, *plan, top.on());
  const auto found = top.get(out.view);
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::int64_t c = 0; c < 19; ++c) {
      BOOST_TEST(found.at(static_cast<int>(i), c) == input.at(layout.sampled_rows[i], c));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
