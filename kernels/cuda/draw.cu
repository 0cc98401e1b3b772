#include <limits>

#include "kernels/cuda/draw.hpp"
#include "kernels/cuda/elements.cuh"
#include "kernels/token_weight.hpp"

// Drawing tokens: one block a draw, which reads its row of logits a few times and nothing else. No sorting: a
// cut's score is found by sums over 12, 10 and 10 bits of its rank in shared memory, a place in the row by
// narrowing. All sums are of integers, so the order of adding, atomic or not, changes nothing.

namespace fastserve::kernels::cuda {
namespace {

constexpr int draw_threads = 1024;
constexpr int draw_warps = draw_threads / warp_lanes;
static_assert(draw_warps == warp_lanes, "a warp's lanes look through one sum of each warp");

struct draw_parameters {
  const float* logits;
  const draw_row* rows;
  drawn_row* out;
  std::int64_t stride;
  std::int32_t vocab;
  bool whole;
};

/// Shared memory of a block.
struct draw_room {
  std::uint32_t
      low[4096];  // sums of 64 bits by a digit of the rank; apart, because their halves are added to
  std::uint32_t high[4096];
  std::uint64_t parts[draw_warps];
  std::int32_t odd[draw_warps];
};

FASTSERVE_DEVICE void clear_bins(draw_room& room, int count) {
  for (int i = thread_index(); i < count; i += draw_threads) room.low[i] = room.high[i] = 0;
  sync_block();
}
/// The processor adds 32 bits of shared memory at once; the one addition that wraps brings the carry.
FASTSERVE_DEVICE void add_to_bin(draw_room& room, std::uint32_t bin, std::uint32_t x) {
  const std::uint32_t before = add_shared(&room.low[bin], x);
  if (before + x < before) add_shared(&room.high[bin], 1);
}
FASTSERVE_DEVICE std::uint64_t bin_sum(const draw_room& room, int bin) {
  return std::uint64_t{room.high[bin]} << 32 | room.low[bin];
}

/// Calls f(score, token) for the tokens of this thread.
template <class F>
FASTSERVE_DEVICE void each_score(const draw_parameters& p, const float* row, F f) {
  constexpr int at_once = 2;  // loads in flight
  constexpr int step = 4 * draw_threads;
  for (std::int32_t begin = 4 * thread_index(); begin < p.vocab; begin += at_once * step) {
    float4v v[at_once];
    for (int h = 0; h < at_once; ++h)
      v[h] = load_four(row, begin + h * step, p.vocab, p.whole && begin + h * step < p.vocab);
    for (int h = 0; h < at_once; ++h) {
      for (int j = 0; j < 4; ++j)
        if (begin + h * step + j < p.vocab) f(v[h].x[j], begin + h * step + j);
    }
  }
}

struct place {
  std::int32_t at;
  std::uint64_t left;   // of the target, at the place
  std::uint64_t value;  // there
};

/// The first place below `count` at which the running sum of value(i) exceeds target_of(sum of all), which is
/// less than the sum of all. The range is cut into a part for each warp until a part is one place. Every
/// thread gets the answer.
template <class Value, class Target>
FASTSERVE_DEVICE place first_beyond(std::int32_t count, Value value, Target target_of, draw_room& room) {
  const int lane = thread_index() % warp_lanes;
  const int warp = thread_index() / warp_lanes;
  std::int32_t begin = 0;
  std::int32_t end = count;
  std::uint64_t target = 0;
  for (bool known = false;; known = true) {
    const std::int32_t size = (end - begin + draw_warps - 1) / draw_warps;
    const std::int32_t last = begin + (warp + 1) * size < end ? begin + (warp + 1) * size : end;
    std::uint64_t sum = 0;
#pragma unroll 4
    for (std::int32_t i = begin + warp * size + lane; i < last; i += warp_lanes) sum += value(i);
    sum = warp_sum(sum);
    sync_block();  // the parts of the last time have been read
    if (lane == 0) room.parts[warp] = sum;
    sync_block();
    const std::uint64_t part = room.parts[lane];
    std::uint64_t up_to = part;
    for (int step = 1; step < warp_lanes; step *= 2) {
      const std::uint64_t below = from_lane(up_to, lane < step ? lane : lane - step);
      if (lane >= step) up_to += below;
    }
    const std::uint64_t total = from_lane(up_to, warp_lanes - 1);
    if (!known) target = target_of(total);
    const int found = count_lanes(up_to <= target);
    const std::uint64_t there = from_lane(part, found);
    target -= from_lane(up_to, found) - there;
    begin += found * size;
    end = begin + size < end ? begin + size : end;
    if (size <= 1) return {begin, target, there};  // 0 after a wrong target, which must not hang the device
  }
}

/// model/softmax's find_cut(): the first token, by falling score and then rising id, at which the running sum
/// of value(score, token) exceeds target_of(sum of all). Tokens that `within` cuts off must have the value 0,
/// equal scores that it keeps equal values.
template <class Value, class Target>
FASTSERVE_DEVICE token_cut find_cut(const draw_parameters& p, const float* row, token_cut within, Value value,
                                    Target target_of, draw_room& room) {
  std::uint32_t known = 0;
  std::uint32_t mask = 0;
  place found{};
  for (int shift = 20; shift >= 0; shift -= 10) {
    const int digits = shift == 20 ? 4095 : 1023;
    clear_bins(room, digits + 1);
    each_score(p, row, [&](float score, std::int32_t token) {
      const std::uint32_t rank = score_rank(score);
      if ((rank & mask) != known) return;
      const std::uint32_t x = value(score, token);
      if (x != 0) add_to_bin(room, rank >> shift & static_cast<std::uint32_t>(digits), x);
    });
    sync_block();
    found = first_beyond(
        digits + 1, [&](std::int32_t i) { return bin_sum(room, digits - i); },
        [&](std::uint64_t total) { return mask == 0 ? target_of(total) : found.left; }, room);
    known |= static_cast<std::uint32_t>(digits - found.at) << shift;
    mask |= static_cast<std::uint32_t>(digits) << shift;
  }
  token_cut cut;
  cut.score = ranked_score(known);
  if (cut.score == within.score) cut.token = within.token;
  // Mostly the score is one token's, or all that have it are kept.
  if (found.left + value(cut.score, 0) >= found.value) return cut;
  const std::uint64_t left = found.left;
  cut.token = first_beyond(
                  p.vocab,
                  [&](std::int32_t i) {
                    return row[i] == cut.score ? std::uint64_t{value(row[i], i)} : std::uint64_t{0};
                  },
                  [&](std::uint64_t) { return left; }, room)
                  .at;
  return cut;
}

/// A rank below which no token is among the best k: so many threads have a token that is not below. Spares
/// the cut of top-k nearly all additions.
FASTSERVE_DEVICE std::uint32_t rank_floor(std::uint32_t best_of_thread, std::int32_t k, draw_room& room) {
  if (k > draw_threads) return 0;
  clear_bins(room, 4096);
  add_to_bin(room, best_of_thread >> 20, 1);
  sync_block();
  const auto found = first_beyond(
      4096, [&](std::int32_t i) { return bin_sum(room, 4095 - i); },
      [&](std::uint64_t) { return static_cast<std::uint64_t>(k - 1); }, room);
  return static_cast<std::uint32_t>(4095 - found.at) << 20;
}

FASTSERVE_DEVICE std::uint64_t warp_largest(std::uint64_t x) {
  for (int mask = 16; mask > 0; mask /= 2) {
    const std::uint64_t other = shuffle_xor(x, mask);
    x = other > x ? other : x;
  }
  return x;
}

__global__ void __launch_bounds__(draw_threads) draw_rows(draw_parameters p) {
  auto& room = *static_cast<draw_room*>(shared_memory());
  const draw_row how = p.rows[block_x()];
  const float* row = p.logits + how.row * p.stride;

  // The largest score, of equals the lowest id; scores that are no use rank last.
  std::uint64_t best = 0;
  bool odd = false;
  each_score(p, row, [&](float score, std::int32_t token) {
    constexpr float largest = std::numeric_limits<float>::max();
    constexpr float infinity = std::numeric_limits<float>::infinity();
    odd |= !(score <= largest);
    const std::uint32_t rank = score_rank(score <= largest ? score : -infinity);
    const std::uint64_t key = std::uint64_t{rank} << 32 | ~static_cast<std::uint32_t>(token);
    best = key > best ? key : best;
  });
  const auto best_of_thread = static_cast<std::uint32_t>(best >> 32);
  const int lane = thread_index() % warp_lanes;
  const int odd_lanes = count_lanes(odd);
  best = warp_largest(best);
  if (lane == 0) {
    room.parts[thread_index() / warp_lanes] = best;
    room.odd[thread_index() / warp_lanes] = odd_lanes;
  }
  sync_block();
  best = warp_largest(room.parts[lane]);
  odd = count_lanes(room.odd[lane] != 0) != 0;
  const float top = ranked_score(static_cast<std::uint32_t>(best >> 32));
  const bool valid = !odd && top > -std::numeric_limits<float>::infinity();

  auto token = static_cast<std::int32_t>(~static_cast<std::uint32_t>(best));
  if (valid && how.temperature != 0.0F) {
    const float weightless_below = top - weightless * how.temperature;
    const auto weigh = [&](float score) {
      return score < weightless_below ? 0U : token_weight(score, top, how.temperature);
    };
    token_cut kept;
    if (how.top_k > 0 && how.top_k < p.vocab) {
      const std::uint32_t floor = rank_floor(best_of_thread, how.top_k, room);
      kept = find_cut(
          p, row, kept, [&](float score, std::int32_t) { return score_rank(score) >= floor ? 1U : 0U; },
          [&](std::uint64_t) { return static_cast<std::uint64_t>(how.top_k - 1); }, room);
    }
    if (how.top_p < 1.0F) {
      const token_cut within = kept;
      kept = find_cut(
          p, row, within,
          [&](float score, std::int32_t id) { return within.keeps(score, id) ? weigh(score) : 0U; },
          [&](std::uint64_t total) { return top_p_target(how.top_p, total); }, room);
    }
    const std::uint32_t least = least_weight(how.min_p);
    token = first_beyond(
                p.vocab,
                [&](std::int32_t i) {
                  const std::uint32_t weight = kept.keeps(row[i], i) ? weigh(row[i]) : 0U;
                  return std::uint64_t{weight >= least ? weight : 0U};
                },
                [&](std::uint64_t total) { return draw_target(how.uniform, total); }, room)
                .at;
  }
  if (thread_index() == 0) p.out[block_x()] = {token, valid};
}

constexpr int take_threads = 128;

__global__ void __launch_bounds__(take_threads)
    take_drawn(std::int32_t* ids, std::int64_t rows, const drawn_row* drawn) {
  const std::int64_t r = block_x() * take_threads + thread_index();
  if (r < rows && ids[r] < 0) ids[r] = drawn[~ids[r]].token;
}

}  // namespace

void launch_take_drawn(std::int32_t* ids, std::int64_t rows, const drawn_row* drawn, cudaStream_t on) {
  assert(rows > 0 && drawn != nullptr);
  launch("tokens drawn", take_drawn, {(rows + take_threads - 1) / take_threads, 1, take_threads, 0, on}, ids,
         rows, drawn);
}

void launch_draw(drawn_row* out, const draw_row* rows, std::int64_t count, tensor_view logits,
                 cudaStream_t on) {
  if (count == 0) return;
  const auto* data = static_cast<const float*>(logits.data);
  const bool whole = logits.cols % 4 == 0 && logits.stride % 4 == 0 &&
                     reinterpret_cast<std::uintptr_t>(data) % sizeof(float4v) == 0;
  const draw_parameters p{data, rows, out, logits.stride, static_cast<std::int32_t>(logits.cols), whole};
  launch("draw", draw_rows, {count, 1, draw_threads, sizeof(draw_room), on}, p);
}

}  // namespace fastserve::kernels::cuda
