#include "fixture.hpp"

using namespace fastserve::kernels;

// Products of grouped integers: against the numbers that codes and scales stand for, and rows rounded as
// documented.

BOOST_AUTO_TEST_SUITE(integers)

namespace {

const quantized_format formats[] = {
    {8, 32, zero_kind::none, dtype::f16},     {8, 16, zero_kind::none, dtype::f32},
    {8, 64, zero_kind::integer, dtype::f16},  {8, 128, zero_kind::none, dtype::f16},
    {8, 0, zero_kind::none, dtype::f32},      {8, 0, zero_kind::offset, dtype::f16},
    {4, 16, zero_kind::none, dtype::f16},     {4, 32, zero_kind::none, dtype::f16},
    {4, 32, zero_kind::offset, dtype::f32},   {4, 64, zero_kind::offset, dtype::f16},
    {4, 128, zero_kind::integer, dtype::f16}, {4, 128, zero_kind::integer, dtype::f32},
    {4, 0, zero_kind::integer, dtype::f16},
};

/// All codes, scales of both signs, zeros and offsets at random.
quantized_tensor random_weight(const quantized_format& format, std::int64_t rows, std::int64_t cols,
                               unsigned seed) {
  quantized_tensor t{format, rows, cols};
  std::mt19937 engine{seed};
  for (auto& c : t.codes)
    c = static_cast<std::uint8_t>(static_cast<int>(engine() % (1U << format.bits)) + format.lowest());
  for (auto& s : t.scales) s = static_cast<float>(engine() % 2000) * 1e-5F - 0.005F;
  for (auto& z : t.zeros) z = static_cast<std::uint8_t>(engine() % (1U << format.bits));
  for (auto& o : t.offsets) o = static_cast<float>(engine() % 2000) * 1e-4F - 0.15F;
  return t;
}

bool is_w8a8(const quantized_format& f) { return f.bits == 8 && f.group == 0 && f.zero == zero_kind::none; }

/// To the nearest number of eight bits, the even one of two.
double to_bf16(double x) {
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8);
}

/// The numbers that a weight stands for. A GPU opens groups to bf16, of scales and offsets that are bf16.
matrix numbers_of(const quantized_matrix& m) {
  matrix out{m.rows, m.cols};
  for (std::int64_t r = 0; r < m.rows; ++r) dequantize_row(&out.at(r, 0), m, r);
  if (!on_cuda || is_w8a8(m.format)) return out;
  const auto kept = [&](float x) {
    return to_bf16(m.format.scale == dtype::f16 ? rounded({x}, dtype::f16)[0] : x);
  };
  for (std::int64_t r = 0; r < m.rows; ++r) {
    for (std::int64_t c = 0; c < m.cols; ++c) {
      const auto group = static_cast<std::size_t>(r * m.groups() + c / m.format.group_columns(m.cols));
      const auto byte = m.codes[r * m.cols + c];
      const int code = m.format.zero == zero_kind::none ? static_cast<std::int8_t>(byte) : byte;
      const int zero = m.format.zero == zero_kind::integer ? m.zeros[group] : 0;
      const double offset = m.format.zero == zero_kind::offset ? kept(m.offsets[group]) : 0;
      out.at(r, c) = static_cast<float>(to_bf16(kept(m.scales[group]) * (code - zero) + offset));
    }
  }
  return out;
}

/// Rows as the products see them: int8 with a scale for every 128 columns.
matrix rounded_rows(matrix m) {
  for (std::int64_t r = 0; r < m.rows; ++r) {
    for (std::int64_t from = 0; from < m.cols; from += 128) {
      const auto to = std::min(from + 128, m.cols);
      float largest = 0;
      for (auto c = from; c < to; ++c) largest = std::max(largest, std::abs(m.at(r, c)));
      const float inverse = largest > 0 ? 127.0F / largest : 0;
      for (auto c = from; c < to; ++c)
        m.at(r, c) = std::nearbyint(m.at(r, c) * inverse) * (largest * (1.0F / 127.0F));
    }
  }
  return m;
}

/// An input as it is given to the product, and as the product sees it: rounded to q8 on the way, or to the
/// type that the back end wants beside weights of this format.
device_matrix put_input(bench_top& top, const matrix& input, const weight& w) {
  return top.put(input, w.input_type() == dtype::q8 ? dtype::f32 : w.input_type());
}
matrix used_input(const matrix& input, const weight& w) {
  return w.input_type() == dtype::q8 ? rounded_rows(input) : rounded(input, w.input_type());
}
/// What a product by weights of this format takes: beside W8A8, GPUs multiply bf16.
dtype input_of(const quantized_format& f) { return on_cuda && !is_w8a8(f) ? dtype::bf16 : dtype::q8; }
/// A format whose input is q8 everywhere: GPUs multiply others by bf16.
const quantized_format& rounding_format() { return formats[on_cuda ? 4 : 0]; }

/// |found - expected| within float rounding of the products' magnitudes.
void check_product(const matrix& found, const matrix& expected, const matrix& magnitude) {
  for (std::size_t i = 0; i < found.values.size(); ++i) {
    const double error = std::abs(double{found.values[i]} - expected.values[i]);
    if (error <= device_error * (3e-6 * magnitude.values[i] + 1e-6)) continue;
    BOOST_FAIL("element " << i << ": found " << found.values[i] << ", expected " << expected.values[i]);
  }
}

/// A product and what it should give.
struct product_case {
  quantized_tensor weight;
  matrix input, before, expected, magnitude;
};

product_case make_product(const quantized_format& format, std::int64_t rows, std::int64_t n, std::int64_t k) {
  const auto seed = static_cast<unsigned>(rows * 1000003 + n * 1009 + k);
  product_case c{random_weight(format, n, k, seed),
                 random_matrix(rows, k, seed + 1),
                 random_matrix(rows, n + 5, seed + 2),
                 {0, 0},
                 {0, 0}};
  const auto w = numbers_of(c.weight.view());
  const auto used =
      input_of(format) == dtype::q8 ? rounded_rows(c.input) : rounded(c.input, input_of(format));
  c.expected = reference::linear(used, w);
  c.magnitude = reference::linear_magnitude(used, w);
  if (format.zero != zero_kind::none) {
    // Scale and zero are folded apart: rounding is of the codes' magnitudes.
    for (auto& m : c.magnitude.values) m = 3 * m + 1;
  }
  return c;
}

void check_shape(bench_top& top, const quantized_format& format, std::int64_t rows, std::int64_t n,
                 std::int64_t k) {
  BOOST_TEST_CONTEXT(to_string(format) << ", rows " << rows << " n " << n << " k " << k) {
    const auto key =
        to_string(format) + " " + std::to_string(rows) + " " + std::to_string(n) + " " + std::to_string(k);
    const auto& made = once(key, [&] { return make_product(format, rows, n, k); });
    const auto view = made.weight.view();
    const auto packed = top.ops->pack_quantized({&view, 1});
    BOOST_REQUIRE(packed->rows() == n && packed->cols() == k && packed->input_type() == input_of(format));
    const auto in = put_input(top, made.input, *packed);
    const auto& before = made.before;
    const auto& magnitude = made.magnitude;
    auto expected = made.expected;

    auto out = top.put(before);
    top.ops->linear(out.view.col_range(2, n), in.view, *packed, {}, false, top.on());
    check_product(top.get(out.view.col_range(2, n)), expected, magnitude);

    const auto bias = random_values(static_cast<std::size_t>(n), static_cast<unsigned>(n));
    const auto bias_row = top.put(bias);
    out = top.put(before);
    top.ops->linear(out.view.col_range(2, n), in.view, *packed, bias_row.view, true, top.on());
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < n; ++c)
        expected.at(r, c) += bias[static_cast<std::size_t>(c)] + before.at(r, c + 2);
    }
    const auto all = top.get(out.view);
    check_product(top.get(out.view.col_range(2, n)), expected, magnitude);
    for (std::int64_t r = 0; r < rows; ++r) {  // columns around the result stay as they are
      for (const std::int64_t c : {std::int64_t{0}, std::int64_t{1}, n + 2, n + 3, n + 4})
        BOOST_REQUIRE_EQUAL(all.at(r, c), before.at(r, c));
    }
  }
}

}  // namespace

BOOST_DATA_TEST_CASE(every_row_count, every_isa(), isa) {
  bench_top top{isa};
  for (const auto& format : {formats[0], formats[4], formats[10]}) {
    for (std::int64_t rows = 1; rows <= 50; rows += emulated && rows > 10 ? 7 : 1)
      check_shape(top, format, rows, 40, 172);
  }
}

BOOST_DATA_TEST_CASE(every_format_and_odd_sizes, every_isa(), isa) {
  bench_top top{isa};
  for (const auto& format : formats) {
    for (const std::int64_t k : {1, 15, 48, 129, 700}) {
      for (const std::int64_t n : {3, 131}) {
        for (const std::int64_t rows : {1, 5, 27}) check_shape(top, format, rows, n, k);
      }
    }
  }
}

BOOST_DATA_TEST_CASE(long_rows_and_many_tiles, every_isa(), isa) {
  bench_top top{isa};
  const std::int64_t rows = emulated ? 150 : sanitized ? 230 : 700;
  for (const std::size_t i : {0, 4, 5, 6, 7, 12}) check_shape(top, formats[i], rows, 67, 1300);
  check_shape(top, formats[8], 100, 300, emulated ? 512 : 2048);
}

BOOST_DATA_TEST_CASE(extreme_codes_do_not_overflow, every_isa(), isa) {
  bench_top top{isa};
  const std::int64_t k = 512;
  const std::int64_t row_counts[] = {1, 20};  // one tile, and enough for nibbles to be opened first
  for (const auto& format : formats) {
    for (const bool low : {true, false}) {
      for (const float x : {1.0F, -1.0F}) {
        auto t = random_weight(format, 4, k, 1);
        for (auto& c : t.codes) c = static_cast<std::uint8_t>(low ? format.lowest() : format.highest());
        for (auto& s : t.scales) s = 1;
        const auto view = t.view();
        const auto packed = top.ops->pack_quantized({&view, 1});
        for (const auto rows : row_counts) {
          matrix input{rows, k};
          for (auto& v : input.values) v = x;
          const auto in = put_input(top, input, *packed);
          auto out = top.empty(rows, 4);
          top.ops->linear(out.view, in.view, *packed, {}, false, top.on());
          check_close(top.get(out.view), reference::linear(input, numbers_of(view)), 0.05, 1e-5);
        }
      }
    }
  }
}

BOOST_DATA_TEST_CASE(parts_of_a_stack_may_differ_in_format, every_isa(), isa) {
  bench_top top{isa};
  const std::int64_t k = 256;
  std::vector<quantized_tensor> parts;
  std::vector<quantized_matrix> views;
  matrix all{0, k};
  // Two of one format, one between of another.
  for (const std::size_t i : {0, 0, 7, 9, 0}) {
    parts.push_back(random_weight(formats[i], 33, k, static_cast<unsigned>(parts.size())));
    const auto w = numbers_of(parts.back().view());
    all.rows += w.rows;
    all.values.insert(all.values.end(), w.values.begin(), w.values.end());
  }
  for (const auto& p : parts) views.push_back(p.view());
  const auto packed = top.ops->pack_quantized(views);
  BOOST_TEST(packed->rows() == all.rows);
  for (const std::int64_t rows : {1, 30}) {
    const auto input = random_matrix(rows, k, 5);
    const auto in = put_input(top, input, *packed);
    auto out = top.empty(rows, all.rows);
    top.ops->linear(out.view, in.view, *packed, {}, false, top.on());
    const auto used = used_input(input, *packed);
    check_product(top.get(out.view), reference::linear(used, all), [&] {
      auto m = reference::linear_magnitude(used, all);
      for (auto& x : m.values) x = 3 * x + 1;
      return m;
    }());
  }
}

BOOST_DATA_TEST_CASE(rounding_while_packing_is_rounding_then_packing, every_isa(), isa) {
  bench_top top{isa};
  const std::int64_t n = 70;
  const std::int64_t k = 300;
  for (const auto& format : formats) {
    for (const auto source : float_types) {
      const auto values = rounded(random_values(static_cast<std::size_t>(n * k), 3), source);
      const auto bytes = bytes_of(values, source);
      std::vector<float> turned(values.size());
      for (std::int64_t r = 0; r < n; ++r) {
        for (std::int64_t c = 0; c < k; ++c)
          turned[static_cast<std::size_t>(c * n + r)] = values[static_cast<std::size_t>(r * k + c)];
      }
      const auto turned_bytes = bytes_of(turned, source);
      const host_matrix plain{bytes.data(), source, n, k, false};
      const host_matrix transposed{turned_bytes.data(), source, n, k, true};
      const auto t = quantize_nearest(format, values.data(), n, k);
      const auto view = t.view();
      const std::unique_ptr<weight> packed[] = {top.ops->pack_quantized({&view, 1}),
                                                top.ops->quantize({&plain, 1}, format),
                                                top.ops->quantize({&transposed, 1}, format)};
      const auto in = put_input(top, random_matrix(3, k, 5), *packed[0]);
      std::vector<std::vector<float>> results;
      for (const auto& w : packed) {
        auto out = top.empty(3, n);
        top.ops->linear(out.view, in.view, *w, {}, false, top.on());
        results.push_back(top.get(out.view).values);
      }
      BOOST_TEST(same_bits(results[0], results[1]));
      BOOST_TEST(same_bits(results[0], results[2]));
    }
  }
}

BOOST_DATA_TEST_CASE(ops_that_end_in_int8_are_the_op_then_rounding, every_isa(), isa) {
  bench_top top{isa};
  for (const std::int64_t k : {40, 128, 300, 2500}) {
    const auto t = random_weight(rounding_format(), 20, k, 1);
    const auto view = t.view();
    const auto packed = top.ops->pack_quantized({&view, 1});
    const auto gain = top.put(random_values(static_cast<std::size_t>(k), 2));
    const auto bias = top.put(random_values(static_cast<std::size_t>(k), 3));
    for (const std::int64_t rows : {1, 2, 37}) {
      const auto in = top.put(random_matrix(rows, 2 * k, 4));
      const auto narrow = in.view.col_range(0, k);
      const auto q8_memory = top.ops->allocate(bytes_of(dtype::q8, rows, k));
      const auto q8 = q8_memory.view(dtype::q8, rows, k);
      auto plain = top.empty(rows, k);
      auto one = top.empty(rows, 20);
      auto two = top.empty(rows, 20);
      const auto check_same = [&](const char* what) {
        top.ops->linear(one.view, q8, *packed, {}, false, top.on());
        top.ops->linear(two.view, plain.view, *packed, {}, false, top.on());
        BOOST_TEST(same_bits(top.get(one.view).values, top.get(two.view).values), what);
      };
      for (const bool rms : {true, false}) {
        norm_weights by{rms ? norm_kind::rms : norm_kind::layer, 1e-5F, gain.view, {}};
        if (!rms) by.bias = bias.view;
        top.ops->norm(q8, narrow, by, top.on());
        top.ops->norm(plain.view, narrow, by, top.on());
        check_same("norm");
      }
      for (const auto f : {activation::silu, activation::gelu, activation::gelu_tanh, activation::relu}) {
        top.ops->activate(q8, in.view, f, true, top.on());
        top.ops->activate(plain.view, in.view, f, true, top.on());
        check_same("gated");
        top.ops->activate(q8, narrow, f, false, top.on());
        top.ops->activate(plain.view, narrow, f, false, top.on());
        check_same("plain");
      }
    }
  }
}

BOOST_DATA_TEST_CASE(a_row_is_the_same_in_any_batch, every_isa(), isa) {
  // Several blocks of k, several panels at once and an odd one, more rows than a job takes.
  const std::int64_t k = emulated ? 411 : sanitized ? 600 : 1111;
  const std::int64_t n = emulated ? 70 : sanitized ? 109 : 333;
  const std::int64_t most = emulated ? 200 : 400;
  const std::vector<std::int64_t> counts =
      emulated ? std::vector<std::int64_t>{1, 7, 9, 24, 64, 150}
               : std::vector<std::int64_t>{1, 2, 3, 5, 8, 11, 12, 13, 24, 25, 63, 300};
  const auto input = random_matrix(most, k, 2);
  for (const auto& format : formats) {
    // Each size of code with folds that are a record and folds that are less.
    const auto index = &format - formats;
    if (sanitized && index != 0 && index != 3 && index != 8 && index != 10) continue;
    const auto t = random_weight(format, n, k, 1);
    const auto view = t.view();
    bench_top top{isa, 3};
    const auto packed = top.ops->pack_quantized({&view, 1});
    const auto in = put_input(top, input, *packed);
    auto out = top.empty(most, n);
    top.ops->linear(out.view, in.view, *packed, {}, false, top.on());
    for (const std::int64_t rows : counts) {
      for (const std::int64_t first : {std::int64_t{0}, std::int64_t{37}, most - rows}) {
        if (sanitized && first == 0) continue;
        auto part = top.empty(rows, n);
        top.ops->linear(part.view, in.view.row_range(first, rows), *packed, {}, false, top.on());
        BOOST_REQUIRE(same_bits(top.get(part.view).values, top.get(out.view.row_range(first, rows)).values));
      }
    }
    bench_top other{isa, 1};
    const auto again = other.ops->pack_quantized({&view, 1});
    auto whole = other.empty(most, n);
    const auto same_in = put_input(other, input, *again);
    other.ops->linear(whole.view, same_in.view, *again, {}, false, other.on());
    BOOST_REQUIRE(same_bits(other.get(whole.view).values, top.get(out.view).values));
  }
}

BOOST_DATA_TEST_CASE(what_is_not_a_number_stays_none, every_isa(), isa) {
  bench_top top{isa};
  const auto t = random_weight(formats[0], 8, 256, 1);
  const auto view = t.view();
  const auto packed = top.ops->pack_quantized({&view, 1});
  for (const float bad : {std::nanf(""), INFINITY}) {
    auto input = random_matrix(2, 256, 1);
    input.at(1, 200) = bad;
    const auto in = put_input(top, input, *packed);
    auto out = top.empty(2, 8);
    top.ops->linear(out.view, in.view, *packed, {}, false, top.on());
    const auto found = top.get(out.view);
    for (std::int64_t c = 0; c < 8; ++c) {
      BOOST_TEST(std::isfinite(found.at(0, c)));
      BOOST_TEST(!std::isfinite(found.at(1, c)));
    }
  }
}

BOOST_AUTO_TEST_CASE(stacks_that_do_not_fit_are_refused) {
  bench_top top{""};
  const auto a = random_weight(formats[0], 4, 32, 1);
  const auto b = random_weight(formats[0], 4, 64, 1);
  const quantized_matrix unequal[] = {a.view(), b.view()};
  BOOST_CHECK_THROW(top.ops->pack_quantized(unequal), std::invalid_argument);
  BOOST_CHECK_THROW(top.ops->pack_quantized({}), std::invalid_argument);
  auto no_scales = a.view();
  no_scales.scales = nullptr;
  BOOST_CHECK_THROW(top.ops->pack_quantized({&no_scales, 1}), std::invalid_argument);
  const std::vector<float> values(64);
  const host_matrix host{values.data(), dtype::i32, 2, 32, false};
  BOOST_CHECK_THROW(top.ops->quantize({&host, 1}, formats[0]), std::invalid_argument);
  if (top.ops->multiplies_fp8()) return;
  const quantized_tensor fp8{fp8_rows, 4, 32};
  const auto codes = fp8.view();
  BOOST_CHECK_THROW(top.ops->pack_quantized({&codes, 1}), std::invalid_argument);
  const host_matrix numbers{values.data(), dtype::f32, 2, 32, false};
  BOOST_CHECK_THROW(top.ops->quantize({&numbers, 1}, fp8_rows), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()
