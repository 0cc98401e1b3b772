#include "kernels/cuda/attention_pairs.cuh"
#include "kernels/cuda/hopper/device.cuh"
#include "kernels/cuda/hopper/tensor_map.hpp"

// Attention of prompts' chunks: two warpgroups of 64 pairs each share keys and values, which a warp beside
// them fetches page by page into a ring. Scores and weighted sums go through the warpgroup's matrix unit, and
// while one group takes exponentials the other multiplies. The order of a pair's operations is that of
// attention_mma.cuh.

namespace fastserve::kernels::cuda::hopper {
namespace {

constexpr int groups = prompt_pairs / panel_rows;
constexpr int prompt_threads = (groups + 1) * group_threads;
constexpr int chunk_pages = chunk_tokens / kv_block_tokens;
constexpr int page_bytes = kv_block_tokens * panel_row_bytes;  // of one panel
constexpr int score_tiles = chunk_tokens / 8;
static_assert(chunk_tokens == panel_rows);

template <int D>
struct prompt_shape {
  static constexpr int panels = D / panel_columns;
  static constexpr int part_bytes = panels * panel_bytes;  // keys, or values, of a chunk; queries of a group
  static constexpr int slot_bytes = 2 * part_bytes;
  static constexpr int slots = 4;
  static constexpr int whole_bytes = D / 2 * groups * group_threads * 4;
  static constexpr std::size_t shared_bytes =
      std::size_t{1024} + groups * part_bytes + std::size_t{slots} * slot_bytes + whole_bytes;
};

/// The accumulators of the warpgroup's matrix unit, which are the 16 pairs' of each warp.
template <int Tiles>
FASTSERVE_DEVICE auto& all_of(float (&tiles)[Tiles][4]) {
  return reinterpret_cast<float(&)[Tiles * 4]>(tiles);
}

template <class T, int D>
class prompt_block {
 public:
  using shape = prompt_shape<D>;

  FASTSERVE_DEVICE prompt_block(const attention_job& job, const attention_task& task,
                                const CUtensorMap& pages, std::uint64_t* barriers)
      : job_{job}, task_{task}, pages_{pages}, head_{block_y()}, barriers_{shared_address(barriers)} {
    queries_ = (shared_address(shared_memory()) + 1023) / 1024 * 1024;
    ring_ = queries_ + groups * shape::part_bytes;
    whole_ = reinterpret_cast<float*>(static_cast<char*>(shared_memory()) +
                                      (ring_ - shared_address(shared_memory())) +
                                      shape::slots * shape::slot_bytes) +
             thread_index();
    all_ = range_of(job, task, task.first_pair, task.pairs);
    first_ = all_.first / chunk_tokens;
    last_ = all_.last / chunk_tokens + 1;
  }

  FASTSERVE_DEVICE void run() {
    if (thread_index() == 0) {
      for (int s = 0; s < shape::slots; ++s) {
        init_barrier(keys_there(s), 1);
        init_barrier(values_there(s), 1);
        init_barrier(free_again(s), groups * group_threads / warp_lanes);
      }
      publish_barriers();
    }
    sync_block();
    const int group = thread_index() / group_threads;
    if (group == groups) {
      leave_registers<24>();
      if (thread_index() == groups * group_threads) fetch();
    } else {
      take_registers<240>();
      attend(group);
    }
  }

 private:
  FASTSERVE_DEVICE std::uint32_t keys_there(int slot) const { return barriers_ + 24 * slot; }
  FASTSERVE_DEVICE std::uint32_t values_there(int slot) const { return barriers_ + 24 * slot + 8; }
  FASTSERVE_DEVICE std::uint32_t free_again(int slot) const { return barriers_ + 24 * slot + 16; }

  FASTSERVE_DEVICE void fetch() {
    const std::int32_t* blocks = job_.blocks + task_.blocks_at;
    const auto halves = static_cast<int>(job_.kv.block_bytes / job_.kv.half_bytes);
    ring_place at;
    for (int chunk = first_; chunk < last_; ++chunk) {
      int block[chunk_pages];
      int present = 0;
#pragma unroll
      for (int page = 0; page < chunk_pages; ++page) {
        const int token = chunk * chunk_tokens + page * kv_block_tokens;
        const bool seen = token <= all_.last && token + kv_block_tokens > all_.first;
        block[page] = seen ? blocks[token / kv_block_tokens] : -1;
        present += seen ? 1 : 0;
      }
      wait(free_again(at.slot), at.phase ^ 1);
      std::uint32_t to = ring_ + at.slot * shape::slot_bytes;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint32_t barrier = half == 0 ? keys_there(at.slot) : values_there(at.slot);
        expect_bytes(barrier, present * shape::panels * page_bytes);
#pragma unroll
        for (int page = 0; page < chunk_pages; ++page) {
          if (block[page] < 0) continue;
          const int z = block[page] * halves + 2 * static_cast<int>(head_) + half;
#pragma unroll
          for (int panel = 0; panel < shape::panels; ++panel)
            copy_box(to + panel * panel_bytes + page * page_bytes, pages_, panel * panel_columns, 0, z,
                     barrier);
        }
        to += shape::part_bytes;
      }
      at.next(shape::slots);
    }
  }

  FASTSERVE_DEVICE void attend(int group) {
    const int lane = thread_index() % warp_lanes;
    const int warp = thread_index() % group_threads / warp_lanes;
    const int first_pair = task_.first_pair + group * panel_rows;
    int pairs = task_.pairs - group * panel_rows;
    if (pairs > panel_rows) pairs = panel_rows;
    const visible mine = range_of(job_, task_, first_pair, pairs);
    // Up to here every pair of the group sees everything, from here on somebody does.
    const int all_see_to = task_.first_position + first_pair / job_.group;
    const int all_see_from =
        pairs > 0
            ? visible_from(task_.first_position + (first_pair + pairs - 1) / job_.group, job_.window).first
            : 0;
    visible sees[2];
    for (int h = 0; h < 2; ++h) {
      const int pair = warp * 16 + lane / 4 + 8 * h;
      if (pair < pairs)
        sees[h] = visible_from(task_.first_position + (first_pair + pair) / job_.group, job_.window);
    }
    load_queries(group, first_pair, pairs);

    softmax_state<D> state;
    clear(state);
    float maximum[2];
    float total[2];
    bool merging = false;
    ring_place at;
    // Of chunks that the group sees nothing of it waits for the fetching all the same: nobody runs ahead of
    // the ring.
    const auto pass = [&] {
      wait(values_there(at.slot), at.phase);
      if (lane == 0) arrive(free_again(at.slot));
      at.next(shape::slots);
    };
    const int mine_first = pairs > 0 ? mine.first / chunk_tokens : last_;
    const int mine_last = pairs > 0 ? mine.last / chunk_tokens : last_ - 1;
    for (int chunk = first_; chunk < mine_first; ++chunk) pass();
    if (pairs > 0) {
      const std::uint32_t queries = queries_ + group * shape::part_bytes;
      float scores[score_tiles][4];
      float ahead[score_tiles][4];
      wait(keys_there(at.slot), at.phase);
      multiply_keys(scores, queries, ring_ + at.slot * shape::slot_bytes);
      wait_products<0>();
      for (int chunk = mine_first; chunk <= mine_last; ++chunk) {
        const int from = chunk * chunk_tokens;
        const int to = from + chunk_tokens - 1;
        const std::uint32_t values = ring_ + at.slot * shape::slot_bytes + shape::part_bytes;
        ring_place next = at;
        next.next(shape::slots);
        // The matrix unit has the next scores to do while these become weights.
        if (chunk < mine_last) {
          wait(keys_there(next.slot), next.phase);
          multiply_keys(ahead, queries, ring_ + next.slot * shape::slot_bytes);
        }
        if (to <= all_see_to && from >= all_see_from) {
          weigh<true>(state, scores, sees, from);
        } else {
          weigh<false>(state, scores, sees, from);
        }
        wait(values_there(at.slot), at.phase);
        if (from < all_.first || to > all_.last) clear_unseen(group, values, from);
        add_values(state, scores, values);
        wait_products<0>();
        if (lane == 0) arrive(free_again(at.slot));
        at = next;
#pragma unroll
        for (int i = 0; i < 4 * score_tiles; ++i) all_of(scores)[i] = all_of(ahead)[i];
        constexpr int chunks = segment_tokens / chunk_tokens;
        if ((chunk + 1) % chunks != 0 && chunk < mine_last) continue;
        merge(maximum, total, state, !merging, chunk == mine_last);
        merging = true;
        if (chunk < mine_last) clear(state);
      }
      finish(state, warp * 16 + lane / 4, first_pair, pairs);
    }
    for (int chunk = mine_last + 1; chunk < last_; ++chunk) pass();
  }

  /// Rounded to T, as a panel for every 64 dimensions. Zero where there is none.
  FASTSERVE_DEVICE void load_queries(int group, int first_pair, int pairs) const {
    const std::uint32_t to = queries_ + group * shape::part_bytes;
    constexpr int row_pieces = D / 8;
    for (int i = thread_index() % group_threads; i < panel_rows * row_pieces; i += group_threads) {
      const int pair = i / row_pieces;
      const int piece = i % row_pieces;
      std::uint32_t x[4] = {0, 0, 0, 0};
      if (pair < pairs && piece * 8 < job_.head_dim) {
        const float* from =
            job_.query + place_of(job_, task_, head_, first_pair + pair, job_.query_stride) + piece * 8;
#pragma unroll
        for (int j = 0; j < 4; ++j) x[j] = pack2<T>(from[2 * j], from[2 * j + 1]);
      }
      const std::uint32_t at =
          to + piece / 8 * panel_bytes + pair * panel_row_bytes + (piece % 8 ^ pair % 8) * 16;
      asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
                   :
                   : "r"(at), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
                   : "memory");
    }
    show_to_matrix_unit();
    sync_group(1 + group);
  }

  FASTSERVE_DEVICE void multiply_keys(float (&scores)[score_tiles][4], std::uint32_t queries,
                                      std::uint32_t keys) const {
    begin_products();
#pragma unroll
    for (int panel = 0; panel < shape::panels; ++panel) {
      const auto a = panel_at(queries + panel * panel_bytes);
      const auto b = panel_at(keys + panel * panel_bytes);
#pragma unroll
      for (int step = 0; step < 4; ++step)
        multiply_panels<T>(all_of(scores), a + 2 * step, b + 2 * step, panel + step > 0);
    }
    commit_products();
  }

  /// Scores to weights; the state's sums and total to the new maximum.
  template <bool AllSeen>
  FASTSERVE_DEVICE void weigh(softmax_state<D>& s, float (&scores)[score_tiles][4], const visible (&sees)[2],
                              int from) const {
    const int t = thread_index() % 4;
    const float scale = job_.scale * log2_e;
    float best[2] = {s.maximum[0], s.maximum[1]};
#pragma unroll
    for (int j = 0; j < score_tiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float x = scores[j][i] * scale;
        if constexpr (!AllSeen) {
          const int token = from + 8 * j + 2 * t + i % 2;
          x = token >= sees[i / 2].first && token <= sees[i / 2].last ? x : -INFINITY;
        }
        scores[j][i] = x;
        best[i / 2] = fmaxf(best[i / 2], x);
      }
    }
    float factor[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      for (int mask = 1; mask < 4; mask *= 2) {
        const float other = shuffle_xor(best[h], mask);
        best[h] = fmaxf(best[h], other);
      }
      factor[h] = exp2_fast(s.maximum[h] - best[h]);
      s.maximum[h] = best[h];
    }
#pragma unroll
    for (int j = 0; j < score_tiles; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[j][i] = exp2_fast(scores[j][i] - best[i / 2]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float total = lane_total(scores[0], scores[1], h);
#pragma unroll
      for (int j = 2; j < score_tiles; j += 2) total += lane_total(scores[j], scores[j + 1], h);
      for (int mask = 1; mask < 4; mask *= 2) total += shuffle_xor(total, mask);
      s.total[h] = fma(s.total[h], factor[h], total);
    }
    if (count_lanes(factor[0] != 1.0F || factor[1] != 1.0F) > 0) {
#pragma unroll
      for (int i = 0; i < D / 2; ++i) all_of(s.sums)[i] *= factor[i % 4 / 2];
    }
  }

  /// Values of tokens that no pair of the block sees: they may be another sequence's, or none at all.
  FASTSERVE_DEVICE void clear_unseen(int group, std::uint32_t values, int from) const {
    for (int i = thread_index() % group_threads; i < shape::panels * panel_rows * 8; i += group_threads) {
      const int token = from + i / 8 % panel_rows;
      if (token >= all_.first && token <= all_.last) continue;
      asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" : : "r"(values + i * 16), "r"(0) : "memory");
    }
    show_to_matrix_unit();
    sync_group(1 + group);
  }

  FASTSERVE_DEVICE void add_values(softmax_state<D>& s, const float (&weights)[score_tiles][4],
                                   std::uint32_t values) const {
    std::uint32_t a[4][4];
#pragma unroll
    for (int step = 0; step < 4; ++step)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        a[step][r] = pack2<T>(weights[2 * step + r / 2][r % 2 * 2], weights[2 * step + r / 2][r % 2 * 2 + 1]);
    const auto b = turned_panel_at(values, panel_bytes);
    begin_products();
#pragma unroll
    for (int step = 0; step < 4; ++step)
      multiply_turned<T>(all_of(s.sums), a[step], b + step * (16 * panel_row_bytes >> 4));
    commit_products();
  }

  /// A segment's state to those before it, whose sums are in shared memory: this thread's own. The last one's
  /// place is taken by all.
  FASTSERVE_DEVICE void merge(float (&maximum)[2], float (&total)[2], softmax_state<D>& s, bool first,
                              bool last) const {
    constexpr int threads = groups * group_threads;
    if (first) {
      if (last) return;
#pragma unroll
      for (int i = 0; i < D / 2; ++i) whole_[i * threads] = all_of(s.sums)[i];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        maximum[h] = s.maximum[h];
        total[h] = s.total[h];
      }
      return;
    }
    merge_factors by[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      by[h] = factors_of(maximum[h], s.maximum[h]);
      maximum[h] = by[h].best;
      s.total[h] = total[h] = merged(total[h], s.total[h], by[h]);
    }
#pragma unroll
    for (int i = 0; i < D / 2; ++i) {
      all_of(s.sums)[i] = merged(whole_[i * threads], all_of(s.sums)[i], by[i % 4 / 2]);
      if (!last) whole_[i * threads] = all_of(s.sums)[i];
    }
  }

  FASTSERVE_DEVICE void finish(const softmax_state<D>& s, int row, int first_pair, int pairs) const {
    const int t = thread_index() % 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (row + 8 * h >= pairs) continue;
      const int pair = first_pair + row + 8 * h;
      const std::int64_t to = place_of(job_, task_, head_, pair, job_.out_stride);
      const float factor = 1.0F / s.total[h];
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        const int d = 8 * j + 2 * t;
        if (d >= job_.head_dim) continue;
#pragma unroll
        for (int i = 0; i < 2; ++i)
          store_element(job_.out, job_.out_type, to + d + i, s.sums[j][2 * h + i] * factor);
      }
    }
  }

  const attention_job& job_;
  const attention_task& task_;
  const CUtensorMap& pages_;
  std::int64_t head_;
  std::uint32_t barriers_, queries_, ring_;
  float* whole_;
  visible all_;
  int first_, last_;
};

template <class T, int D>
__global__ void __launch_bounds__(prompt_threads, 1)
    attend_prompts(const __grid_constant__ CUtensorMap pages, attention_job job) {
  __shared__ std::uint64_t barriers[3 * prompt_shape<D>::slots];
  wait_for_previous();
  // Those that see most begin first.
  const attention_task task = job.tasks[grid_x() - 1 - block_x()];
  prompt_block<T, D> block{job, task, pages, barriers};
  block.run();
}

template <class T>
void launch_of(const attention_job& job, std::int64_t tasks, const CUtensorMap& pages, cudaStream_t on) {
  if (job.head_dim <= 64) {
    launch("attention, prompts", attend_prompts<T, 64>,
           {tasks, job.kv_heads, prompt_threads, prompt_shape<64>::shared_bytes, on, true}, pages, job);
  } else {
    launch("attention, prompts", attend_prompts<T, 128>,
           {tasks, job.kv_heads, prompt_threads, prompt_shape<128>::shared_bytes, on, true}, pages, job);
  }
}

}  // namespace

void launch_attention(const attention_job& job, std::int64_t tasks, std::int64_t blocks, cudaStream_t on) {
  const auto map = map_pages(job, blocks);
  return job.kv.type == dtype::f16 ? launch_of<f16>(job, tasks, map, on)
                                   : launch_of<bf16>(job, tasks, map, on);
}

}  // namespace fastserve::kernels::cuda::hopper
