#pragma once

#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cuda/linear.hpp"
#include "kernels/cuda/memory.hpp"

namespace fastserve::kernels::cuda {

/// Rows of a weight in one format, with memory of their own inside the weight's.
struct weight_section {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  weight_form form = weight_form::bf16;
  bool panels = false;      ///< laid out for hopper::launch_product
  quantized_format format;  ///< of integer forms
  std::int64_t units = 0;
  std::int64_t groups = 0;
  code_record record;                                                ///< of grouped integers in panels
  std::size_t tiles_at = 0, scales_at = 0, zeros_at = 0, bytes = 0;  ///< within the weight's memory

  std::int64_t tiles() const { return (rows + tile_features - 1) / tile_features; }
  /// Of a row.
  std::int64_t records() const { return (units + code_record::units - 1) / code_record::units; }
};

/// Packed weights on the device: sections of tiles (kernels/cuda/linear.hpp).
class cuda_weight final : public weight {
 public:
  /// Lays out the sections; memory is zero, which is what lies beyond the last feature and column.
  cuda_weight(std::int64_t cols, dtype type, std::vector<weight_section> sections, int ordinal,
              cudaStream_t on);

  dtype input_type() const override;
  std::string format() const override;
  std::size_t bytes() const override { return memory_.bytes(); }
  const std::vector<weight_section>& sections() const { return sections_; }
  char* data() const { return static_cast<char*>(memory_.data()); }

 private:
  std::vector<weight_section> sections_;
  buffer memory_;
};

/// Rows of numbers on the device, for embeddings.
class cuda_table final : public weight {
 public:
  cuda_table(const host_matrix& rows, int ordinal)
      : weight{rows.rows, rows.cols, rows.type},
        memory_{allocate_device(kernels::bytes_of(rows.type, rows.rows, rows.cols), ordinal)} {}
  dtype input_type() const override { return dtype::i32; }
  /// One row: a look-up reads no more.
  std::size_t bytes() const override { return kernels::bytes_of(type(), 1, cols()); }
  tensor_view view() const { return memory_.view(type(), rows(), cols()); }

 private:
  buffer memory_;
};

/// Packs weights on the device: sources go up as they are, kernels put every element where it belongs
/// (pack.cu).
class weight_packer {
 public:
  /// `panels`: numbers of 16 bits and integers are laid out so.
  weight_packer(int ordinal, bool panels) : ordinal_{ordinal}, panels_{panels}, on_{ordinal}, raw_{ordinal} {}

  /// backend::pack, pack_quantized and table. Throw std::invalid_argument when matrices do not stack.
  std::unique_ptr<weight> pack(std::span<const host_matrix> stacked, dtype compute);
  std::unique_ptr<weight> pack_quantized(std::span<const quantized_matrix> stacked);
  std::unique_ptr<weight> table(const host_matrix& rows);

 private:
  void put(const cuda_weight& to, const weight_section& section, std::int64_t row, const host_matrix& from);
  void put(const cuda_weight& to, const weight_section& section, std::int64_t row,
           const quantized_matrix& from);

  int ordinal_;
  bool panels_;
  cuda_stream on_;
  device_scratch raw_;
  staged_upload upload_;
};

/// backend::quantize's first half: all rows to the nearest codes, on the host's threads. Throws
/// std::invalid_argument for what are no numbers.
std::vector<quantized_tensor> rounded_on_host(std::span<const host_matrix> from,
                                              const quantized_format& format);

}  // namespace fastserve::kernels::cuda
