#pragma once

#include "kernels/cuda/attention_pairs.cuh"

// Flash attention over pages on tensor cores for sequences of few rows: all pairs of a KV head fit one tile,
// so four warps share the tokens instead. Of a chunk, warp w fetches the w-th page of keys and of values and
// scores the page's 16 tokens; maxima, weights and parts of the denominator go through shared memory; then it
// adds all 64 values to its quarter of the head's elements. Every chain is the one of attention_mma.cuh.
//
// What counts is bytes in flight: keys and values have a ring of buffers each, filled two chunks ahead, and a
// block is small enough for three of them to a multiprocessor. A warp's page of keys is its own from end to
// end; two barriers a chunk order the rest.

namespace fastserve::kernels::cuda {

/// T, Bytes: as of attention_block. Whole: head_dim is D.
template <class T, bool Bytes, int D, bool Whole>
class decode_block : pair_tile {
 public:
  static constexpr int warps = chunk_tokens / kv_block_tokens;
  /// Chunks in shared memory. Bytes, which come by way of registers, reach their buffer a chunk before use.
  static constexpr int stages = Bytes || D <= 128 ? 2 : 1;
  static constexpr int stride = D + 8;                     // as of attention_block
  static constexpr int weights_stride = chunk_tokens + 8;  // of a pair
  static constexpr int buffer = chunk_tokens * stride;     // keys, or values, of a chunk
  static constexpr std::size_t shared_bytes =
      (std::size_t{2} * stages * buffer + warp_pairs * weights_stride) * sizeof(std::uint16_t) +
      (2 * stages * chunk_tokens + 2 * warps * warp_lanes + warps * warp_pairs) * sizeof(float);

  FASTSERVE_DEVICE decode_block(const attention_job& job, const attention_task& task, std::int64_t head)
      : pair_tile{job, task, head, 0},
        lane_{thread_index() % warp_lanes},
        warp_{thread_index() / warp_lanes} {
    buffers_ = static_cast<std::uint16_t*>(shared_memory());
    weights_ = buffers_ + 2 * stages * buffer;
    scales_ = reinterpret_cast<float*>(weights_ + warp_pairs * weights_stride);
    totals_ = scales_ + 2 * stages * chunk_tokens;
    maxima_ = totals_ + 2 * warps * warp_lanes;
  }

  FASTSERVE_DEVICE void run() {
    int first, last;
    find_chunks(first, last);
    softmax_state<D / warps> state;
    softmax_state<D / warps> whole;
    clear(state);
    clear(whole);
    std::int32_t page = 0;  // whose keys have been asked for, but not the values
    if (first < last) {
#pragma unroll
      for (int i = 0; i < stages; ++i) {
        const bool left = first + i < last;
        page = next_page(first);
        if (left) fetch(false, first + i, page);
        copy_async_commit();
        if (left) fetch(true, first + i, page);
        copy_async_commit();
        if (left) land(false, first + i);
        if (left) land(true, first + i);
      }
      load_queries<T, D>(query_);
      if (dim() % 16 != 0) {
        clear_margins();
        sync_block();
      }
    }
    bool merging = false;
    for (int chunk = first; chunk < last; ++chunk) {
      if (chunk == first) {
        copy_async_wait<2 * stages - 1>();
      } else {
        copy_async_wait<2 * stages - 2>();
      }
      sync_warp();  // the warp's keys are there
      float scores[2][4];
      multiply_keys(scores, chunk);
      propose_maxima(state, scores, chunk);
      sync_block();  // maxima are there; all are done with the last chunk's values and weights
      const int values_chunk = chunk - 1 + stages;
      const int keys_chunk = chunk + stages;
      const bool values_left = chunk > first && values_chunk < last;  // the first ones are on their way
      const bool keys_left = keys_chunk < last;
      if (values_left) fetch(true, values_chunk, page);
      if (chunk > first) copy_async_commit();
      page = next_page(first);
      if (keys_left) fetch(false, keys_chunk, page);
      copy_async_commit();
      float factor[2];
      weigh(state, factor, scores, chunk);
      copy_async_wait<2 * stages - 1>();
      sync_block();  // weights and values are there
      add_totals(state, factor);
      add_values(state, chunk);
      if (values_left) land(true, values_chunk);
      if (keys_left) land(false, keys_chunk);
      if ((chunk + 1) % (segment_tokens / chunk_tokens) != 0 && chunk + 1 < last) continue;
      close_segment(whole, state, merging);
    }
    copy_async_wait<0>();
    const int first_dim = warp_ * (D / warps);
    if (task_.state >= 0) {
      keep(whole, first_dim);
    } else {
      finish(whole, first_dim);
    }
  }

 private:
  // A warp fetches a page by rows: a token's lanes have eight elements each.
  static constexpr int token_lanes = D / 8;
  static constexpr int tokens_at_once = warp_lanes / token_lanes;
  static constexpr int pieces = kv_block_tokens / tokens_at_once;
  struct alignas(8) eight_bytes {
    std::uint32_t x[2];
  };
  /// A page of bytes on its way to shared memory.
  struct byte_page {
    eight_bytes piece[pieces];
    float scale;
  };

  FASTSERVE_DEVICE int dim() const { return Whole ? D : job_.head_dim; }
  FASTSERVE_DEVICE std::uint16_t* buffer_of(bool values, int chunk) const {
    return buffers_ + (chunk % stages * 2 + (values ? 1 : 0)) * buffer;
  }
  /// Of 64 tokens.
  FASTSERVE_DEVICE float* scales_of(bool values, int chunk) const {
    return scales_ + (chunk % stages * 2 + (values ? 1 : 0)) * chunk_tokens;
  }
  FASTSERVE_DEVICE bool sees(int token) const { return token >= all_.first && token <= all_.last; }

  /// The warp's page of the next chunk, from the first of all on; of those that nobody sees, one that
  /// somebody does. Lanes look up 32 chunks in one load.
  FASTSERVE_DEVICE std::int32_t next_page(int first) {
    const int lane = asked_ % warp_lanes;
    if (lane == 0) {
      int at = (first + asked_ + lane_) * warps + warp_;
      if (at < all_.first / kv_block_tokens) at = all_.first / kv_block_tokens;
      if (at > all_.last / kv_block_tokens) at = all_.last / kv_block_tokens;
      pages_ = blocks_[at];
    }
    ++asked_;
    return static_cast<std::int32_t>(from_lane(static_cast<std::uint32_t>(pages_), lane));
  }

  /// Columns of the last step beyond head_dim: nothing else writes them.
  FASTSERVE_DEVICE void clear_margins() {
    const int margin = 16 * steps_ - job_.head_dim;
    for (int i = thread_index(); i < 2 * stages * chunk_tokens * margin; i += warps * warp_lanes)
      buffers_[i / margin * stride + job_.head_dim + i % margin] = 0;
  }

  /// The warp's page of keys or values on its way to shared memory; tokens that no pair sees are zero and not
  /// read.
  FASTSERVE_DEVICE void fetch(bool values, int chunk, std::int32_t page) {
    const int dim = this->dim();
    const char* from =
        job_.kv.layer + page * job_.kv.block_bytes + (2 * head_ + (values ? 1 : 0)) * job_.kv.half_bytes;
    const int first = chunk * chunk_tokens + warp_ * kv_block_tokens;
    if (!Whole && dim % 8 != 0) return copy_elements(values, chunk, from);
    const int row = lane_ / token_lanes;
    const int column = lane_ % token_lanes * 8;
    const bool there = column < dim;
    from += (row * dim + column) * (Bytes ? 1 : 2);
    if constexpr (Bytes) {
      auto& page_bytes = arriving_[values ? 1 : 0];
#pragma unroll
      for (int i = 0; i < pieces; ++i) {
        page_bytes.piece[i] = {};
        if (there && sees(first + row + i * tokens_at_once))
          page_bytes.piece[i] = *reinterpret_cast<const eight_bytes*>(from + i * tokens_at_once * dim);
      }
      page_bytes.scale = 0.0F;
      if (lane_ < kv_block_tokens && sees(first + lane_))
        page_bytes.scale =
            reinterpret_cast<const float*>(from - (row * dim + column) + kv_block_tokens * dim)[lane_];
    } else {
      std::uint16_t* to = buffer_of(values, chunk) + (warp_ * kv_block_tokens + row) * stride + column;
      if (!there) return;
#pragma unroll
      for (int i = 0; i < pieces; ++i)
        copy_async(to + i * tokens_at_once * stride, from + i * tokens_at_once * dim * 2,
                   sees(first + row + i * tokens_at_once));
    }
  }

  /// What fetch() left in registers goes to shared memory, widened.
  FASTSERVE_DEVICE void land(bool values, int chunk) {
    if constexpr (Bytes) {
      if (dim() % 8 != 0) return;
      const auto& page_bytes = arriving_[values ? 1 : 0];
      const int row = lane_ / token_lanes;
      const int column = lane_ % token_lanes * 8;
      std::uint16_t* to = buffer_of(values, chunk) + (warp_ * kv_block_tokens + row) * stride + column;
      if (column < dim()) {
#pragma unroll
        for (int i = 0; i < pieces; ++i) {
          vec4 wide;
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const std::uint32_t two = page_bytes.piece[i].x[j / 2] >> (16 * (j % 2));
            wide.x[j] = pack2<T>(static_cast<float>(static_cast<signed char>(two)),
                                 static_cast<float>(static_cast<signed char>(two >> 8)));
          }
          *reinterpret_cast<vec4*>(to + i * tokens_at_once * stride) = wide;
        }
      }
      if (lane_ < kv_block_tokens)
        scales_of(values, chunk)[warp_ * kv_block_tokens + lane_] = page_bytes.scale;
    }
  }

  /// Heads of odd sizes: all at once, element by element.
  FASTSERVE_DEVICE void copy_elements(bool values, int chunk, const char* from) {
    const int dim = this->dim();
    const int first = chunk * chunk_tokens + warp_ * kv_block_tokens;
    std::uint16_t* to = buffer_of(values, chunk) + warp_ * kv_block_tokens * stride;
    for (int i = lane_; i < kv_block_tokens * dim; i += warp_lanes) {
      std::uint16_t x = 0;
      if (sees(first + i / dim)) {
        if constexpr (Bytes) {
          x = rounded_to<T>(static_cast<float>(reinterpret_cast<const signed char*>(from)[i])).bits;
        } else {
          x = reinterpret_cast<const std::uint16_t*>(from)[i];
        }
      }
      to[i / dim * stride + i % dim] = x;
    }
    if constexpr (Bytes) {
      if (lane_ < kv_block_tokens)
        scales_of(values, chunk)[warp_ * kv_block_tokens + lane_] =
            sees(first + lane_) ? reinterpret_cast<const float*>(from + kv_block_tokens * dim)[lane_] : 0.0F;
    }
  }

  FASTSERVE_DEVICE void multiply_keys(float (&scores)[2][4], int chunk) const {
    const int matrix = lane_ / 8;
    const std::uint16_t* keys = buffer_of(false, chunk) +
                                (warp_ * kv_block_tokens + 8 * (matrix / 2) + lane_ % 8) * stride +
                                8 * (matrix % 2);
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[j][i] = 0.0F;
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      if (!Whole && step >= steps_) break;
      std::uint32_t b[4];  // the first eight tokens: low and high half of the step, then the others
      load_matrices<false>(b, keys + 16 * step);
      mma<T>(scores[0], query_[step], b[0], b[1]);
      mma<T>(scores[1], query_[step], b[2], b[3]);
    }
  }

  /// Of what is not seen minus infinity; the warp's maxima to shared memory.
  FASTSERVE_DEVICE void propose_maxima(const softmax_state<D / warps>& s, float (&scores)[2][4], int chunk) {
    float largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = warp_ * kv_block_tokens + 8 * j + 2 * (lane_ % 4) + i % 2;
        const int token = chunk * chunk_tokens + at;
        const bool seen = token >= sees_[i / 2].first && token <= sees_[i / 2].last;
        float x = scores[j][i];
        if constexpr (Bytes) x *= scales_of(false, chunk)[at];
        scores[j][i] = x = seen ? x : -INFINITY;
        largest[i / 2] = fmaxf(largest[i / 2], x);
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      for (int mask = 1; mask < 4; mask *= 2) largest[h] = fmaxf(largest[h], shuffle_xor(largest[h], mask));
      if (lane_ % 4 == 0)
        maxima_[warp_ * warp_pairs + lane_ / 4 + 8 * h] = fmaxf(s.maximum[h], largest[h] * exponent_scale());
    }
  }

  /// Weights and the warp's part of their sum to shared memory; the state's sums to the new maximum.
  FASTSERVE_DEVICE void weigh(softmax_state<D / warps>& s, float (&factor)[2], float (&scores)[2][4],
                              int chunk) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float* maxima = maxima_ + lane_ / 4 + 8 * h;
      float best = maxima[0];
#pragma unroll
      for (int w = 1; w < warps; ++w) {
        const float other = maxima[w * warp_pairs];
        best = best > other ? best : other;
      }
      factor[h] = exp2_fast(s.maximum[h] - best);
      s.maximum[h] = best;
    }
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[j][i] = weight_of(scores[j][i], exponent_scale(), s.maximum[i / 2]);
#pragma unroll
    for (int h = 0; h < 2; ++h)
      totals_[(warp_ * 2 + h) * warp_lanes + lane_] = lane_total(scores[0], scores[1], h);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int at = warp_ * kv_block_tokens + 8 * j + 2 * (lane_ % 4);
      if constexpr (Bytes) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[j][i] *= scales_of(true, chunk)[at + i % 2];
      }
#pragma unroll
      for (int h = 0; h < 2; ++h)
        *reinterpret_cast<std::uint32_t*>(weights_ + (lane_ / 4 + 8 * h) * weights_stride + at) =
            pack2<T>(scores[j][2 * h], scores[j][2 * h + 1]);
    }
#pragma unroll
    for (int j = 0; j < D / warps / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) s.sums[j][i] *= factor[i / 2];
  }

  FASTSERVE_DEVICE void add_totals(softmax_state<D / warps>& s, const float (&factor)[2]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float total = totals_[h * warp_lanes + lane_];
#pragma unroll
      for (int w = 1; w < warps; ++w) total += totals_[(w * 2 + h) * warp_lanes + lane_];
      for (int mask = 1; mask < 4; mask *= 2) total += shuffle_xor(total, mask);
      s.total[h] = fma(s.total[h], factor[h], total);
    }
  }

  FASTSERVE_DEVICE void add_values(softmax_state<D / warps>& s, int chunk) const {
    const int matrix = lane_ / 8;
    const std::uint16_t* weights =
        weights_ + (8 * (matrix % 2) + lane_ % 8) * weights_stride + 8 * (matrix / 2);
    const std::uint16_t* values = buffer_of(true, chunk) + (8 * (matrix % 2) + lane_ % 8) * stride +
                                  warp_ * (D / warps) + 8 * (matrix / 2);
#pragma unroll
    for (int step = 0; step < warps; ++step) {
      std::uint32_t a[4];
      load_matrices<false>(a, weights + 16 * step);
#pragma unroll
      for (int j = 0; j < D / warps / 16; ++j) {
        if (!Whole && warp_ * (D / warps / 16) + j >= steps_) break;
        std::uint32_t b[4];  // 16 columns, as of attention_block
        load_matrices<true>(b, values + 16 * step * stride + 16 * j);
        mma<T>(s.sums[2 * j], a, b[0], b[1]);
        mma<T>(s.sums[2 * j + 1], a, b[2], b[3]);
      }
    }
  }

  int lane_;
  int warp_;
  std::uint16_t* buffers_;  ///< [stage][keys, values][64][stride]
  std::uint16_t* weights_;  ///< [16][weights_stride]
  float* scales_;           ///< [stage][keys, values][64]
  float* totals_;           ///< [warp][h][lane]
  float* maxima_;           ///< [warp][16]
  std::int32_t pages_ = 0;  ///< lanes' share of next_page()
  int asked_ = 0;
  std::uint32_t query_[D / 16][4];
  byte_page arriving_[Bytes ? 2 : 1];
};

template <class T, bool Bytes, int D, bool Whole>
__global__ void __launch_bounds__(decode_block<T, Bytes, D, Whole>::warps* warp_lanes, D <= 128 ? 3 : 1)
    attend_few(attention_job job) {
  wait_for_previous();
  const attention_task task = load_task(job.tasks + block_x());
  if (task.pairs == 0) return;  // of a recorded step, which has room for more
  decode_block<T, Bytes, D, Whole> block{job, task, block_y()};
  block.run();
}

template <class T, bool Bytes, int D>
void launch_decode(const attention_job& job, std::int64_t tasks, cudaStream_t on) {
  using block = decode_block<T, Bytes, D, true>;
  launch("attention, few rows",
         job.head_dim == D ? attend_few<T, Bytes, D, true> : attend_few<T, Bytes, D, false>,
         {tasks, job.kv_heads, block::warps * warp_lanes, block::shared_bytes, on, true}, job);
}

}  // namespace fastserve::kernels::cuda
