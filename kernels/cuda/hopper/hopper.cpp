#include "kernels/cuda/hopper/hopper.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/hopper/tensor_map.hpp"

namespace fastserve::kernels::cuda::hopper {
namespace {

/// Of the driver's library, which this program is not linked to.
decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto found = [] {
    void* at = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const auto error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &at, 12000, cudaEnableDefault, &result);
    if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) at = nullptr;
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(at);
  }();
  return found;
}

/// Of 16-bit numbers, boxes of 64 columns into panels.
template <std::size_t Rank>
CUtensorMap encode(bool half, const void* data, const std::array<std::int64_t, Rank>& sizes,
                   const std::array<std::int64_t, Rank - 1>& strides,
                   const std::array<cuuint32_t, Rank>& box) {
  std::array<cuuint64_t, Rank> size;
  std::array<cuuint64_t, Rank - 1> stride;
  std::array<cuuint32_t, Rank> step;
  std::copy(sizes.begin(), sizes.end(), size.begin());
  std::copy(strides.begin(), strides.end(), stride.begin());
  step.fill(1);
  CUtensorMap map;
  const auto result =
      encoder()(&map, half ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, Rank,
                const_cast<void*>(data), size.data(), stride.data(), box.data(), step.data(),
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error("CUDA: cuTensorMapEncodeTiled: error " +
                             std::to_string(static_cast<int>(result)));
  return map;
}

}  // namespace

bool runs_on(int ordinal) {
  const char* wanted = std::getenv("FASTSERVE_CUDA_HOPPER");
  if (wanted != nullptr && std::strcmp(wanted, "0") == 0) return false;
  int major = 0;
  int minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal), "cudaDeviceGetAttribute");
  return major == 9 && minor == 0 && encoder() != nullptr;
}

CUtensorMap map_rows(const product& p, int box_rows) {
  return encode<2>(p.form == weight_form::f16, p.input, {p.units * unit_columns, p.rows}, {p.row_bytes},
                   {unit_columns, static_cast<cuuint32_t>(box_rows)});
}

CUtensorMap map_pages(const attention_job& job, std::int64_t blocks) {
  const std::int64_t halves = (blocks - 1) * (job.kv.block_bytes / job.kv.half_bytes) + 2 * job.kv_heads;
  return encode<3>(job.kv.type == dtype::f16, job.kv.layer, {job.head_dim, kv_block_tokens, halves},
                   {std::int64_t{2} * job.head_dim, job.kv.half_bytes},
                   {unit_columns, static_cast<cuuint32_t>(kv_block_tokens), 1});
}

void launch_product(const product& p, int multiprocessors, cudaStream_t on) {
  return p.rows <= few_rows ? launch_stream(p, multiprocessors, on) : launch_tile(p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
