#include "kernels/cuda/attention_pairs.cuh"
#include "kernels/cuda/hopper/device.cuh"
#include "kernels/cuda/hopper/tensor_map.hpp"

// Attention of prompts' chunks: two warpgroups of 64 pairs each share keys and values, which a warp beside
// them fetches page by page into a ring. Scores and weighted sums go through the warpgroup's matrix unit,
// which always has work: while a chunk's scores become weights it sums the last chunk's values and has the
// next one's scores to do. The order of a pair's operations is that of attention_mma.cuh.

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
  static constexpr int part_bytes = panels * panel_bytes;  // keys, or values, of a chunk
  static constexpr int slot_bytes = 2 * part_bytes;
  static constexpr int slots = 5;
  static constexpr int whole_bytes = D / 2 * groups * group_threads * 4;
  static constexpr std::size_t shared_bytes =
      std::size_t{1024} + std::size_t{slots} * slot_bytes + whole_bytes;
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
      : job_{job}, task_{task}, pages_{pages}, head_{block_x()}, barriers_{shared_address(barriers)} {
    ring_ = (shared_address(shared_memory()) + 1023) / 1024 * 1024;
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
  static constexpr int threads = groups * group_threads;  // that multiply

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
    const auto [first_pair, pairs, mine_first, mine_last] = chunks_of(group);
    const auto others = chunks_of(1 - group);
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
    std::uint32_t queries[steps][4];
    load_queries(queries, first_pair, pairs);

    ring_place at;
    // Of chunks that the group sees nothing of it waits for the fetching all the same: nobody runs ahead of
    // the ring.
    const auto pass = [&] {
      wait(values_there(at.slot), at.phase);
      leave(at.slot);
      at.next(shape::slots);
    };
    for (int chunk = first_; chunk < mine_first; ++chunk) pass();
    if (pairs > 0) {
      // One group's products, then the other's, or both would wait for them at the same time and then both
      // leave the matrix unit nothing to do. Only where both go through the same chunks: one that waits for
      // its turn may hold slots that the other waits for.
      const bool turns = others.first == mine_first && others.last == mine_last;
      if (turns && group == 1) pass_turn(turn_of(0));
      float sums[D / 8][4] = {};
      softmax_numbers now;    // of the segment that is being summed
      softmax_numbers whole;  // of those before it
      bool merging = false;
      float scores[2][score_tiles][4];
      std::uint32_t weights[4][4];
      ring_place keys = at;  // of the next scores
      // Beyond the last chunk of what lies there, and nobody looks at it: a branch around products would let
      // no two of them run at once.
      const auto begin_scores = [&](float(&to)[score_tiles][4]) {
        multiply_keys(to, queries, ring_ + keys.slot * shape::slot_bytes);
        keys.next(shape::slots);
      };
      const auto turn = [&](float(&mine_now)[score_tiles][4], int chunk) {
        const int from = chunk * chunk_tokens;
        const int to = from + chunk_tokens - 1;
        constexpr int chunks = segment_tokens / chunk_tokens;
        const bool fresh = chunk % chunks == 0 && chunk > mine_first;
        const softmax_numbers before = now;
        if (fresh) now = {};
        float factor[2];
        if (to <= all_see_to && from >= all_see_from) {
          weigh<true>(now, factor, mine_now, sees, from);
        } else {
          weigh<false>(now, factor, mine_now, sees, from);
        }
        wait_products<0>();  // the last chunk's values and the next scores
        if (chunk > mine_first) {
          leave(at.slot);
          at.next(shape::slots);
        }
        if (fresh) {
          merge(whole, before, sums, !merging);
          merging = true;
#pragma unroll
          for (int i = 0; i < D / 2; ++i) all_of(sums)[i] = 0.0F;
        } else if (count_lanes(factor[0] != 1.0F || factor[1] != 1.0F) > 0) {
#pragma unroll
          for (int i = 0; i < D / 2; ++i) all_of(sums)[i] *= factor[i % 4 / 2];
        }
#pragma unroll
        for (int i = 0; i < 16; ++i)
          weights[i / 4][i % 4] = pack2<T>(all_of(mine_now)[2 * i], all_of(mine_now)[2 * i + 1]);
        const std::uint32_t values = ring_ + at.slot * shape::slot_bytes + shape::part_bytes;
        wait(values_there(at.slot), at.phase);
        if (from < all_.first || to > all_.last) clear_unseen(group, values, from);
        if (chunk + 2 <= mine_last) wait(keys_there(keys.slot), keys.phase);
        if (turns) wait_for_turn(turn_of(group));
#pragma unroll
        for (int step = 0; step < 4; ++step) settle(weights[step]);
        settle(all_of(sums));
        begin_products();
        add_values(sums, weights, values);
        begin_scores(mine_now);
        commit_products();
        if (turns && (group == 0 || chunk < mine_last)) pass_turn(turn_of(1 - group));
      };
      settle(all_of(sums));
      wait(keys_there(keys.slot), keys.phase);
      begin_products();
      begin_scores(scores[0]);
      commit_products();
      if (mine_first < mine_last) wait(keys_there(keys.slot), keys.phase);
      begin_products();
      begin_scores(scores[1]);
      commit_products();
      wait_products<1>();
      for (int chunk = mine_first;;) {
        turn(scores[0], chunk);
        if (++chunk > mine_last) break;
        turn(scores[1], chunk);
        if (++chunk > mine_last) break;
      }
      wait_products<0>();
      leave(at.slot);
      at.next(shape::slots);
      if (merging) {
        merge_last(whole, now, sums);
      } else {
        whole = now;
      }
      finish(whole, sums, warp * 16 + lane / 4, first_pair, pairs);
    }
    for (int chunk = mine_last + 1; chunk < last_; ++chunk) pass();
  }

  /// A group's pairs and the chunks that they see anything of, [first, last]: none if there are no pairs.
  struct group_chunks {
    int first_pair, pairs, first, last;
  };
  FASTSERVE_DEVICE group_chunks chunks_of(int group) const {
    group_chunks c{task_.first_pair + group * panel_rows, task_.pairs - group * panel_rows, last_, last_ - 1};
    if (c.pairs > panel_rows) c.pairs = panel_rows;
    if (c.pairs <= 0) return c;
    const visible sees = range_of(job_, task_, c.first_pair, c.pairs);
    c.first = sees.first / chunk_tokens;
    c.last = sees.last / chunk_tokens;
    return c;
  }
  /// Barriers of groups: 1 and 2 for their own threads, then those of their turns.
  FASTSERVE_DEVICE static constexpr int turn_of(int group) { return 1 + groups + group; }

  static constexpr int steps = D / 16;

  /// Of this lane's two pairs.
  struct softmax_numbers {
    float maximum[2] = {no_maximum, no_maximum};
    float total[2] = {0.0F, 0.0F};
  };

  /// This warp is done with a slot.
  FASTSERVE_DEVICE void leave(int slot) const {
    if (thread_index() % warp_lanes == 0) arrive(free_again(slot));
  }

  /// Rounded to T, as the matrix unit wants its first operand. Zero where there is none.
  FASTSERVE_DEVICE void load_queries(std::uint32_t (&to)[steps][4], int first_pair, int pairs) const {
    const int lane = thread_index() % warp_lanes;
    const int row = thread_index() % group_threads / warp_lanes * 16 + lane / 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const bool there = row + 8 * h < pairs;
      const float* from =
          job_.query +
          (there ? place_of(job_, task_, head_, first_pair + row + 8 * h, job_.query_stride) : 0);
#pragma unroll
      for (int i = 0; i < 2 * steps; ++i) {
        const int d = 8 * i + 2 * (lane % 4);
        const bool has = there && d < job_.head_dim;  // whose size is even
        to[i / 2][i % 2 * 2 + h] = has ? pack2<T>(from[d], from[d + 1]) : 0U;
      }
    }
#pragma unroll
    for (int i = 0; i < steps; ++i) settle(to[i]);
  }

  FASTSERVE_DEVICE void multiply_keys(float (&scores)[score_tiles][4],
                                      const std::uint32_t (&queries)[steps][4], std::uint32_t keys) const {
    begin_products();
#pragma unroll
    for (int panel = 0; panel < shape::panels; ++panel) {
      const auto b = panel_at(keys + panel * panel_bytes);
#pragma unroll
      for (int step = 0; step < 4; ++step)
        multiply_registers<T>(all_of(scores), queries[4 * panel + step], b + 2 * step, panel + step > 0);
    }
  }

  /// Scores to weights. `factor`: what sums are to be multiplied by, for the new maximum.
  template <bool AllSeen>
  FASTSERVE_DEVICE void weigh(softmax_numbers& s, float (&factor)[2], float (&scores)[score_tiles][4],
                              const visible (&sees)[2], int from) const {
    const int t = thread_index() % 4;
    const float scale = job_.scale * log2_e;
    float best[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int j = 0; j < score_tiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (!AllSeen) {
          const int token = from + 8 * j + 2 * t + i % 2;
          const bool seen = token >= sees[i / 2].first && token <= sees[i / 2].last;
          scores[j][i] = seen ? scores[j][i] : -INFINITY;
        }
        best[i / 2] = fmaxf(best[i / 2], scores[j][i]);
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      for (int mask = 1; mask < 4; mask *= 2) best[h] = fmaxf(best[h], shuffle_xor(best[h], mask));
      best[h] = fmaxf(s.maximum[h], best[h] * scale);
      factor[h] = exp2_fast(s.maximum[h] - best[h]);
      s.maximum[h] = best[h];
    }
#pragma unroll
    for (int j = 0; j < score_tiles; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[j][i] = weight_of(scores[j][i], scale, best[i / 2]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float total = lane_total(scores[0], scores[1], h);
#pragma unroll
      for (int j = 2; j < score_tiles; j += 2) total += lane_total(scores[j], scores[j + 1], h);
      for (int mask = 1; mask < 4; mask *= 2) total += shuffle_xor(total, mask);
      s.total[h] = fma(s.total[h], factor[h], total);
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

  FASTSERVE_DEVICE void add_values(float (&sums)[D / 8][4], std::uint32_t (&weights)[4][4],
                                   std::uint32_t values) const {
    const auto b = turned_panel_at(values, panel_bytes);
#pragma unroll
    for (int step = 0; step < 4; ++step)
      multiply_turned<T>(all_of(sums), weights[step], b + step * (16 * panel_row_bytes >> 4));
  }

  /// A segment's numbers and sums to those before it, whose sums are in shared memory: this thread's own.
  FASTSERVE_DEVICE void merge(softmax_numbers& whole, const softmax_numbers& segment, float (&sums)[D / 8][4],
                              bool first) const {
    if (first) {
#pragma unroll
      for (int i = 0; i < D / 2; ++i) whole_[i * threads] = all_of(sums)[i];
      whole = segment;
      return;
    }
    merge_factors by[2];
    merge_numbers(by, whole, segment);
#pragma unroll
    for (int i = 0; i < D / 2; ++i)
      whole_[i * threads] = merged(whole_[i * threads], all_of(sums)[i], by[i % 4 / 2]);
  }
  /// The last one's place is taken by all.
  FASTSERVE_DEVICE void merge_last(softmax_numbers& whole, const softmax_numbers& segment,
                                   float (&sums)[D / 8][4]) const {
    merge_factors by[2];
    merge_numbers(by, whole, segment);
#pragma unroll
    for (int i = 0; i < D / 2; ++i)
      all_of(sums)[i] = merged(whole_[i * threads], all_of(sums)[i], by[i % 4 / 2]);
  }
  FASTSERVE_DEVICE static void merge_numbers(merge_factors (&by)[2], softmax_numbers& whole,
                                             const softmax_numbers& segment) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      by[h] = factors_of(whole.maximum[h], segment.maximum[h]);
      whole.maximum[h] = by[h].best;
      whole.total[h] = merged(whole.total[h], segment.total[h], by[h]);
    }
  }

  FASTSERVE_DEVICE void finish(const softmax_numbers& s, float (&sums)[D / 8][4], int row, int first_pair,
                               int pairs) const {
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
          store_element(job_.out, job_.out_type, to + d + i, sums[j][2 * h + i] * factor);
      }
    }
  }

  const attention_job& job_;
  const attention_task& task_;
  const CUtensorMap& pages_;
  std::int64_t head_;
  std::uint32_t barriers_, ring_;
  float* whole_;
  visible all_;
  int first_, last_;
};

template <class T, int D>
__global__ void __launch_bounds__(prompt_threads, 1)
    attend_prompts(const __grid_constant__ CUtensorMap pages, attention_job job) {
  __shared__ std::uint64_t barriers[3 * prompt_shape<D>::slots];
  wait_for_previous();
  // Those that see most begin first, of all heads.
  const attention_task task = job.tasks[grid_y() - 1 - block_y()];
  prompt_block<T, D> block{job, task, pages, barriers};
  block.run();
}

template <class T>
void launch_of(const attention_job& job, std::int64_t tasks, const CUtensorMap& pages, cudaStream_t on) {
  if (job.head_dim <= 64) {
    launch("attention, prompts", attend_prompts<T, 64>,
           {job.kv_heads, tasks, prompt_threads, prompt_shape<64>::shared_bytes, on, true}, pages, job);
  } else {
    launch("attention, prompts", attend_prompts<T, 128>,
           {job.kv_heads, tasks, prompt_threads, prompt_shape<128>::shared_bytes, on, true}, pages, job);
  }
}

}  // namespace

void launch_attention(const attention_job& job, std::int64_t tasks, std::int64_t blocks, cudaStream_t on) {
  const auto map = map_pages(job, blocks);
  return job.kv.type == dtype::f16 ? launch_of<f16>(job, tasks, map, on)
                                   : launch_of<bf16>(job, tasks, map, on);
}

}  // namespace fastserve::kernels::cuda::hopper
