#pragma once

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "../support/device.hpp"
#include "../support/sanitized.hpp"
#include "reference.hpp"

namespace fastserve::kernels {

using reference::matrix;

using test::emulated;
using test::make_device;
using test::on_cuda;
using test::sanitized;

/// What does not depend on the instruction set is made once: references cost more than what they check.
template <class Make>
const auto& once(const std::string& key, Make make) {
  static std::map<std::string, decltype(make())> made;
  const auto found = made.find(key);
  return found != made.end() ? found->second : made.emplace(key, make()).first->second;
}

/// Matrix units add products in an order and a rounding of their own.
inline const double device_error = on_cuda && !emulated ? 10.0 : 1.0;

/// For BOOST_DATA_TEST_CASE: every test body runs on every instruction set of this machine, or on the GPU.
inline auto every_isa() { return boost::unit_test::data::make(test::devices()); }

inline std::vector<float> random_values(std::size_t count, unsigned seed, float scale = 1.0F) {
  std::mt19937 engine{seed};
  std::normal_distribution<float> normal{0.0F, scale};
  std::vector<float> values(count);
  for (auto& v : values) v = normal(engine);
  return values;
}

inline matrix random_matrix(std::int64_t rows, std::int64_t cols, unsigned seed, float scale = 1.0F) {
  matrix m{rows, cols};
  m.values = random_values(m.values.size(), seed, scale);
  return m;
}

/// Host bytes of values as `type`.
inline std::vector<std::byte> bytes_of(const std::vector<float>& values, dtype type) {
  std::vector<std::byte> bytes(values.size() * size_of(type));
  from_f32(bytes.data(), type, values.data(), values.size());
  return bytes;
}

/// Values as they are after a trip through `type`.
inline std::vector<float> rounded(const std::vector<float>& values, dtype type) {
  std::vector<float> out(values.size());
  to_f32(out.data(), bytes_of(values, type).data(), type, values.size());
  return out;
}
inline matrix rounded(matrix m, dtype type) {
  if (type == dtype::i8) return reference::rounded_to_i8(m);
  m.values = rounded(m.values, type);
  return m;
}

/// A matrix on the device, owning its memory.
struct device_matrix {
  buffer memory;
  tensor_view view;
};

class bench_top {
 public:
  explicit bench_top(const std::string& isa, int threads = 2)
      : ops{make_device(threads, isa)}, on_{ops->make_stream()} {}

  stream& on() { return *on_; }

  device_matrix empty(std::int64_t rows, std::int64_t cols, dtype type = dtype::f32) {
    device_matrix m{ops->allocate(static_cast<std::size_t>(rows * cols) * size_of(type)), {}};
    m.view = m.memory.view(type, rows, cols);
    return m;
  }
  device_matrix put(const matrix& values, dtype type = dtype::f32) {
    auto m = empty(values.rows, values.cols, type);
    ops->upload(m.view, bytes_of(values.values, type).data(), on());
    return m;
  }
  device_matrix put(const std::vector<float>& row) {
    matrix m{1, static_cast<std::int64_t>(row.size())};
    m.values = row;
    return put(m);
  }
  matrix get(tensor_view view) {
    auto whole = empty(view.rows, view.cols, view.type);
    ops->copy(whole.view, view, on());
    std::vector<std::byte> bytes(whole.view.bytes());
    ops->download(bytes.data(), whole.view, on());
    matrix m{view.rows, view.cols};
    to_f32(m.values.data(), bytes.data(), view.type, m.values.size());
    return m;
  }

  std::unique_ptr<backend> ops;

 private:
  std::unique_ptr<stream> on_;
};

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// Every element within absolute + relative * |expected|.
inline void check_close(const matrix& found, const matrix& expected, double absolute, double relative) {
  BOOST_REQUIRE_EQUAL(found.rows, expected.rows);
  BOOST_REQUIRE_EQUAL(found.cols, expected.cols);
  for (std::size_t i = 0; i < found.values.size(); ++i) {
    const double error = std::abs(double{found.values[i]} - expected.values[i]);
    if (error <= absolute + relative * std::abs(expected.values[i])) continue;
    BOOST_FAIL("element " << i << ": found " << found.values[i] << ", expected " << expected.values[i]);
  }
}

/// Half a unit in the last place of a type, relative.
inline double rounding(dtype type) {
  return type == dtype::bf16 ? 0x1p-8 : type == dtype::f16 ? 0x1p-11 : 0x1p-23;
}

inline constexpr dtype float_types[] = {dtype::f32, dtype::f16, dtype::bf16};
inline constexpr dtype kv_types[] = {dtype::f32, dtype::f16, dtype::bf16, dtype::i8};

}  // namespace fastserve::kernels
