#include "fixture.hpp"
#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/dispatch.hpp"

using namespace fastserve::kernels;

// What is told of a processor (cpu::processor_habits) chooses between ways to one result.

BOOST_AUTO_TEST_SUITE(habits)

namespace {

constexpr std::int64_t inputs = 600;    // several blocks of k, and a part of one
constexpr std::int64_t outputs = 230;   // several panels at once, and a part of one
constexpr std::int64_t most_rows = 60;  // enough tiles for nibbles to be opened

struct weights_case {
  const char* name;
  dtype type;  // or, for grouped integers, q8
  quantized_format format;
};

const weights_case cases[] = {
    {"f32", dtype::f32, {}},
    {"bf16", dtype::bf16, {}},
    {"int8", dtype::q8, {8, 128, zero_kind::none, dtype::f16}},
    {"int4, group 32", dtype::q8, {4, 32, zero_kind::none, dtype::f16}},
    {"int4, group 64, offsets", dtype::q8, {4, 64, zero_kind::offset, dtype::f16}},
    {"int4, group 128, zeros", dtype::q8, {4, 128, zero_kind::integer, dtype::f16}},
};

/// The first rows of `in` by one of `cases`, on a processor of such habits.
std::vector<float> product(const weights_case& c, const matrix& in, std::int64_t rows, const std::string& isa,
                           cpu::processor_habits habits) {
  cpu::cpu_backend ops{2, cpu::choose_table(isa), nullptr, habits};
  const auto on = ops.make_stream();
  const auto numbers =
      bytes_of(random_values(static_cast<std::size_t>(outputs * inputs), 3, 0.1F), dtype::f32);
  const host_matrix host{numbers.data(), dtype::f32, outputs, inputs, false};
  const auto w = c.type == dtype::q8 ? ops.quantize({&host, 1}, c.format) : ops.pack({&host, 1}, c.type);
  const auto type = w->input_type() == dtype::q8 ? dtype::f32 : w->input_type();
  auto bytes = bytes_of(in.values, type);
  const tensor_view view{bytes.data(), type, {}, rows, inputs, inputs};
  std::vector<float> out(static_cast<std::size_t>(rows * outputs));
  ops.linear({out.data(), dtype::f32, {}, rows, outputs, outputs}, view, *w, {}, false, *on);
  return out;
}

}  // namespace

BOOST_DATA_TEST_CASE(no_bit_depends_on_them, every_isa(), isa) {
  const auto in = random_matrix(most_rows, inputs, 1);
  for (const auto& c : cases) {
    for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{2}, std::int64_t{5}, most_rows}) {
      const auto expected = product(c, in, rows, isa, {true, true});
      for (const cpu::processor_habits other :
           {cpu::processor_habits{false, true}, {true, false}, {false, false}}) {
        BOOST_TEST_CONTEXT(c.name << ", " << rows << " rows, fetching " << other.fetch_ahead << ", opening "
                                  << other.open_nibbles)
        BOOST_TEST(same_bits(product(c, in, rows, isa, other), expected));
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
