#include "kernels/cuda/hopper/codes.cuh"
#include "kernels/cuda/hopper/tensor_map.hpp"

// Many rows by grouped integers: they are opened to panels of bf16 once, which the product for many rows
// takes. Its blocks would all open the same weights otherwise.

namespace fastserve::kernels::cuda::hopper {
namespace {

constexpr int open_threads = panel_tiles * warp_lanes;
constexpr int tile_features_bytes = tile_features * unit_columns * 2;

/// A block to a record; a warp has 16 features, whose rows of a panel are one piece of memory.
template <class Form>
__global__ void __launch_bounds__(open_threads) open_codes(product p, char* to) {
  const int lane = thread_index() % warp_lanes;
  const int tile = thread_index() / warp_lanes;
  const char* record = p.weights + (block_y() * grid_x() + block_x()) * p.record.bytes;
  auto* rows = static_cast<std::uint32_t*>(shared_memory()) + tile * (tile_features_bytes / 4);
  group_numbers by;
#pragma unroll
  for (int h = 0; h < code_record::units; ++h) {
    const std::int64_t u = block_x() * code_record::units + h;
    if (u >= p.units) break;
    std::uint32_t a[4][4];
    open_unit<Form>(
        a, by, p, tile, h, [&](int offset) { return load_streaming(record + offset); },
        [&](int offset) { return *reinterpret_cast<const std::uint32_t*>(record + offset); });
    sync_warp();
#pragma unroll
    for (int step = 0; step < 4; ++step) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int row = lane / 4 + r % 2 * 8;
        rows[row * 32 + (2 * step + r / 2 ^ row % 8) * 4 + lane % 4] = a[step][r];
      }
    }
    sync_warp();
    if (h == 0) wait_for_previous();  // it may have been reading panels there
    auto* panel = reinterpret_cast<vec4*>(
        to + (block_y() * p.units + u) * (panel_tiles * tile_features_bytes) + tile * tile_features_bytes);
#pragma unroll
    for (int i = 0; i < tile_features_bytes / 16 / warp_lanes; ++i)
      panel[i * warp_lanes + lane] = reinterpret_cast<const vec4*>(rows)[i * warp_lanes + lane];
  }
}

}  // namespace

void launch_open_codes(const product& p, std::int64_t panels, char* to, cudaStream_t on) {
  const launch_shape shape{(p.units + code_record::units - 1) / code_record::units, panels, open_threads,
                           std::size_t{panel_tiles} * tile_features_bytes,          on,     true};
  if (p.form == weight_form::int8) return launch("opening int8", open_codes<int8_form>, shape, p, to);
  launch("opening int4", open_codes<int4_form>, shape, p, to);
}

}  // namespace fastserve::kernels::cuda::hopper
