#include <boost/test/unit_test.hpp>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <tuple>

#include "fixture.hpp"
#include "kernels/backend.hpp"
#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/dispatch.hpp"

namespace fastserve::kernels {
namespace {

std::vector<float> numbers(std::int64_t count, unsigned seed) {
  std::mt19937 random{seed};
  std::vector<float> out(static_cast<std::size_t>(count));
  // dyadic: the same on every machine
  for (auto& x : out) x = static_cast<float>(static_cast<std::int32_t>(random() >> 8) - (1 << 23)) * 0x1p-20F;
  return out;
}

std::uint64_t fnv(std::span<const std::byte> bytes) {
  std::uint64_t h = 0xcbf29ce484222325U;
  for (const auto b : bytes) h = (h ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3U;
  return h;
}

std::vector<quantized_format> formats() {
  std::vector<quantized_format> out;
  for (const int bits : {8, 4})
    for (const int group : {0, 16, 32, 64, 128})
      for (const auto zero : {zero_kind::none, zero_kind::integer, zero_kind::offset})
        for (const auto scale : {dtype::f16, dtype::f32}) out.push_back({bits, group, zero, scale});
  return out;
}

std::vector<float> embedded(backend& on, const weight& table, const std::vector<std::int32_t>& ids) {
  const auto stream = on.make_stream();
  step_layout layout;
  layout.token_ids = ids;
  layout.positions.resize(ids.size());
  std::iota(layout.positions.begin(), layout.positions.end(), 0);
  const auto plan = on.plan_step(layout, {}, {1, 1, 16, 1.0F, 0}, *stream);
  std::vector<float> out(ids.size() * static_cast<std::size_t>(table.cols()));
  on.embed({out.data(), dtype::f32, {}, static_cast<std::int64_t>(ids.size()), table.cols(), table.cols()},
           table, nullptr, *plan, *stream);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(packed_bytes)

// A row gathered from the panels of a product is what the integers say, for every format, odd sizes, stacks.
BOOST_AUTO_TEST_CASE(a_packed_weight_is_a_table_too) {
  for (const auto& isa : supported_isas()) {
    const auto on = make_cpu_backend(2, isa);
    for (const auto& format : formats()) {
      constexpr std::int64_t cols = 205;
      const std::vector<std::int64_t> rows{37, 5};
      std::vector<quantized_tensor> tensors;
      std::vector<quantized_matrix> views;
      for (const auto count : rows)
        tensors.push_back(quantize_nearest(format, numbers(count * cols, 7).data(), count, cols));
      for (const auto& t : tensors) views.push_back(t.view());
      const auto packed = on->pack_quantized(views);
      std::vector<std::int32_t> ids(42);
      std::iota(ids.rbegin(), ids.rend(), 0);
      const auto got = embedded(*on, *packed, ids);
      std::vector<float> want(cols);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const bool second = ids[i] >= rows[0];
        dequantize_row(want.data(), views[second ? 1 : 0], ids[i] - (second ? rows[0] : 0));
        BOOST_TEST_CONTEXT(isa << ", " << to_string(format) << ", row " << ids[i])
        BOOST_TEST(std::memcmp(got.data() + i * cols, want.data(), cols * sizeof(float)) == 0);
      }
    }
  }
}

// What another start packed multiplies to the same bits.
BOOST_AUTO_TEST_CASE(bytes_make_the_same_weight) {
  constexpr std::int64_t cols = 333;
  const std::vector<std::int64_t> rows{70, 19};
  const auto a = numbers(rows[0] * cols, 1);
  const auto b = numbers(rows[1] * cols, 2);
  const std::vector<host_matrix> stacked{{a.data(), dtype::f32, rows[0], cols},
                                         {b.data(), dtype::f32, rows[1], cols}};
  const auto input = numbers(3 * cols, 3);
  for (const auto& isa : supported_isas()) {
    const auto on = make_cpu_backend(1, isa);
    const auto stream = on->make_stream();
    const auto product = [&](const weight& w) {
      std::vector<float> out(static_cast<std::size_t>(3 * w.rows()));
      auto in = on->allocate(bytes_of(dtype::f32, 3, cols));
      std::memcpy(in.data(), input.data(), input.size() * sizeof(float));
      if (w.input_type() == dtype::bf16) from_f32(in.data(), dtype::bf16, input.data(), input.size());
      const auto type = w.input_type() == dtype::bf16 ? dtype::bf16 : dtype::f32;
      on->linear({out.data(), dtype::f32, {}, 3, w.rows(), w.rows()}, in.view(type, 3, cols), w, {}, false,
                 *stream);
      return out;
    };
    const auto check_copy = [&](const weight& made, const packed_form& form) {
      auto room = on->room_for(form);
      BOOST_REQUIRE_EQUAL(room.bytes.size(), made.storage().size());
      std::memcpy(room.bytes.data(), made.storage().data(), room.bytes.size());
      BOOST_TEST(product(*room.made) == product(made));
      BOOST_TEST(room.made->format() == made.format());
    };
    for (const auto type : {dtype::f32, dtype::f16, dtype::bf16})
      check_copy(*on->pack(stacked, type), {cols, rows, type, {}});
    for (const auto& format : formats())
      check_copy(*on->quantize(stacked, format), {cols, rows, dtype::f32, {format, format}});
  }
}

BOOST_AUTO_TEST_CASE(forms_that_cannot_be_are_refused) {
  const auto on = make_cpu_backend(1);
  const auto refused = [&](const packed_form& form) {
    BOOST_CHECK_THROW(on->room_for(form), std::invalid_argument);
  };
  refused({0, {1}, dtype::f32, {}});
  refused({1, {}, dtype::f32, {}});
  refused({1, {0}, dtype::f32, {}});
  refused({1, {1}, dtype::i32, {}});
  refused({1, {1, 1}, dtype::f32, {quantized_format{}}});
  refused({1, {1}, dtype::f32, {quantized_format{.bits = 3}}});
}

// Packed weights outlive the program that packed them (model/pack_cache). If this fails because packing or
// rounding has changed: raise layout_version in kernels/cpu/packed_bytes.cpp and take the digests that it
// prints.
BOOST_AUTO_TEST_CASE(the_layout_is_that_of_its_version) {
  constexpr std::int64_t rows = 45;
  constexpr std::int64_t cols = 205;
  const auto values = numbers(rows * cols, 11);
  const host_matrix matrix{values.data(), dtype::f32, rows, cols};
  const auto digest = [&](backend& on) {
    std::uint64_t all = 0;
    for (const auto type : {dtype::f32, dtype::f16, dtype::bf16})
      all = all * 31 + fnv(on.pack({&matrix, 1}, type)->storage());
    for (const auto& format : formats()) all = all * 31 + fnv(on.quantize({&matrix, 1}, format)->storage());
    return all;
  };
  const std::map<std::string, std::uint64_t> expected{
#include "packed_layouts.inc"
  };
  std::size_t known = 0;
  const auto check = [&](backend& on, std::string_view what) {
    const auto layout = on.packed_layout();
    const auto it = expected.find(layout);
    const auto seen = digest(on);
    BOOST_TEST((it != expected.end() && it->second == seen),
               what << " packs otherwise than it says: {\"" << layout << "\", " << seen << "U},");
    known += it != expected.end();
  };
  for (const auto& isa : supported_isas()) check(*make_cpu_backend(1, isa), isa);

  // Packing is the portable code for every set but for the numbers of its table, so the layouts of all sets
  // can be judged on any processor.
  known = 0;
  for (const auto& [columns, pairs, stored_unsigned] : {std::tuple{8, false, false},
                                                        {16, false, false},
                                                        {16, false, true},
                                                        {32, false, false},
                                                        {32, false, true},
                                                        {32, true, true}}) {
    auto table = cpu::choose_table("portable");
    table.gemm_tiles.panel_columns = columns;
    table.integer_tiles.panel_columns = columns;
    table.bf16_products = pairs;
    table.stored_unsigned = stored_unsigned;
    cpu::cpu_backend on{1, table};
    check(on, "the portable code in other panels");
  }
  BOOST_TEST(known == expected.size());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace fastserve::kernels
