#include "kernels/cuda/hopper/hopper.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/hopper/stream_cut.hpp"
#include "kernels/cuda/hopper/tensor_map.hpp"
#include "kernels/parts.hpp"

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

constexpr CUtensorMapDataType numbers(bool half) {
  return half ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

/// Boxes into panels, if not another way.
template <std::size_t Rank>
CUtensorMap encode(CUtensorMapDataType type, const void* data, const std::array<std::int64_t, Rank>& sizes,
                   const std::array<std::int64_t, Rank - 1>& strides, const std::array<cuuint32_t, Rank>& box,
                   CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B) {
  std::array<cuuint64_t, Rank> size;
  std::array<cuuint64_t, Rank - 1> stride;
  std::array<cuuint32_t, Rank> step;
  std::copy(sizes.begin(), sizes.end(), size.begin());
  std::copy(strides.begin(), strides.end(), stride.begin());
  step.fill(1);
  CUtensorMap map;
  const auto result = encoder()(&map, type, Rank, const_cast<void*>(data), size.data(), stride.data(),
                                box.data(), step.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error("CUDA: cuTensorMapEncodeTiled: error " +
                             std::to_string(static_cast<int>(result)));
  return map;
}

constexpr std::int64_t opened_panel_bytes = panel_tiles * tile_features * unit_row_bytes;

/// Panels of a product that are opened at a time: as many as fit 64 MB, evenly cut.
std::int64_t panels_at_once(const product& p) {
  const std::int64_t panels = parts(p.features, panel_tiles * tile_features);
  const std::int64_t fit =
      std::max<std::int64_t>((std::int64_t{64} << 20) / (p.units * opened_panel_bytes), 1);
  return parts(panels, parts(panels, fit));
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

bool norms(weight_form form, std::int64_t rows, std::int64_t cols) {
  product p{};
  p.form = form;
  p.rows = rows;
  p.units = parts(cols, unit_columns);
  p.unit_bytes = unit_row_bytes;
  return is_one_row(p) && cols <= most_normed_columns && cols % 4 == 0;
}

CUtensorMap map_rows(const product& p, int box_rows) {
  return encode<2>(numbers(p.form == weight_form::f16), p.input, {p.units * unit_columns, p.rows},
                   {p.row_bytes}, {unit_columns, static_cast<cuuint32_t>(box_rows)});
}

record_maps map_records(const product& p, int box_rows) {
  const auto rows = static_cast<cuuint32_t>(box_rows);
  constexpr std::int64_t scale_bytes = 16;
  return {encode<3>(CU_TENSOR_MAP_DATA_TYPE_UINT8, p.input, {record_columns, p.rows, p.units},
                    {p.row_bytes, p.unit_bytes}, {record_columns, rows, 1}),
          encode<3>(CU_TENSOR_MAP_DATA_TYPE_UINT8, p.input + q8_record_bytes - scale_bytes,
                    {scale_bytes, p.rows, p.units}, {p.row_bytes, p.unit_bytes}, {scale_bytes, rows, 1},
                    CU_TENSOR_MAP_SWIZZLE_NONE)};
}

CUtensorMap map_pages(const attention_job& job, std::int64_t blocks) {
  const std::int64_t halves = (blocks - 1) * (job.kv.block_bytes / job.kv.half_bytes) + 2 * job.kv_heads;
  return encode<3>(numbers(job.kv.type == dtype::f16), job.kv.layer, {job.head_dim, kv_block_tokens, halves},
                   {std::int64_t{2} * job.head_dim, job.kv.half_bytes},
                   {unit_columns, static_cast<cuuint32_t>(kv_block_tokens), 1});
}

stream_cut cut_stream(const product& p, int multiprocessors) {
  const std::int64_t panels = parts(p.features, panel_tiles * tile_features);
  stream_cut cut{1, 1, 8};
  while (cut.rows < p.rows) cut.rows *= 2;
  // Opening codes waits for many things in turn: several blocks beside one another have something to do
  // meanwhile.
  const bool codes = is_grouped(p.form);
  const int wanted = !codes ? 1 : cut.rows <= 32 ? 3 : cut.rows <= 64 ? 2 : 1;
  const int most = !codes ? 3 : cut.rows <= 32 ? 4 : wanted;
  while (p.panel_segment_units < p.units && cut.splits < panel_segments &&
         2 * cut.splits * panels <= std::int64_t{wanted} * multiprocessors)
    cut.splits *= 2;
  // All blocks at once where they fit, and evenly over the device.
  cut.resident =
      static_cast<int>(std::clamp<std::int64_t>(parts(panels * cut.splits, multiprocessors), 1, most));
  return cut;
}

product_scratch scratch_of(const product& p, int multiprocessors) {
  if (has_records(p.form)) return {};
  const std::int64_t panels = parts(p.features, panel_tiles * tile_features);
  if (p.rows > few_rows)
    return {0, 0, is_grouped(p.form) ? panels_at_once(p) * p.units * opened_panel_bytes : 0};
  const auto cut = cut_stream(p, multiprocessors);
  if (cut.splits == 1) return {};
  return {panels, panels * panel_segments * panel_tiles * tile_features * cut.rows, 0};
}

void launch_product(const product& p, int multiprocessors, cudaStream_t on) {
  if (p.form == weight_form::w8a8) return launch_w8a8(p, multiprocessors, on);
  if (p.form == weight_form::fp8) return launch_fp8(p, multiprocessors, on);
  if (is_one_row(p)) return launch_one_row(p, multiprocessors, on);
  if (p.rows <= few_rows)
    return is_grouped(p.form) ? launch_stream_codes(p, multiprocessors, on)
                              : launch_stream(p, multiprocessors, on);
  if (!is_grouped(p.form)) return launch_tile(p, multiprocessors, on);
  constexpr std::int64_t features = panel_tiles * tile_features;
  const std::int64_t panels = parts(p.features, features);
  const std::int64_t at_once = panels_at_once(p);
  const std::int64_t record_bytes = parts(p.units, code_record::units) * p.record.bytes;
  for (std::int64_t first = 0; first < panels; first += at_once) {
    const auto count = std::min(at_once, panels - first);
    product part = p;
    part.weights = p.weights + first * record_bytes;
    launch_open_codes(part, count, p.opened, on);
    part.form = weight_form::bf16;
    part.weights = p.opened;
    part.features = std::min(count * features, p.features - first * features);
    if (p.gated) {
      part.active = static_cast<char*>(p.active) +
                    first * features / 2 * static_cast<std::int64_t>(size_of(p.active_type));
    } else {
      part.out += first * features;
    }
    if (p.bias != nullptr) part.bias += first * features;
    launch_tile(part, multiprocessors, on);
  }
}

}  // namespace fastserve::kernels::cuda::hopper
