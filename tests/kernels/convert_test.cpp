#include <bit>
#include <limits>

#include "fixture.hpp"
#include "kernels/e4m3.hpp"

using namespace fastserve::kernels;

BOOST_AUTO_TEST_SUITE(convert)

namespace {

/// Every 16-bit pattern as f32, by the definition of the format.
double half_value(unsigned bits, int exponent_bits, int fraction_bits) {
  const unsigned fraction = bits & ((1U << fraction_bits) - 1);
  const int exponent = static_cast<int>((bits >> fraction_bits) & ((1U << exponent_bits) - 1));
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits & 0x8000U) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1U << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

struct format {
  dtype type;
  int exponent_bits;
  int fraction_bits;
};
constexpr format formats[] = {{dtype::f16, 5, 10}, {dtype::bf16, 8, 7}};

}  // namespace

BOOST_AUTO_TEST_CASE(every_16_bit_pattern_widens_and_returns) {
  for (const auto f : formats) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
      const auto narrow = static_cast<std::uint16_t>(bits);
      float wide = 0;
      to_f32(&wide, &narrow, f.type, 1);
      const double expected = half_value(bits, f.exponent_bits, f.fraction_bits);
      std::uint16_t back = 0;
      from_f32(&back, f.type, &wide, 1);
      if (std::isnan(expected)) {
        BOOST_REQUIRE(std::isnan(wide));
        float again = 0;
        to_f32(&again, &back, f.type, 1);
        BOOST_REQUIRE(std::isnan(again));
      } else {
        BOOST_REQUIRE_EQUAL(double{wide}, expected);
        BOOST_REQUIRE_EQUAL(std::signbit(wide), std::signbit(expected));
        BOOST_REQUIRE_EQUAL(back, narrow);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(rounds_to_nearest_even) {
  for (const auto f : formats) {
    // Between each pair of neighbours: just below the middle, the middle, just above. The patterns of
    // positive finite numbers are in order, and the first beyond the largest stands for infinity.
    const unsigned infinity = ((1U << f.exponent_bits) - 1) << f.fraction_bits;
    for (unsigned bits = 0; bits + 1 < infinity; ++bits) {
      const double low = half_value(bits, f.exponent_bits, f.fraction_bits);
      const double high = half_value(bits + 1, f.exponent_bits, f.fraction_bits);
      const auto middle = static_cast<float>((low + high) / 2);
      if (double{middle} != (low + high) / 2) continue;  // bf16 subnormals of f32 have no middle
      const float below = std::nextafter(middle, 0.0F);
      const float above = std::nextafter(middle, std::numeric_limits<float>::infinity());
      const float three[] = {below, middle, above};
      std::uint16_t out[3];
      from_f32(out, f.type, three, 3);
      BOOST_REQUIRE_EQUAL(out[0], bits);
      BOOST_REQUIRE_EQUAL(out[1], bits + (bits & 1U));
      BOOST_REQUIRE_EQUAL(out[2], bits + 1);
    }
    const float large[] = {std::numeric_limits<float>::max(), -std::numeric_limits<float>::max()};
    std::uint16_t out[2];
    from_f32(out, f.type, large, 2);
    BOOST_TEST(out[0] == infinity);
    BOOST_TEST(out[1] == (infinity | 0x8000U));
  }
}

namespace {

/// A code by the format's definition; both NaNs are left to the caller.
double e4m3_value(unsigned code) {
  const double sign = (code & 0x80U) != 0 ? -1 : 1;
  const int exponent = static_cast<int>(code >> 3 & 15U);
  const double fraction = (code & 7U) / 8.0;
  return sign * (exponent == 0 ? std::ldexp(fraction, -6) : std::ldexp(1 + fraction, exponent - 7));
}

/// The nearest of all codes, of two the even one, by looking at each.
unsigned nearest_e4m3(double x) {
  unsigned best = 0;
  for (unsigned code = 0; code < 256; ++code) {
    if ((code & 0x7fU) == 0x7fU || ((code & 0x80U) != 0) != std::signbit(x)) continue;
    if (best == 0 && std::signbit(x)) best = 0x80;
    const double error = std::abs(e4m3_value(code) - x);
    const double least = std::abs(e4m3_value(best) - x);
    if (error < least || (error == least && code % 2 == 0)) best = code;
  }
  return best;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_e4m3_code_widens_and_returns) {
  for (unsigned code = 0; code < 256; ++code) {
    const float value = e4m3_values[code];
    BOOST_REQUIRE_EQUAL(to_e4m3(value), code);
    if ((code & 0x7fU) == 0x7fU) {
      BOOST_REQUIRE(std::isnan(value));
    } else {
      BOOST_REQUIRE_EQUAL(double{value}, e4m3_value(code));
      BOOST_REQUIRE_EQUAL(std::signbit(value), code >= 128);
    }
  }
  BOOST_TEST(e4m3_values[0x7e] == largest_e4m3);
}

BOOST_AUTO_TEST_CASE(e4m3_rounds_to_nearest_even_and_saturates) {
  std::vector<double> values;
  for (unsigned code = 0; code < 0x7e; ++code) {
    const double middle = (e4m3_value(code) + e4m3_value(code + 1)) / 2;
    for (const double x : {middle, std::nextafter(middle, 0.0), std::nextafter(middle, 1e9)})
      values.push_back(x);
  }
  for (const double x : {448.0, 449.0, 463.9, 464.0, 465.0, 1e6, 1e300, 1e-300, 0.0}) values.push_back(x);
  for (const float x : random_values(20000, 1, 100)) values.push_back(x);
  for (const float x : random_values(20000, 2, 0.01F)) values.push_back(x);
  for (const double x : values) {
    BOOST_REQUIRE_EQUAL(unsigned{to_e4m3(x)}, nearest_e4m3(x));
    BOOST_REQUIRE_EQUAL(unsigned{to_e4m3(-x)}, nearest_e4m3(-x));
  }
  BOOST_TEST(to_e4m3(INFINITY) == 0x7e);
  BOOST_TEST(to_e4m3(-INFINITY) == 0xfe);
  BOOST_TEST(std::isnan(e4m3_values[to_e4m3(NAN)]));
}

/// The vector conversions against the scalar ones, through an op that only converts.
BOOST_DATA_TEST_CASE(vectors_round_like_scalars, every_isa(), isa) {
  bench_top top{isa};
  std::vector<float> values = random_values(5000, 3, 1e-3F);
  std::mt19937 engine{7};
  while (values.size() < 200003) {  // any bits but NaN
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(engine()));
    if (!std::isnan(x)) values.push_back(x);
  }
  for (auto& x : values) x = std::max(x, 0.0F);  // what relu lets through
  matrix m{1, static_cast<std::int64_t>(values.size())};
  m.values = values;
  const auto in = top.put(m);
  for (const auto type : float_types) {
    auto out = top.empty(1, m.cols, type);
    top.ops->activate(out.view, in.view, activation::relu, false, top.on());
    BOOST_TEST(same_bits(top.get(out.view).values, rounded(values, type)));
  }
}

BOOST_AUTO_TEST_SUITE_END()
