#include "kernels/cuda/hopper/stream_cut.hpp"
#include "kernels/cuda/hopper/tensor_map.hpp"
#include "kernels/cuda/hopper/unit_ring.cuh"

// Many rows, more than a block has: a block computes 64 features a warpgroup by 128 rows (or 64), segment
// after segment. A warp beside the warpgroups fetches unit after unit of weights and rows into a ring. Two
// blocks, one beside the other along the rows, fetch half of their weights each, for both: the second cache
// could not keep up with the matrix units otherwise.

namespace fastserve::kernels::cuda::hopper {
namespace {

constexpr int most_slots = 8;
static_assert(most_slots <= unit_ring::most_slots);
constexpr int ring_bytes = 216 * 1024;
constexpr int cluster_blocks = 2;
constexpr int share_bytes = panel_bytes / cluster_blocks;  // of a panel, a block's to fetch

template <int Groups, int Rows>
struct tile_shape {
  static_assert(Rows <= few_rows, "a tile's rows are all there");
  static constexpr int threads = (Groups + 1) * group_threads;
  static constexpr int slot_bytes = Groups * panel_bytes + Rows * panel_row_bytes;
  static constexpr int slots = ring_bytes / slot_bytes < most_slots ? ring_bytes / slot_bytes : most_slots;
  static constexpr std::size_t shared_bytes = std::size_t{1024} + slots * slot_bytes;
  // Of a multiprocessor's 65536, what the fetching warpgroup leaves.
  static constexpr int registers = Groups == 3 ? 152 : 232;
};

template <int Groups>
FASTSERVE_DEVICE void fetch_tiles(const unit_ring& ring, const product& p, const CUtensorMap& input,
                                  std::int64_t panel, int row) {
  const auto panels = static_cast<int>((p.features + panel_rows - 1) / panel_rows);
  const auto units = static_cast<int>(p.units);
  const char* weights = p.weights + panel * p.units * panel_bytes + block_in_cluster() * share_bytes;
  // From a panel to the next; beyond the last one that one again.
  const std::int64_t step = p.units * panel_bytes;
  const int there = panels - static_cast<int>(panel);
  const std::uint32_t shift = block_in_cluster() * share_bytes;
  wait_for_previous();
  ring_place at;
  for (int u = 0; u < units; ++u) {
    wait(ring.empty(at.slot), at.phase ^ 1);
    expect_bytes(ring.full(at.slot), ring.slot_bytes());
    const std::uint32_t to = ring.memory(at.slot) + shift;
#pragma unroll
    for (int g = 0; g < Groups; ++g)
      copy_bytes_to_both(to + g * panel_bytes, weights + (g < there ? g : there - 1) * step, share_bytes,
                         ring.full(at.slot));
    copy_box(ring.memory(at.slot) + Groups * panel_bytes, input, u * panel_columns, row, ring.full(at.slot));
    weights += panel_bytes;
    at.next(ring.slots());
  }
}

template <class T, int Groups, int Rows>
__global__ void __launch_bounds__(tile_shape<Groups, Rows>::threads, 1)
    tile_panels(const __grid_constant__ CUtensorMap input, product p) {
  using shape = tile_shape<Groups, Rows>;
  __shared__ std::uint64_t barriers[2 * unit_ring::most_slots];
  const unit_ring ring{barriers, shape::slots, shape::slot_bytes, cluster_blocks};
  // The last block begins early, so that all its rows are there: zeros in their place are slow to come.
  constexpr std::int64_t features = Groups * panel_rows;
  const auto place = place_of_tile(block_x(), row_blocks(p.rows, Rows, cluster_blocks),
                                   (p.features + features - 1) / features);
  const std::int64_t own_row = place.rows * Rows;
  const std::int64_t row = own_row + Rows <= p.rows ? own_row : p.rows - Rows;
  const std::int64_t panel = place.features * Groups;
  ring.init(Groups * group_threads / warp_lanes);
  const int group = thread_index() / group_threads;
  if (group == Groups) {
    leave_registers<40>();
    if (thread_index() == Groups * group_threads)
      fetch_tiles<Groups>(ring, p, input, panel, static_cast<int>(row));
    sync_warp();
    arrive_at_cluster();
  } else {
    take_registers<shape::registers>();
    float whole[Rows / 2];
    bool first = true;
    multiply_units<T, Rows / 2>(ring, p.panel_segment_units, {0, p.units}, group * panel_bytes,
                                rows_in_slot{Groups * panel_bytes}, [&](const float(&sum)[Rows / 2]) {
#pragma unroll
                                  for (int i = 0; i < Rows / 2; ++i)
                                    whole[i] = first ? sum[i] : whole[i] + sum[i];
                                  first = false;
                                });
    arrive_at_cluster();
    wait_for_previous();  // of the output: it may be the residual
    finish_panel<T>(p, whole, panel + group, row, own_row);
  }
  wait_for_cluster();  // the other block may still be leaving this one's slots
}

template <class T, int Groups, int Rows>
void launch_shape_of(const product& p, cudaStream_t on) {
  using shape = tile_shape<Groups, Rows>;
  constexpr std::int64_t features = Groups * panel_rows;
  launch("product, many rows", tile_panels<T, Groups, Rows>,
         {row_blocks(p.rows, Rows, cluster_blocks) * ((p.features + features - 1) / features), 1,
          shape::threads, shape::shared_bytes, on, true, cluster_blocks},
         map_rows(p, Rows), p);
}

template <class T>
void launch_of(const product& p, int multiprocessors, cudaStream_t on) {
  // Rounds of blocks over the device, times what a block takes (measured on an H100, in thousandths of the
  // time that 128 features by 128 rows take).
  const auto rounds = [&](std::int64_t blocks) { return (blocks + multiprocessors - 1) / multiprocessors; };
  const auto cost = [&](std::int64_t features, std::int64_t rows, std::int64_t block) {
    return rounds((p.features + features - 1) / features * row_blocks(p.rows, rows, cluster_blocks)) * block;
  };
  const auto wide = cost(192, 128, 1260);
  const auto middle = cost(128, 128, 1000);
  const auto narrow = cost(128, 64, 660);
  const auto large = takes_large_tiles(p) ? rounds(large_tile_blocks(p)) * 1470 : wide + 1;
  if (large <= wide && large <= middle && large <= narrow) return launch_large_tile(p, multiprocessors, on);
  if (wide <= middle && wide <= narrow) return launch_shape_of<T, 3, 128>(p, on);
  if (middle <= narrow) return launch_shape_of<T, 2, 128>(p, on);
  launch_shape_of<T, 2, 64>(p, on);
}

}  // namespace

void launch_tile(const product& p, int multiprocessors, cudaStream_t on) {
  return p.form == weight_form::f16 ? launch_of<f16>(p, multiprocessors, on)
                                    : launch_of<bf16>(p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
