#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/quantized.hpp"
#include "model/mapped_file.hpp"

namespace fastserve::model {

/// A tensor in host memory, owned by its source.
struct host_tensor {
  const void* data = nullptr;  ///< aligned to its element
  kernels::dtype type = kernels::dtype::f32;
  std::vector<std::int64_t> shape;
  /// How a matrix of grouped integers or fp8 is stored; tensor() gives numbers, quantized() its codes.
  std::optional<kernels::quantized_format> quantized = {};
  std::size_t bytes() const;
};

/// Where weights come from, by name. Used by one thread. Data that tensor() gave stays valid until it has
/// been released as often as it was given, at most for the source's life.
class weight_source {
 public:
  weight_source() = default;
  weight_source(const weight_source&) = delete;
  weight_source& operator=(const weight_source&) = delete;
  virtual ~weight_source() = default;

  virtual bool has(std::string_view name) const = 0;
  /// All names, in order, as far as they are known without opening more files; nothing where there is no
  /// list.
  virtual std::vector<std::string> names() const { return {}; }
  /// Throws std::runtime_error naming file and tensor when there is none or its dtype is not F32, F16 or
  /// BF16.
  virtual host_tensor tensor(std::string_view name) = 0;
  /// The same without its data (data == nullptr): reads headers only.
  virtual host_tensor describe(std::string_view name) = 0;
  /// A matrix that describe() calls quantized, unpacked. Throws std::runtime_error as tensor() does.
  virtual kernels::quantized_tensor quantized(std::string_view name);
  /// The file that holds, or should hold, the tensor: for errors.
  virtual std::string where(std::string_view name) const = 0;
  /// What says how large tensors should be: for errors.
  virtual std::string_view described_by() const { return "config.json"; }
  /// Where the tensor lies in files, in order; nothing where it does not, or the name is unknown.
  virtual std::vector<file_part> file_parts(std::string_view) { return {}; }
  /// Text that differs where the tensor does, without reading all of it: of what is made of the tensor and
  /// kept. Empty where there is none, and nothing can be kept.
  virtual std::string fingerprint(std::string_view name);
  /// One user of the tensor has done with it.
  virtual void release(std::string_view name) = 0;
};

/// The tensor, which must have this shape. Throws std::runtime_error: file, tensor, found, expected.
host_tensor read_tensor(weight_source& from, std::string_view name, const std::vector<std::int64_t>& shape);

/// Throws as read_tensor() would, without reading data.
void check_tensor(weight_source& from, std::string_view name, const std::vector<std::int64_t>& shape);

/// A matrix of `rows` output and `cols` input features, stored transposed or not.
kernels::host_matrix read_matrix(weight_source& from, std::string_view name, std::int64_t rows,
                                 std::int64_t cols, bool transposed = false);

/// A vector of `size` values, as f32.
std::vector<float> read_vector(weight_source& from, std::string_view name, std::int64_t size);

/// What the names of this source begin with: the family's prefix or nothing (GPT-2 and base models are
/// published both ways). Throws std::runtime_error naming the tensor looked for.
std::string resolve_prefix(const weight_source& from, std::string_view model_type);

}  // namespace fastserve::model
