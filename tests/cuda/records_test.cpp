// Rows that ops leave in records of e4m3: every code and scale as documented.
#include "fixture.hpp"
#include "kernels/e4m3.hpp"

namespace fastserve::kernels {
namespace {

/// A record as bytes: 128 codes first, the scale last.
struct record {
  const std::uint8_t* codes;
  float scale;
};

record record_of(const std::vector<std::uint8_t>& bytes, std::int64_t stride, std::int64_t row,
                 std::int64_t number) {
  const auto* at = bytes.data() + (number * stride + row) * q8_record_bytes;
  record out{at, 0};
  std::memcpy(&out.scale, at + q8_record_bytes - 4, sizeof out.scale);
  return out;
}

/// Values in f32, and what the same op leaves as f8.
void check_records(const matrix& values, const std::vector<std::uint8_t>& bytes, std::int64_t stride) {
  for (std::int64_t r = 0; r < values.rows; ++r) {
    for (std::int64_t first = 0; first < values.cols; first += q8_columns) {
      const auto found = record_of(bytes, stride, r, first / q8_columns);
      const auto last = std::min(first + q8_columns, values.cols);
      float largest = 0;
      bool number = true;
      for (auto c = first; c < last; ++c) {
        largest = std::max(largest, std::abs(values.at(r, c)));
        number = number && std::isfinite(values.at(r, c));
      }
      BOOST_TEST_CONTEXT("row " << r << ", columns from " << first) {
        BOOST_REQUIRE_EQUAL(std::isnan(found.scale), !number);
        if (!number) continue;
        const float top = std::max(largest, 1e-30F);
        BOOST_REQUIRE_EQUAL(found.scale, top * (1.0F / 448.0F));
        for (auto c = first; c < first + q8_columns; ++c) {
          const float x = c < last ? values.at(r, c) * (448.0F / top) : 0.0F;
          BOOST_REQUIRE_EQUAL(unsigned{found.codes[c - first]}, unsigned{to_e4m3(x)});
        }
      }
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(records)

BOOST_AUTO_TEST_CASE(ops_that_end_in_e4m3_are_the_op_then_rounding) {
  bench_top top{"cuda"};
  for (const std::int64_t cols : {1, 128, 300, 1025}) {
    const std::int64_t rows = 9;
    // Gates of one let everything through: relu(1) * x.
    auto both = random_matrix(rows, 2 * cols, 1);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c) both.at(r, c) = 1;
    for (std::int64_t c = 0; c < cols; ++c) {
      both.at(2, cols + c) = 0;
      both.at(3, cols + c) *= 1e-36F;
      both.at(4, cols + c) *= 1e-42F;
      both.at(5, cols + c) *= 1e30F;
      // All halves between two codes, beside the largest one.
      both.at(6, cols + c) = (c % 2 == 0 ? 1.0F : -1.0F) *
                             (e4m3_values[static_cast<std::size_t>(c) % 126] +
                              e4m3_values[static_cast<std::size_t>(c) % 126 + 1]) /
                             2;
      if (c % 128 == 127 || c + 1 == cols) both.at(6, cols + c) = 448;
    }
    both.at(7, cols + cols / 2) = std::nanf("");
    both.at(8, cols + cols / 2) = -INFINITY;
    const auto in = top.put(both);
    const auto gain = top.put(random_values(static_cast<std::size_t>(cols), 2));
    const auto memory = top.ops->allocate(bytes_of(dtype::f8, rows, cols));
    const auto rounded = memory.view(dtype::f8, rows, cols);
    auto plain = top.empty(rows, cols);
    const auto check = [&](const char* what) {
      std::vector<std::uint8_t> bytes(bytes_of(dtype::f8, rows, cols));
      top.ops->download(bytes.data(),
                        memory.view(dtype::f32, 1, static_cast<std::int64_t>(bytes.size() / sizeof(float))),
                        top.on());
      BOOST_TEST_CONTEXT(what << " of " << cols) {
        check_records(top.get(plain.view), bytes, rounded.stride);
      }
    };
    top.ops->activate(rounded, in.view, activation::relu, true, top.on());
    top.ops->activate(plain.view, in.view, activation::relu, true, top.on());
    check("activation");
    const norm_weights by{norm_kind::rms, 1e-5F, gain.view, {}};
    top.ops->norm(rounded, in.view.col_range(cols, cols), by, top.on());
    top.ops->norm(plain.view, in.view.col_range(cols, cols), by, top.on());
    check("norm");
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace fastserve::kernels
