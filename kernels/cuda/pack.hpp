#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/linear.hpp"

// Launchers of the kernels that put weights into tiles (pack.cu). Sources are pieces of a matrix in device
// memory.

namespace fastserve::kernels::cuda {

/// Numbers [outer, inner]: rows by columns, or columns by rows where `transposed`.
struct pack_numbers_job {
  char* to;
  weight_form form;
  bool panels;
  std::int64_t units;
  const void* from;
  dtype type;
  bool transposed;
  std::int64_t outer, inner;
  std::int64_t first_row, first_column;  ///< where the piece begins, in the section
};
void launch_pack_numbers(const pack_numbers_job& job, cudaStream_t on);

/// Codes [rows, cols], a byte each.
struct pack_codes_job {
  char* to;
  weight_form form;
  std::int64_t units;
  const std::uint8_t* from;
  std::int64_t rows, cols;
  std::int64_t first_row;
  std::int32_t shift;  ///< added to a code
  bool panels;
  code_record record;  ///< of groups in panels
};
void launch_pack_codes(const pack_codes_job& job, cudaStream_t on);

/// Scales, offsets (f32) or zeros (bytes) [rows, groups] to [tile][group][16] of bf16, zeros to 16 bits, or
/// to their places in records; where there is one for a whole row of W8A8, to [row] in f32. Numbers are
/// rounded to f16 first unless `wide`: it is what the format says they are.
struct pack_scales_job {
  void* to;
  bool wide;
  bool by_row;
  const void* from;
  bool bytes;
  std::int64_t rows, groups;
  std::int64_t first_row;
  bool panels;
  code_record record;
  std::int64_t records;  ///< of a row
  std::int64_t group_columns;
};
void launch_pack_scales(const pack_scales_job& job, cudaStream_t on);

}  // namespace fastserve::kernels::cuda
