// fp8 products: Hopper's matrix unit against the host, and a row's bits in any batch.
#include <array>

#include "fixture.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/e4m3.hpp"
#include "products.hpp"

namespace fastserve::kernels {
namespace {

constexpr std::int64_t unit = q8_columns;

struct shape {
  std::int64_t features, columns;
};
// Shares of a panel, of a unit and of a segment; rings that go round, odd and even numbers of units; panels
// for blocks of one and of two.
constexpr shape shapes[] = {{64, 128},   {3, 15},     {100, 130},   {192, 1024},  {1000, 1100},
                            {100, 4500}, {130, 9000}, {20000, 256}, {17000, 1300}};

/// Codes of all values but NaN, and a scale a row, of both signs.
quantized_tensor random_fp8(std::int64_t rows, std::int64_t cols, unsigned seed) {
  quantized_tensor t{fp8_rows, rows, cols};
  const auto values = random_values(t.codes.size(), seed, 100);
  for (std::size_t i = 0; i < values.size(); ++i) t.codes[i] = to_e4m3(values[i]);
  for (std::size_t i = 0; i < std::min<std::size_t>(254, values.size()); ++i)
    t.codes[i] = static_cast<std::uint8_t>(i < 127 ? i : i + 1);
  std::mt19937 engine{seed};
  for (auto& s : t.scales) s = static_cast<float>(engine() % 2000) * 1e-5F - 0.005F;
  return t;
}

/// A row as its product sees it.
struct rounded_row {
  std::vector<float> codes;   ///< what they stand for, zeros up to whole units
  std::vector<float> scales;  ///< of the units

  rounded_row(const float* in, std::int64_t columns) {
    const std::int64_t units = (columns + unit - 1) / unit;
    codes.resize(static_cast<std::size_t>(units * unit));
    for (std::int64_t u = 0; u < units; ++u) {
      const auto to = std::min((u + 1) * unit, columns);
      float largest = 1e-30F;
      for (auto k = u * unit; k < to; ++k) largest = std::max(largest, std::abs(in[k]));
      const float inverse = 448.0F / largest;
      for (auto k = u * unit; k < to; ++k)
        codes[static_cast<std::size_t>(k)] = e4m3_values[to_e4m3(in[k] * inverse)];
      scales.push_back(largest * (1.0F / 448.0F));
    }
  }
};

/// An element in the order that kernels/cuda/linear.hpp fixes, of exact sums over the units, and how far from
/// it the matrix unit may be.
struct element {
  float value;
  double error;
};

/// The matrix unit adds 32 products and what it has so far at a time, keeping the highest 14 bits of each,
/// counted from the largest (arXiv 2412.19437, section 3.5.2); two of them may be before the point. So each
/// of the 4 x 33 is wrong by up to 2^-12 of the largest, evenly distributed: 2^-12 / sqrt(3) on average.
/// Errors of units add up as independent ones do; eight times the standard deviation is allowed.
element documented(const quantized_tensor& w, std::int64_t feature, const rounded_row& row, float bias,
                   float residual) {
  const auto units = static_cast<std::int64_t>(row.scales.size());
  const std::int64_t length = (units + 7) / 8;
  const auto* codes = w.codes.data() + feature * w.cols;
  float whole = 0;
  double magnitude = 0;
  double variance = 0;
  for (std::int64_t first = 0; first < units; first += length) {
    float sum = 0;
    for (auto u = first; u < std::min(first + length, units); ++u) {
      double dot = 0;
      double largest = 0;
      for (auto k = u * unit; k < std::min((u + 1) * unit, w.cols); ++k) {
        const double product = double{e4m3_values[codes[k]]} * row.codes[static_cast<std::size_t>(k)];
        dot += product;
        largest = std::max({largest, std::abs(product), std::abs(dot)});
      }
      const float scale = row.scales[static_cast<std::size_t>(u)];
      sum = std::fma(scale, static_cast<float>(dot), sum);
      const double step = 0x1p-12 * largest * scale;
      variance += 4 * 33 * step * step / 3;
      magnitude += std::abs(dot) * scale;
    }
    whole = first == 0 ? sum : whole + sum;
  }
  // Not to be fused with what is added.
  volatile float scaled = whole * w.scales[static_cast<std::size_t>(feature)];
  const float all = scaled + bias;
  const double by = std::abs(w.scales[static_cast<std::size_t>(feature)]);
  return {residual + all, by * (8 * std::sqrt(variance) + 1e-6 * magnitude) + 1e-6};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(fp8)

BOOST_AUTO_TEST_CASE(fp8_is_near_the_host_and_has_the_same_bits_in_any_batch) {
  const auto ops = make_cuda_backend(0);
  BOOST_REQUIRE(ops->multiplies_fp8());
  for (const auto& s : shapes) {
    const auto codes = random_fp8(s.features, s.columns, 1);
    const auto view = codes.view();
    const auto w = ops->pack_quantized({&view, 1});
    BOOST_REQUIRE(w->input_type() == dtype::f8);
    const auto bias = random_values(static_cast<std::size_t>(s.features), 2);
    auto in = random_matrix(300, s.columns, 3);
    for (std::int64_t k = 0; k < s.columns; ++k) in.at(5, k) = 0;
    for (std::int64_t k = 0; k < s.columns; ++k) in.at(6, k) = k % 3 == 0 ? -1.0F : 1.0F;
    const auto residual = random_matrix(300, s.features, 4);
    const auto whole = product_of(*ops, *w, in, bias, residual);
    // The host needs a second for 10^9 products: of large weights a few rows are made.
    for (const std::int64_t r : {0, 5, 6, 63, 64, 127, 128, 299}) {
      if (s.features * s.columns > 2000000 && r % 64 != 0 && r != 299) continue;
      const rounded_row row{in.values.data() + r * s.columns, s.columns};
      for (std::int64_t n = 0; n < s.features; ++n) {
        const auto want = documented(codes, n, row, bias[static_cast<std::size_t>(n)], residual.at(r, n));
        const double error = std::abs(double{whole.at(r, n)} - want.value);
        if (error <= want.error) continue;
        BOOST_FAIL(s.features << " x " << s.columns << ", row " << r << ", feature " << n << ": found "
                              << whole.at(r, n) << ", expected " << want.value << " within " << want.error);
      }
    }
    // Every kernel, whichever operand is its first.
    const bool small = s.features * s.columns < 300000;
    for (std::int64_t rows = 1; rows < 300; rows += small || rows < 34 ? 1 : 31) {
      const auto found = product_of(*ops, *w, first_rows(in, rows), bias, first_rows(residual, rows));
      BOOST_TEST_CONTEXT(s.features << " x " << s.columns << ", " << rows << " rows") {
        BOOST_TEST(same_bits(found.values, first_rows(whole, rows).values));
      }
    }
  }
}

/// Where every partial sum is a whole number that the matrix unit holds, all bits are known: places, scales
/// and the order of sums.
BOOST_AUTO_TEST_CASE(fp8_has_the_documented_bits_where_sums_are_exact) {
  const auto ops = make_cuda_backend(0);
  for (const auto& s : shapes) {
    std::mt19937 engine{7};
    const auto small = [&] { return static_cast<float>(static_cast<int>(engine() % 5) - 2); };
    auto codes = random_fp8(s.features, s.columns, 1);
    for (auto& c : codes.codes) c = to_e4m3(small());
    matrix in{300, s.columns};
    for (std::int64_t r = 0; r < in.rows; ++r)
      for (std::int64_t k = 0; k < in.cols; ++k) {
        // 448 in each record has the others stand for themselves, times a power of two of the record's.
        const float x = k % unit == r % std::min(unit, s.columns - k / unit * unit) ? 448.0F : small();
        in.at(r, k) = std::ldexp(x, static_cast<int>((r + k / unit * 5) % 7) - 3);
      }
    const auto view = codes.view();
    const auto w = ops->pack_quantized({&view, 1});
    const auto bias = random_values(static_cast<std::size_t>(s.features), 2);
    const auto residual = random_matrix(300, s.features, 4);
    for (const std::int64_t rows : {300, 1, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129}) {
      const auto found = product_of(*ops, *w, first_rows(in, rows), bias, first_rows(residual, rows));
      for (std::int64_t r = 0; r < rows; ++r) {
        if (r % 43 != 0 && r != rows - 1) continue;
        if (s.features * s.columns > 2000000 && r != rows - 1) continue;
        const rounded_row row{in.values.data() + r * s.columns, s.columns};
        std::vector<float> expected;
        for (std::int64_t n = 0; n < s.features; ++n)
          expected.push_back(
              documented(codes, n, row, bias[static_cast<std::size_t>(n)], residual.at(r, n)).value);
        BOOST_TEST_CONTEXT(s.features << " x " << s.columns << ", row " << r << " of " << rows) {
          const auto* at = found.values.data() + r * s.features;
          BOOST_TEST(same_bits({at, at + s.features}, expected));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(fp8_is_rounded_while_packing_as_before_it) {
  const auto ops = make_cuda_backend(0);
  constexpr std::int64_t features = 70;
  constexpr std::int64_t columns = 300;
  const auto values = random_values(static_cast<std::size_t>(features * columns), 3);
  const host_matrix numbers{values.data(), dtype::f32, features, columns, false};
  const auto codes = quantize_nearest(fp8_rows, values.data(), features, columns);
  const auto view = codes.view();
  const auto in = random_matrix(20, columns, 5);
  const auto residual = random_matrix(20, features, 6);
  const std::vector<float> bias(features);
  const auto rounded = ops->quantize({&numbers, 1}, fp8_rows);
  BOOST_TEST(rounded->format() == "fp8, whole row, f32 scales");
  BOOST_TEST(same_bits(product_of(*ops, *rounded, in, bias, residual).values,
                       product_of(*ops, *ops->pack_quantized({&view, 1}), in, bias, residual).values));
}

BOOST_AUTO_TEST_CASE(fp8_and_integers_do_not_stack) {
  const auto ops = make_cuda_backend(0);
  const quantized_tensor parts[] = {{fp8_rows, 4, 64}, {{8, 0, zero_kind::none, dtype::f32}, 4, 64}};
  const quantized_matrix both[] = {parts[0].view(), parts[1].view()};
  BOOST_CHECK_THROW(ops->pack_quantized(both), std::invalid_argument);
}

/// Rows of a part of a matrix of records, whole and as an op leaves them; what is no number stays none.
BOOST_AUTO_TEST_CASE(fp8_takes_parts_of_records) {
  const auto ops = make_cuda_backend(0);
  const auto on = ops->make_stream();
  constexpr std::int64_t rows = 300;
  constexpr std::int64_t columns = 700;
  constexpr std::int64_t features = 150;
  const auto codes = random_fp8(features, columns, 1);
  const auto view = codes.view();
  const auto w = ops->pack_quantized({&view, 1});
  auto in = random_matrix(rows, columns, 3);
  in.at(40, 500) = std::nanf("");
  in.at(41, 0) = INFINITY;
  const auto numbers = ops->allocate(kernels::bytes_of(dtype::f32, rows, columns));
  const auto active = ops->allocate(kernels::bytes_of(dtype::f32, rows, columns));
  const auto records = ops->allocate(kernels::bytes_of(dtype::f8, rows, columns));
  const auto out = ops->allocate(kernels::bytes_of(dtype::f32, rows, features));
  ops->upload(numbers.view(dtype::f32, rows, columns), in.values.data(), *on);
  const auto all = records.view(dtype::f8, rows, columns);
  const auto plain = active.view(dtype::f32, rows, columns);
  for (const auto& to : {all, plain})
    ops->activate(to, numbers.view(dtype::f32, rows, columns), activation::silu, false, *on);
  const auto product = [&](const tensor_view& of, std::int64_t first, std::int64_t count) {
    std::vector<float> found(static_cast<std::size_t>(count * features));
    const auto to = out.view(dtype::f32, count, features);
    ops->linear(to, of.row_range(first, count), *w, {}, false, *on);
    ops->download(found.data(), to, *on);
    return found;
  };
  const auto whole = product(all, 0, rows);
  BOOST_TEST(same_bits(product(plain, 0, rows), whole));
  for (std::int64_t n = 0; n < features; ++n) {
    BOOST_TEST(std::isfinite(whole[39 * features + n]));
    BOOST_TEST(!std::isfinite(whole[40 * features + n]));
    BOOST_TEST(!std::isfinite(whole[41 * features + n]));
    BOOST_TEST(std::isfinite(whole[42 * features + n]));
  }
  for (const auto& [first, count] :
       {std::array<std::int64_t, 2>{1, 1}, {7, 20}, {3, 60}, {99, 130}, {1, 299}}) {
    BOOST_TEST_CONTEXT(count << " rows from " << first) {
      const auto from = whole.begin() + first * features;
      BOOST_TEST(same_bits(product(all, first, count), {from, from + count * features}));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace fastserve::kernels
