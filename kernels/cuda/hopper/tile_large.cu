#include <algorithm>

#include "kernels/cuda/hopper/stream_cut.hpp"
#include "kernels/cuda/hopper/tensor_map.hpp"
#include "kernels/cuda/hopper/unit_ring.cuh"

// Many rows by many features, in one segment: a block computes 128 features by 256 rows. The matrix unit
// reads both operands from shared memory, 128 bytes a cycle: by 256 rows at a time it takes 80, by 128 it
// took 96, and with what copies write meanwhile that was more than there are. Two warpgroups share the rows;
// two blocks, one beside the other along the features, fetch half of them each, for both. Blocks stay for
// tile after tile, so that the first units of the next one are there when this one's end is written.

namespace fastserve::kernels::cuda::hopper {
namespace {

constexpr int groups = 2;
constexpr int cluster_blocks = 2;
constexpr int threads = (groups + 1) * group_threads;
constexpr int rows = large_tile_rows;
constexpr int block_features = groups * panel_rows;
static_assert(block_features * cluster_blocks == large_tile_features);
constexpr int rows_at = groups * panel_bytes;  // in a slot
constexpr int slot_bytes = rows_at + rows * panel_row_bytes;
constexpr int slots = 4;
constexpr int share_rows = rows / cluster_blocks;  // a block's to fetch
constexpr std::size_t shared_bytes = std::size_t{1024} + slots * slot_bytes;
// Of 65536 registers.
constexpr int multiplying_registers = 232;
constexpr int fetching_registers = 40;

/// The tiles of a cluster, one after another.
class tile_walk {
 public:
  FASTSERVE_DEVICE explicit tile_walk(const product& p)
      : p_{p},
        row_tiles_{(p.rows + rows - 1) / rows},
        feature_tiles_{(p.features + large_tile_features - 1) / large_tile_features},
        next_{block_x() / cluster_blocks} {}

  /// Whether there is one more.
  FASTSERVE_DEVICE bool step() {
    if (next_ >= row_tiles_ * feature_tiles_) return false;
    const auto place = place_of_tile(next_, row_tiles_, feature_tiles_, 8);
    next_ += grid_x() / cluster_blocks;
    // The last tile begins early, so that all its rows are there.
    own_row = place.rows * rows;
    row = own_row + rows <= p_.rows ? own_row : p_.rows - rows;
    panel = (place.features * cluster_blocks + block_in_cluster()) * groups;
    return true;
  }

  std::int64_t row = 0;      ///< the first one
  std::int64_t own_row = 0;  ///< those before it are another tile's
  std::int64_t panel = 0;

 private:
  const product& p_;
  std::int64_t row_tiles_, feature_tiles_, next_;
};

FASTSERVE_DEVICE void fetch_tiles(const unit_ring& ring, const product& p, const CUtensorMap& input) {
  const std::int64_t last_panel = (p.features + panel_rows - 1) / panel_rows - 1;
  const auto units = static_cast<int>(p.units);
  const std::int64_t panel_step = p.units * panel_bytes;
  const int shift = block_in_cluster() * share_rows;
  wait_for_previous();
  ring_place at;
  tile_walk tile{p};
  while (tile.step()) {
    // Beyond the last panel that one again: nobody reads its products.
    const std::int64_t first = tile.panel < last_panel ? tile.panel : last_panel;
    const char* weights = p.weights + first * panel_step;
    const std::int64_t second = first < last_panel ? panel_step : 0;
    const int row = static_cast<int>(tile.row) + shift;
    for (int u = 0; u < units; ++u) {
      wait(ring.empty(at.slot), at.phase ^ 1);
      const std::uint32_t to = ring.memory(at.slot);
      const std::uint32_t full = ring.full(at.slot);
      expect_bytes(full, slot_bytes);
      copy_box_to_both(to + rows_at + shift * panel_row_bytes, input, u * panel_columns, row, full);
      copy_bytes(to, weights, panel_bytes, full);
      copy_bytes(to + panel_bytes, weights + second, panel_bytes, full);
      weights += panel_bytes;
      at.next(slots);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(threads, 1)
    large_tiles(const __grid_constant__ CUtensorMap input, product p) {
  __shared__ std::uint64_t barriers[2 * unit_ring::most_slots];
  const unit_ring ring{barriers, slots, slot_bytes, cluster_blocks};
  ring.init(groups * group_threads / warp_lanes);
  const int group = thread_index() / group_threads;
  if (group == groups) {
    leave_registers<fetching_registers>();
    if (thread_index() == groups * group_threads) fetch_tiles(ring, p, input);
    sync_warp();
  } else {
    take_registers<multiplying_registers>();
    wait_for_previous();  // of the output: it may be the residual
    ring_place at;
    tile_walk tile{p};
    while (tile.step()) {
      float sum[rows / 2];
      multiply_segment<T>(sum, ring, at, p.units, group * panel_bytes, rows_in_slot{rows_at});
      finish_panel<T>(p, sum, tile.panel + group, tile.row, tile.own_row);
    }
  }
  arrive_at_cluster();
  wait_for_cluster();  // the other block may still be leaving this one's slots
}

template <class T>
void launch_of(const product& p, int multiprocessors, cudaStream_t on) {
  const std::int64_t together = multiprocessors / cluster_blocks * cluster_blocks;
  launch("product, large tiles", large_tiles<T>,
         {std::min(large_tile_blocks(p), together), 1, threads, shared_bytes, on, true, cluster_blocks},
         map_rows(p, share_rows), p);
}

}  // namespace

void launch_large_tile(const product& p, int multiprocessors, cudaStream_t on) {
  return p.form == weight_form::f16 ? launch_of<f16>(p, multiprocessors, on)
                                    : launch_of<bf16>(p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
