#include "fixture.hpp"

using namespace fastserve::kernels;

BOOST_AUTO_TEST_SUITE(linear)

namespace {

const double f32_error =
    2e-6 * device_error;  // of the sum of the products' magnitudes, for the lengths tested here

/// A product and what it should give.
struct product_case {
  std::vector<std::byte> weight;  // as `source`
  matrix input, before, expected, magnitude;
};

product_case make_product(std::int64_t rows, std::int64_t n, std::int64_t k, dtype source, dtype compute,
                          dtype input_type) {
  const auto seed = static_cast<unsigned>(rows * 1000003 + n * 1009 + k);
  const auto w = rounded(random_matrix(n, k, seed, 0.5F), source);
  product_case c{bytes_of(w.values, source),
                 rounded(random_matrix(rows, k, seed + 1), input_type),
                 random_matrix(rows, n + 5, seed + 2),
                 {0, 0},
                 {0, 0}};
  const auto used = rounded(w, compute);
  c.expected = reference::linear(c.input, used);
  c.magnitude = reference::linear_magnitude(c.input, used);
  return c;
}

/// Product, bias and residual against the reference at one shape.
void check_product(bench_top& top, std::int64_t rows, std::int64_t n, std::int64_t k, dtype source,
                   dtype compute) {
  BOOST_TEST_CONTEXT("rows " << rows << " n " << n << " k " << k << " from " << name_of(source) << " to "
                             << name_of(compute)) {
    const float one = 1;
    const host_matrix single{&one, dtype::f32, 1, 1, false};
    const auto input_type = top.ops->pack({&single, 1}, compute)->input_type();
    const std::string key = std::string{name_of(source)} + " " + std::string{name_of(compute)} + " " +
                            std::string{name_of(input_type)} + " " + std::to_string(rows) + " " +
                            std::to_string(n) + " " + std::to_string(k);
    const auto& made = once(key, [&] { return make_product(rows, n, k, source, compute, input_type); });
    const host_matrix host{made.weight.data(), source, n, k, false};
    const auto packed = top.ops->pack({&host, 1}, compute);
    BOOST_REQUIRE(packed->rows() == n && packed->cols() == k && packed->type() == compute);
    BOOST_REQUIRE(packed->input_type() == input_type);
    const auto in = top.put(made.input, input_type);
    const auto& before = made.before;
    const auto& magnitude = made.magnitude;
    auto expected = made.expected;
    const auto check = [&](const matrix& found) {
      for (std::size_t i = 0; i < found.values.size(); ++i) {
        const double error = std::abs(double{found.values[i]} - expected.values[i]);
        if (error <= f32_error * (magnitude.values[i] + std::abs(expected.values[i]) + 4)) continue;
        BOOST_FAIL("element " << i << ": found " << found.values[i] << ", expected " << expected.values[i]);
      }
    };
    // Columns around the result must stay as they are.
    auto out = top.put(before);
    const auto inner = out.view.col_range(2, n);
    top.ops->linear(inner, in.view, *packed, {}, false, top.on());
    check(top.get(inner));

    const auto bias = random_values(static_cast<std::size_t>(n), static_cast<unsigned>(n));
    const auto bias_row = top.put(bias);
    out = top.put(before);
    top.ops->linear(out.view.col_range(2, n), in.view, *packed, bias_row.view, true, top.on());
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < n; ++c) {
        expected.at(r, c) += bias[static_cast<std::size_t>(c)] + before.at(r, c + 2);
      }
    }
    const auto all = top.get(out.view);
    check(top.get(out.view.col_range(2, n)));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (const std::int64_t c : {std::int64_t{0}, std::int64_t{1}, n + 2, n + 3, n + 4}) {
        BOOST_REQUIRE_EQUAL(all.at(r, c), before.at(r, c));
      }
    }
  }
}

}  // namespace

BOOST_DATA_TEST_CASE(every_row_count, every_isa(), isa) {
  bench_top top{isa};
  for (const auto compute : float_types) {
    for (std::int64_t rows = 1; rows <= 70; ++rows) check_product(top, rows, 40, 172, dtype::f32, compute);
  }
}

BOOST_DATA_TEST_CASE(odd_sizes, every_isa(), isa) {
  bench_top top{isa};
  for (const auto source : float_types) {
    for (const auto compute : float_types) {
      for (const std::int64_t k : {1, 7, 48, 172}) {
        for (const std::int64_t n : {3, 131, 512}) {
          for (const std::int64_t rows : {1, 5, 13}) check_product(top, rows, n, k, source, compute);
        }
      }
    }
  }
}

BOOST_DATA_TEST_CASE(long_rows_are_cut_into_blocks, every_isa(), isa) {
  bench_top top{isa};
  for (const auto compute : float_types) {
    for (const std::int64_t k : {256, 511, 513, 1031}) check_product(top, 70, 131, k, compute, compute);
  }
  if (emulated) return check_product(top, 300, 67, 1061, dtype::bf16, dtype::bf16);
  check_product(top, 900, 67, 530, dtype::f32, dtype::f32);
  check_product(top, 900, 67, 1061, dtype::bf16, dtype::bf16);
}

BOOST_DATA_TEST_CASE(stacked_and_transposed, every_isa(), isa) {
  bench_top top{isa};
  const std::int64_t k = 77;
  for (const auto source : float_types) {
    for (const auto compute : float_types) {
      const std::int64_t parts[] = {33, 1, 70};
      std::vector<std::vector<std::byte>> memory;
      std::vector<host_matrix> sources;
      matrix all{104, k};
      std::int64_t row = 0;
      for (const auto rows : parts) {
        const auto m = rounded(random_matrix(rows, k, static_cast<unsigned>(rows)), source);
        std::copy(m.values.begin(), m.values.end(), all.values.begin() + row * k);
        row += rows;
        // The second part is stored [cols, rows], and every part at an odd address.
        const bool transposed = sources.size() != 0;
        matrix stored = transposed ? matrix{k, rows} : m;
        for (std::int64_t r = 0; transposed && r < rows; ++r) {
          for (std::int64_t c = 0; c < k; ++c) stored.at(c, r) = m.at(r, c);
        }
        const auto bytes = bytes_of(stored.values, source);
        memory.emplace_back(bytes.size() + 1);
        std::copy(bytes.begin(), bytes.end(), memory.back().begin() + 1);
        sources.push_back({memory.back().data() + 1, source, rows, k, transposed});
      }
      const auto packed = top.ops->pack(sources, compute);
      BOOST_REQUIRE_EQUAL(packed->rows(), 104);
      const auto input = rounded(random_matrix(9, k, 5), packed->input_type());
      const auto in = top.put(input, packed->input_type());
      auto out = top.empty(9, 104);
      top.ops->linear(out.view, in.view, *packed, {}, false, top.on());
      check_close(top.get(out.view), reference::linear(input, rounded(all, compute)), 1e-4 * device_error,
                  1e-5);
    }
  }
}

BOOST_DATA_TEST_CASE(input_may_be_strided, every_isa(), isa) {
  bench_top top{isa};
  for (const auto compute : float_types) {
    const auto w = rounded(random_matrix(48, 33, 1), compute);
    const auto bytes = bytes_of(w.values, compute);
    const host_matrix host{bytes.data(), compute, 48, 33, false};
    const auto packed = top.ops->pack({&host, 1}, compute);
    for (const std::int64_t rows : {1, 3, 20}) {
      const auto wide = rounded(random_matrix(rows, 51, 2), packed->input_type());
      matrix input{rows, 33};
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < 33; ++c) input.at(r, c) = wide.at(r, c + 7);
      }
      const auto in = top.put(wide, packed->input_type());
      auto out = top.empty(rows, 48);
      top.ops->linear(out.view, in.view.col_range(7, 33), *packed, {}, false, top.on());
      check_close(top.get(out.view), reference::linear(input, w), 1e-4 * device_error, 1e-5);
    }
  }
}

BOOST_AUTO_TEST_CASE(matrices_that_do_not_stack_are_refused) {
  bench_top top{""};
  const std::vector<float> values(64);
  const host_matrix unequal[] = {{values.data(), dtype::f32, 4, 8, false},
                                 {values.data(), dtype::f32, 4, 9, false}};
  BOOST_CHECK_THROW(top.ops->pack(unequal, dtype::f32), std::invalid_argument);
  BOOST_CHECK_THROW(top.ops->pack({}, dtype::f32), std::invalid_argument);
  BOOST_CHECK_THROW(top.ops->pack({unequal, 1}, dtype::i32), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()
