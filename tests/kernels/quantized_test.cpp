#include "kernels/quantized.hpp"

#include "fixture.hpp"
#include "kernels/e4m3.hpp"

using namespace fastserve::kernels;

BOOST_AUTO_TEST_SUITE(quantized)

namespace {

const quantized_format formats[] = {
    {8, 32, zero_kind::none, dtype::f16},
    {8, 0, zero_kind::none, dtype::f32},
    {8, 128, zero_kind::none, dtype::f16},
    {8, 16, zero_kind::none, dtype::f32},
    {8, 64, zero_kind::integer, dtype::f16},
    {4, 32, zero_kind::none, dtype::f16},
    {4, 128, zero_kind::integer, dtype::f16},
    {4, 32, zero_kind::offset, dtype::f32},
    {4, 64, zero_kind::offset, dtype::f16},
    {4, 0, zero_kind::none, dtype::f16},
    fp8_rows,
};

std::vector<float> values_of(const quantized_matrix& m) {
  std::vector<float> out(static_cast<std::size_t>(m.rows * m.cols));
  for (std::int64_t r = 0; r < m.rows; ++r) dequantize_row(out.data() + r * m.cols, m, r);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(rounding_is_to_the_nearest_code) {
  for (const auto& format : formats) {
    if (is_fp8(format)) continue;  // steps of its own, below
    BOOST_TEST_CONTEXT(to_string(format)) {
      const std::int64_t rows = 5;
      const std::int64_t cols = 300;  // the last group is short
      const auto values = random_values(static_cast<std::size_t>(rows * cols), 7);
      const auto q = quantize_nearest(format, values.data(), rows, cols);
      check(q.view());
      const auto back = values_of(q.view());
      const auto group = format.group_columns(cols);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t k = 0; k < cols; ++k) {
          const auto i = static_cast<std::size_t>(r * cols + k);
          const float scale = q.scales[static_cast<std::size_t>(r * format.groups(cols) + k / group)];
          const double error = std::abs(double{back[i]} - values[i]);
          // At the ends, scale and zero point rounded the wrong way may cost up to half a step more.
          const int code = q.view().code(r, k);
          const bool end = code == format.lowest() || code == format.highest();
          BOOST_REQUIRE_LE(error, std::abs(scale) * (end ? 1.01 : 0.5001));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(fp8_is_rounded_to_the_nearest_code_of_a_row) {
  const std::int64_t rows = 5;
  const std::int64_t cols = 300;
  const auto values = random_values(static_cast<std::size_t>(rows * cols), 7);
  const auto q = quantize_nearest(fp8_rows, values.data(), rows, cols);
  check(q.view());
  const auto back = values_of(q.view());
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto first = values.begin() + r * cols;
    float largest = 0;
    for (auto at = first; at != first + cols; ++at) largest = std::max(largest, std::abs(*at));
    const float scale = q.scales[static_cast<std::size_t>(r)];
    BOOST_TEST(scale == largest / 448);
    for (std::int64_t k = 0; k < cols; ++k) {
      const auto i = static_cast<std::size_t>(r * cols + k);
      double least = 1e9;
      for (const float code : e4m3_values)
        if (!std::isnan(code)) least = std::min(least, std::abs(double{scale} * code - values[i]));
      BOOST_REQUIRE_LE(std::abs(double{back[i]} - values[i]), least + 1e-6);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_quantized_weight_quantizes_to_itself) {
  for (const auto& format : formats) {
    BOOST_TEST_CONTEXT(to_string(format)) {
      const auto values = random_values(4 * 256, 3);
      const auto once = values_of(quantize_nearest(format, values.data(), 4, 256).view());
      const auto twice = values_of(quantize_nearest(format, once.data(), 4, 256).view());
      for (std::size_t i = 0; i < once.size(); ++i) {
        // Only a scale that rounding moves by a unit in the last place can differ.
        BOOST_REQUIRE_SMALL(double{twice[i]} - once[i], 2e-3 * 4);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(published_forms_are_held_exactly) {
  // A Q4_K sub-block: d, dmin of 11 bits, sc and m of 6, codes of 4.
  const float d = rounded({0.0123F}, dtype::f16)[0];
  const float dmin = rounded({0.0457F}, dtype::f16)[0];
  quantized_tensor k4{{4, 32, zero_kind::offset, dtype::f32}, 1, 32};
  k4.scales[0] = d * 61;
  k4.offsets[0] = -dmin * 59;
  for (std::uint8_t i = 0; i < 32; ++i) k4.codes[i] = i % 16;
  const auto values = values_of(k4.view());
  for (std::size_t i = 0; i < 32; ++i) {
    const double exact = double{d} * 61 * static_cast<double>(i % 16) - double{dmin} * 59;
    BOOST_TEST(double{values[i]} == exact, boost::test_tools::tolerance(1e-7));
  }
  // An AWQ group: f16 scale, integer zero.
  quantized_tensor awq{{4, 128, zero_kind::integer, dtype::f16}, 1, 128};
  awq.scales[0] = d;
  awq.zeros[0] = 7;
  for (std::uint8_t i = 0; i < 128; ++i) awq.codes[i] = i % 16;
  const auto awq_values = values_of(awq.view());
  for (std::size_t i = 0; i < 128; ++i)
    BOOST_REQUIRE_EQUAL(awq_values[i], d * (static_cast<float>(i % 16) - 7));
}

BOOST_AUTO_TEST_CASE(zeros_constants_and_not_a_number) {
  for (const auto& format : formats) {
    const std::vector<float> zeros(128);
    BOOST_TEST(values_of(quantize_nearest(format, zeros.data(), 1, 128).view()) == zeros);
    std::vector<float> bad(128, 1.0F);
    bad[3] = std::nanf("");
    const auto q = quantize_nearest(format, bad.data(), 1, 128);
    BOOST_TEST(std::isnan(q.scales[0]));
    check(q.view());
  }
}

BOOST_AUTO_TEST_CASE(bytes_are_counted_with_scales) {
  const auto bits = [](quantized_format f) { return f.bits_per_weight(2048); };
  BOOST_TEST(bits({8, 32, zero_kind::none, dtype::f16}) == 8.5);
  BOOST_TEST(bits({4, 32, zero_kind::none, dtype::f16}) == 4.5);
  BOOST_TEST(bits({4, 128, zero_kind::integer, dtype::f16}) == 4.1875);
  BOOST_TEST(bits({4, 32, zero_kind::offset, dtype::f32}) == 6.0);
  BOOST_TEST(bits(fp8_rows) == 8 + 32.0 / 2048);
  BOOST_TEST(to_string(fp8_rows) == "fp8, whole row, f32 scales");
  BOOST_TEST(to_string(quantized_format{4, 0, zero_kind::integer, dtype::f16}) ==
             "int4, whole row, zero points, f16 scales");
}

BOOST_AUTO_TEST_CASE(what_is_no_quantized_weight_is_refused) {
  const auto refused = [](quantized_tensor t) { BOOST_CHECK_THROW(check(t.view()), std::invalid_argument); };
  for (const int bits : {0, 2, 5, 16}) refused({{bits, 32, zero_kind::none, dtype::f16}, 1, 32});
  for (const int group : {-1, 8, 48, 256})
    refused({{8, group == -1 ? 1 : group, zero_kind::none, dtype::f16}, 1, 256});
  refused({{8, 32, zero_kind::none, dtype::bf16}, 1, 32});
  refused({{8, 32, zero_kind::none, dtype::f16}, 0, 32});
  using kind = code_kind;
  for (const auto& f : {quantized_format{4, 0, zero_kind::none, dtype::f32, kind::e4m3},
                        quantized_format{8, 128, zero_kind::none, dtype::f32, kind::e4m3},
                        quantized_format{8, 0, zero_kind::offset, dtype::f32, kind::e4m3},
                        quantized_format{8, 0, zero_kind::none, dtype::f16, kind::e4m3}})
    refused({f, 1, 128});
  quantized_tensor wide{{4, 32, zero_kind::none, dtype::f16}, 1, 32};
  wide.codes[31] = 8;  // 8 is no signed code of 4 bits
  refused(wide);
  wide.codes[31] = static_cast<std::uint8_t>(-8);
  check(wide.view());
  wide.format.zero = zero_kind::integer;
  refused(wide);  // no zeros
  quantized_tensor zero{{4, 32, zero_kind::integer, dtype::f16}, 1, 32};
  zero.zeros[0] = 16;
  check(zero.view());
  zero.zeros[0] = 17;
  refused(zero);
}

BOOST_AUTO_TEST_SUITE_END()
