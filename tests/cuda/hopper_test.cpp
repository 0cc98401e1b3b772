// Hopper's own products: few rows, large tiles and panels side by side give a row the same bits.
#include <array>

#include "fixture.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/quantized.hpp"
#include "products.hpp"

namespace fastserve::kernels {
namespace {

std::vector<float> product_of(backend& ops, dtype type, const matrix& by, const matrix& in,
                              const std::vector<float>& bias, const matrix& residual) {
  const auto on = ops.make_stream();
  const auto host = bytes_of(by.values, dtype::f32);
  const host_matrix source{host.data(), dtype::f32, by.rows, by.cols, false};
  const auto w = ops.pack({&source, 1}, type);
  const auto put = [&](const std::vector<float>& values, std::int64_t rows, std::int64_t cols, dtype as) {
    auto memory = ops.allocate(values.size() * size_of(as));
    ops.upload(memory.view(as, rows, cols), bytes_of(values, as).data(), *on);
    return memory;
  };
  const auto rows = put(in.values, in.rows, in.cols, type);
  const auto added = put(bias, 1, by.rows, dtype::f32);
  const auto out = put(residual.values, in.rows, by.rows, dtype::f32);
  ops.linear(out.view(dtype::f32, in.rows, by.rows), rows.view(type, in.rows, in.cols), *w,
             added.view(dtype::f32, 1, by.rows), true, *on);
  std::vector<float> found(residual.values.size());
  ops.download(found.data(), out.view(dtype::f32, in.rows, by.rows), *on);
  return found;
}

/// int8 codes of all values and a scale a row, of both signs.
quantized_tensor random_codes(std::int64_t rows, std::int64_t cols, unsigned seed) {
  quantized_tensor t{{8, 0, zero_kind::none, dtype::f32}, rows, cols};
  std::mt19937 engine{seed};
  for (auto& c : t.codes) c = static_cast<std::uint8_t>(engine() % 256);
  for (auto& s : t.scales) s = static_cast<float>(engine() % 2000) * 1e-5F - 0.005F;
  return t;
}

/// One row of the same in the order that kernels/cuda/linear.hpp fixes, bit by bit.
std::vector<float> documented(const quantized_tensor& w, const float* in, const std::vector<float>& bias,
                              const float* residual) {
  constexpr std::int64_t unit = 128;
  const std::int64_t units = (w.cols + unit - 1) / unit;
  const std::int64_t length = (units + 7) / 8;
  std::vector<std::int8_t> codes(static_cast<std::size_t>(units * unit));
  std::vector<float> scales(static_cast<std::size_t>(units));
  for (std::int64_t u = 0; u < units; ++u) {
    const auto to = std::min((u + 1) * unit, w.cols);
    float largest = 0;
    for (auto k = u * unit; k < to; ++k) largest = std::max(largest, std::abs(in[k]));
    const float inverse = largest > 0 ? 127.0F / largest : 0;
    for (auto k = u * unit; k < to; ++k)
      codes[static_cast<std::size_t>(k)] = static_cast<std::int8_t>(std::nearbyint(in[k] * inverse));
    scales[static_cast<std::size_t>(u)] = largest * (1.0F / 127.0F);
  }
  std::vector<float> out;
  for (std::int64_t n = 0; n < w.rows; ++n) {
    float whole = 0;
    for (std::int64_t first = 0; first < units; first += length) {
      float sum = 0;
      for (auto u = first; u < std::min(first + length, units); ++u) {
        std::int32_t dot = 0;
        for (auto k = u * unit; k < std::min((u + 1) * unit, w.cols); ++k)
          dot += static_cast<std::int8_t>(w.codes[static_cast<std::size_t>(n * w.cols + k)]) *
                 codes[static_cast<std::size_t>(k)];
        sum = std::fma(scales[static_cast<std::size_t>(u)], static_cast<float>(dot), sum);
      }
      whole = first == 0 ? sum : whole + sum;
    }
    // Not to be fused with what is added.
    volatile float scaled = whole * w.scales[static_cast<std::size_t>(n)];
    const float all = scaled + bias[static_cast<std::size_t>(n)];
    out.push_back(residual[n] + all);
  }
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(hopper)

BOOST_AUTO_TEST_CASE(a_product_has_the_same_bits_in_any_batch) {
  const auto ops = make_cuda_backend(0);
  struct shape {
    std::int64_t features, columns, most;
  };
  // Shares of a panel, of a unit and of a segment; panels for clusters of blocks and for blocks alone; sums
  // of one segment, with more large tiles than the device takes at once and with fewer.
  const shape shapes[] = {{64, 64, 300},    {100, 130, 300},  {64, 576, 300},   {192, 1024, 300},
                          {1000, 576, 300}, {4300, 330, 700}, {8000, 64, 1300}, {20000, 192, 300}};
  for (const auto type : {dtype::bf16, dtype::f16}) {
    for (const auto& s : shapes) {
      const auto by = random_matrix(s.features, s.columns, 1);
      const auto bias = random_values(static_cast<std::size_t>(s.features), 2);
      const auto in = random_matrix(s.most, s.columns, 3);
      const auto residual = random_matrix(s.most, s.features, 4);
      const auto whole = product_of(*ops, type, by, in, bias, residual);
      for (const std::int64_t rows : {1, 7, 8, 9, 16, 17, 33, 64, 65, 128, 129, 200, 256, 257, 513, 690}) {
        if (rows > s.most) break;
        const auto first = [&](const matrix& m) {
          matrix part{rows, m.cols};
          part.values.assign(m.values.begin(), m.values.begin() + rows * m.cols);
          return part;
        };
        matrix expected{s.most, s.features};
        expected.values = whole;
        BOOST_TEST_CONTEXT(name_of(type)
                           << ", " << s.features << " x " << s.columns << ", " << rows << " rows") {
          BOOST_TEST(same_bits(product_of(*ops, type, by, first(in), bias, first(residual)),
                               first(expected).values));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_gated_product_is_a_product_and_an_activation) {
  const auto ops = make_cuda_backend(0);
  const auto on = ops->make_stream();
  const auto turn = ops->gated_turn(activation::silu, dtype::bf16);
  BOOST_REQUIRE(turn > 0);
  BOOST_TEST(ops->gated_turn(activation::gelu, dtype::bf16) == 0);
  BOOST_TEST(ops->gated_turn(activation::silu, dtype::f32) == 0);
  const std::int64_t most = 600;
  for (const auto& [half, columns] :
       {std::pair<std::int64_t, std::int64_t>{8, 64}, {72, 130}, {512, 576}, {2216, 192}}) {
    const auto gate = random_matrix(half, columns, 1);
    const auto up = random_matrix(half, columns, 2);
    const auto bias = random_values(static_cast<std::size_t>(2 * half), 3);
    std::vector<float> turned_bias;
    for (std::int64_t first = 0; first < half; first += turn)
      for (const std::int64_t part : {std::int64_t{0}, half})
        turned_bias.insert(turned_bias.end(), bias.begin() + part + first,
                           bias.begin() + part + first + turn);
    const auto put = [&](const std::vector<float>& values, std::int64_t rows, dtype type) {
      auto memory = ops->allocate(values.size() * size_of(type));
      ops->upload(memory.view(type, rows, static_cast<std::int64_t>(values.size()) / rows),
                  bytes_of(values, type).data(), *on);
      return memory;
    };
    const auto biases = put(bias, 1, dtype::f32);
    const auto turned_biases = put(turned_bias, 1, dtype::f32);
    const std::vector<host_matrix> stacked = {{gate.values.data(), dtype::f32, half, columns, false},
                                              {up.values.data(), dtype::f32, half, columns, false}};
    std::vector<host_matrix> turned;
    for (std::int64_t first = 0; first < half; first += turn)
      for (const auto* m : {&gate, &up})
        turned.push_back({&m->values[first * columns], dtype::f32, turn, columns, false});
    const auto make = [&](const std::vector<host_matrix>& parts, int kind) {
      if (kind == 0) return ops->pack(parts, dtype::bf16);
      if (kind == 1) return ops->pack(parts, dtype::f16);
      if (kind == 2) return ops->quantize(parts, {4, 32, zero_kind::offset, dtype::f16});
      if (kind == 3) return ops->quantize(parts, {8, 0, zero_kind::none, dtype::f32});
      return ops->quantize(parts, fp8_rows);
    };
    for (const int kind : {0, 1, 2, 3, 4}) {
      const auto plain = make(stacked, kind);
      const auto gated = make(turned, kind);
      const auto in_type = in_records(plain->input_type()) ? dtype::f32 : plain->input_type();
      const auto in = put(random_matrix(most, columns, 4).values, most, in_type);
      const auto both = ops->allocate(bytes_of(dtype::f32, most, 2 * half));
      const auto out = ops->allocate(bytes_of(dtype::f32, most, half));
      for (const auto f : {activation::silu, activation::gelu_tanh}) {
        for (const std::int64_t rows : {1, 9, 64, 128, 129, 300, 600}) {
          for (const auto type : {dtype::f32, dtype::bf16, dtype::f16}) {
            const auto from = in.view(in_type, rows, columns);
            const auto get = [&] {
              std::vector<std::byte> bytes(bytes_of(type, rows, half));
              ops->download(bytes.data(), out.view(type, rows, half), *on);
              return bytes;
            };
            ops->linear(both.view(dtype::f32, rows, 2 * half), from, *plain,
                        biases.view(dtype::f32, 1, 2 * half), false, *on);
            ops->activate(out.view(type, rows, half), both.view(dtype::f32, rows, 2 * half), f, true, *on);
            const auto expected = get();
            ops->upload(out.view(type, rows, half),
                        std::vector<std::byte>(expected.size(), std::byte{0x7f}).data(), *on);
            ops->linear_gated(out.view(type, rows, half), from, *gated,
                              turned_biases.view(dtype::f32, 1, 2 * half), f, *on);
            BOOST_TEST_CONTEXT("kind " << kind << ", " << half << " x " << columns << ", " << rows
                                       << " rows, " << name_of(type)) {
              BOOST_TEST((get() == expected));
            }
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_row_that_its_product_norms_has_the_bits_of_norm_and_product) {
  const auto ops = make_cuda_backend(0);
  const auto on = ops->make_stream();
  const auto put = [&](const std::vector<float>& values, std::int64_t rows) {
    auto memory = ops->allocate(values.size() * sizeof(float));
    ops->upload(memory.view(dtype::f32, rows, static_cast<std::int64_t>(values.size()) / rows), values.data(),
                *on);
    return memory;
  };
  struct shape {
    std::int64_t features, columns;
  };
  // Part of a unit, of a segment; nine units, which are three segments and an empty one; blocks that share
  // panels; the most that a block norms, and more.
  const shape shapes[] = {{64, 64},    {100, 132},   {100, 576}, {96, 1000},
                          {200, 4096}, {4400, 4096}, {80, 8192}, {80, 8196}};
  for (const auto type : {dtype::bf16, dtype::f16}) {
    for (const auto& s : shapes) {
      const auto by = random_matrix(s.features, s.columns, 1);
      const host_matrix source{by.values.data(), dtype::f32, by.rows, by.cols, false};
      const auto w = ops->pack({&source, 1}, type);
      const auto gain = put(random_values(static_cast<std::size_t>(s.columns), 2), 1);
      const auto bias = put(random_values(static_cast<std::size_t>(s.features), 3), 1);
      const auto in = put(random_matrix(3, s.columns, 4).values, 3);
      const norm_weights norm{norm_kind::rms, 1e-5F, gain.view(dtype::f32, 1, s.columns), {}};
      const auto normed = ops->allocate(bytes_of(type, 3, s.columns));
      const auto out = ops->allocate(bytes_of(dtype::f32, 3, s.features));
      const auto get = [&](std::int64_t rows) {
        std::vector<float> values(static_cast<std::size_t>(rows * s.features));
        ops->download(values.data(), out.view(dtype::f32, rows, s.features), *on);
        return values;
      };
      const auto added = bias.view(dtype::f32, 1, s.features);
      ops->norm(normed.view(type, 3, s.columns), in.view(dtype::f32, 3, s.columns), norm, *on);
      ops->linear(out.view(dtype::f32, 3, s.features), normed.view(type, 3, s.columns), *w, added, false,
                  *on);
      auto expected = get(3);
      expected.resize(static_cast<std::size_t>(s.features));
      ops->norm_linear(out.view(dtype::f32, 1, s.features), normed.view(type, 1, s.columns),
                       in.view(dtype::f32, 1, s.columns), norm, *w, added, *on);
      BOOST_TEST_CONTEXT(name_of(type) << ", " << s.features << " x " << s.columns) {
        BOOST_TEST(same_bits(get(1), expected));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(w8a8_has_the_documented_bits_in_any_batch) {
  const auto ops = make_cuda_backend(0);
  struct shape {
    std::int64_t features, columns;
  };
  // Shares of a panel, of a unit and of a segment; rings that go round, odd and even numbers of units; panels
  // for blocks of one and of two.
  const shape shapes[] = {{64, 128},   {3, 15},     {100, 130},   {192, 1024},  {1000, 1100},
                          {100, 4500}, {130, 9000}, {20000, 256}, {17000, 1300}};
  for (const auto& s : shapes) {
    const auto codes = random_codes(s.features, s.columns, 1);
    const auto view = codes.view();
    const auto w = ops->pack_quantized({&view, 1});
    BOOST_REQUIRE(w->input_type() == dtype::q8);
    const auto bias = random_values(static_cast<std::size_t>(s.features), 2);
    auto in = random_matrix(300, s.columns, 3);
    for (std::int64_t k = 0; k < s.columns; ++k) in.at(5, k) = 0;
    for (std::int64_t k = 0; k < s.columns; ++k) in.at(6, k) = k % 3 == 0 ? -1.0F : 1.0F;
    const auto residual = random_matrix(300, s.features, 4);
    matrix whole{0, 0};
    for (const std::int64_t rows : {300, 1, 7, 8, 9, 16, 17, 32, 33, 64, 65, 127, 128, 129, 200, 256}) {
      const auto found = product_of(*ops, *w, first_rows(in, rows), bias, first_rows(residual, rows));
      for (std::int64_t r = 0; r < rows; ++r) {
        // The host needs a second for 10^9 products: of large weights a few rows are made.
        if (s.features * s.columns > 2000000 && r % 43 != 6 && r != 299) continue;
        const auto& expected = once(
            "w8a8 " + std::to_string(s.features) + " " + std::to_string(s.columns) + " " + std::to_string(r),
            [&] {
              return documented(codes, in.values.data() + r * s.columns, bias,
                                residual.values.data() + r * s.features);
            });
        BOOST_TEST_CONTEXT(s.features << " x " << s.columns << ", row " << r << " of " << rows) {
          const auto* at = found.values.data() + r * s.features;
          BOOST_TEST(same_bits({at, at + s.features}, expected));
        }
      }
      if (rows == 300) whole = found;
      BOOST_TEST_CONTEXT(s.features << " x " << s.columns << ", " << rows << " rows") {
        BOOST_TEST(same_bits(found.values, first_rows(whole, rows).values));
      }
    }
  }
}

/// Rows of a part of a matrix of records, which lie at the distance of the whole one's.
BOOST_AUTO_TEST_CASE(w8a8_takes_parts_of_records) {
  const auto ops = make_cuda_backend(0);
  const auto on = ops->make_stream();
  constexpr std::int64_t rows = 300;
  constexpr std::int64_t columns = 700;
  constexpr std::int64_t features = 150;
  const auto codes = random_codes(features, columns, 1);
  const auto view = codes.view();
  const auto w = ops->pack_quantized({&view, 1});
  const auto in = random_matrix(rows, columns, 3);
  const auto numbers = ops->allocate(kernels::bytes_of(dtype::f32, rows, columns));
  const auto records = ops->allocate(kernels::bytes_of(dtype::q8, rows, columns));
  const auto out = ops->allocate(kernels::bytes_of(dtype::f32, rows, features));
  ops->upload(numbers.view(dtype::f32, rows, columns), in.values.data(), *on);
  const auto all = records.view(dtype::q8, rows, columns);
  ops->activate(all, numbers.view(dtype::f32, rows, columns), activation::relu, false, *on);
  const auto product = [&](std::int64_t first, std::int64_t count) {
    std::vector<float> found(static_cast<std::size_t>(count * features));
    const auto to = out.view(dtype::f32, count, features);
    ops->linear(to, all.row_range(first, count), *w, {}, false, *on);
    ops->download(found.data(), to, *on);
    return found;
  };
  const auto whole = product(0, rows);
  for (const auto& [first, count] :
       {std::array<std::int64_t, 2>{1, 1}, {7, 20}, {3, 60}, {99, 130}, {1, 299}}) {
    BOOST_TEST_CONTEXT(count << " rows from " << first) {
      const auto from = whole.begin() + first * features;
      BOOST_TEST(same_bits(product(first, count), {from, from + count * features}));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace fastserve::kernels
