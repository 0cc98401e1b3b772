// Hopper's own products: clusters of blocks, blocks alone and large tiles give a row the same bits.
#include "fixture.hpp"

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

}  // namespace

BOOST_AUTO_TEST_SUITE(hopper)

BOOST_AUTO_TEST_CASE(a_product_has_the_same_bits_in_any_batch) {
  const auto ops = make_cuda_backend(0);
  struct shape {
    std::int64_t features, columns;
  };
  // Shares of a panel, of a unit and of a segment; panels for clusters of blocks and for blocks alone.
  const shape shapes[] = {{64, 64}, {100, 130}, {192, 1024}, {1000, 576}, {20000, 192}};
  for (const auto type : {dtype::bf16, dtype::f16}) {
    for (const auto& s : shapes) {
      const auto by = random_matrix(s.features, s.columns, 1);
      const auto bias = random_values(static_cast<std::size_t>(s.features), 2);
      const auto in = random_matrix(300, s.columns, 3);
      const auto residual = random_matrix(300, s.features, 4);
      const auto whole = product_of(*ops, type, by, in, bias, residual);
      for (const std::int64_t rows : {1, 7, 8, 9, 16, 17, 33, 64, 65, 128, 129, 200}) {
        const auto first = [&](const matrix& m) {
          matrix part{rows, m.cols};
          part.values.assign(m.values.begin(), m.values.begin() + rows * m.cols);
          return part;
        };
        matrix expected{300, s.features};
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

BOOST_AUTO_TEST_SUITE_END()

}  // namespace fastserve::kernels
