#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/elements.cuh"

namespace fastserve::kernels::cuda {
namespace {

constexpr int rotate_threads = 256;

/// Norm and rotation of one head in place, by one warp; a lane turns pairs of its own.
FASTSERVE_DEVICE void turn(float* head, const float* gain, float epsilon, const rotate_job& job,
                           const float* turns) {
  const int lane = thread_index() % warp_lanes;
  float factor = 1.0F;
  if (gain != nullptr) {
    float squares = 0;
    for (int d = lane; d < job.head_dim; d += warp_lanes) squares = fma(head[d], head[d], squares);
    factor = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(job.head_dim) + epsilon);
  }
  const auto normed = [&](int d) { return gain != nullptr ? head[d] * factor * gain[d] : head[d]; };
  const int turned = job.kind == rope_kind::none ? 0 : 2 * job.pairs;
  for (int i = lane; 2 * i < turned; i += warp_lanes) {
    const int a = job.kind == rope_kind::half ? i : 2 * i;
    const int b = job.kind == rope_kind::half ? i + job.pairs : 2 * i + 1;
    const float x = normed(a);
    const float y = normed(b);
    const float cosine = turns[i];
    const float sine = turns[job.pairs + i];
    head[a] = fma(x, cosine, -(y * sine));
    head[b] = fma(y, cosine, x * sine);
  }
  if (gain != nullptr)
    for (int d = turned + lane; d < job.head_dim; d += warp_lanes) head[d] = normed(d);
}

/// One token's key or value of one head into its slot of the store.
FASTSERVE_DEVICE void store(char* half, dtype type, int slot, int dim, const float* from) {
  const int lane = thread_index() % warp_lanes;
  if (type != dtype::i8) {
    for (int d = lane; d < dim; d += warp_lanes) store_element(half, type, slot * dim + d, from[d]);
    return;
  }
  float largest = 0;
  for (int d = lane; d < dim; d += warp_lanes) largest = larger(fabsf(from[d]), largest);
  largest = warp_max(largest);
  const bool number = largest <= 3.4e38F;
  // The smallest numbers have no inverse.
  const float inverse = number && largest > 1e-30F ? 127.0F / largest : 0.0F;
  for (int d = lane; d < dim; d += warp_lanes)
    half[slot * dim + d] = static_cast<char>(number ? round_to_int(from[d] * inverse) : 0);
  if (lane == 0)
    reinterpret_cast<float*>(half + kv_block_tokens * dim)[slot] =
        number ? (inverse > 0.0F ? largest / 127.0F : 0.0F) : largest - largest;
}

constexpr int rotate_heads = rotate_threads / warp_lanes;  // of a block

/// A warp to a head of a row.
__global__ void __launch_bounds__(rotate_threads) rotate_and_store_rows(rotate_job job) {
  wait_for_previous();
  const std::int64_t row = block_x();
  const int dim = job.head_dim;
  float* queries = job.qkv + row * job.stride;
  float* keys = queries + std::int64_t{job.heads} * dim;
  const float* values = keys + std::int64_t{job.kv_heads} * dim;
  const float* turns = job.turns + row * 2 * job.pairs;
  const int position = job.positions[row];
  char* block =
      job.kv.layer + job.blocks[job.row_blocks_at[row] + position / kv_block_tokens] * job.kv.block_bytes;
  const int slot = position % kv_block_tokens;
  const std::int64_t h = block_y() * rotate_heads + thread_index() / warp_lanes;
  if (h < job.heads) {
    turn(queries + h * dim, job.query_gain, job.query_epsilon, job, turns);
  } else if (h < job.heads + job.kv_heads) {
    const std::int64_t head = h - job.heads;
    turn(keys + head * dim, job.key_gain, job.key_epsilon, job, turns);
    sync_warp();
    store(block + 2 * head * job.kv.half_bytes, job.kv.type, slot, dim, keys + head * dim);
  } else if (h < job.heads + 2 * job.kv_heads) {
    const std::int64_t head = h - job.heads - job.kv_heads;
    store(block + (2 * head + 1) * job.kv.half_bytes, job.kv.type, slot, dim, values + head * dim);
  }
}

struct turns_parameters {
  float* turns;
  const std::int32_t* positions;
  const float* inverse_frequency;
  std::int32_t pairs;
  float magnitude;
};

__global__ void __launch_bounds__(rotate_threads) compute_turns(turns_parameters p) {
  wait_for_previous();
  const std::int64_t row = block_x();
  for (int i = thread_index(); i < p.pairs; i += rotate_threads) {
    const float angle = static_cast<float>(p.positions[row]) * p.inverse_frequency[i];
    p.turns[row * 2 * p.pairs + i] = static_cast<float>(cos(static_cast<double>(angle))) * p.magnitude;
    p.turns[row * 2 * p.pairs + p.pairs + i] =
        static_cast<float>(sin(static_cast<double>(angle))) * p.magnitude;
  }
}

}  // namespace

void launch_rotate_and_store(const rotate_job& job, std::int64_t rows, cudaStream_t on) {
  launch(
      "rotate and store", rotate_and_store_rows,
      {rows, (job.heads + 2 * job.kv_heads + rotate_heads - 1) / rotate_heads, rotate_threads, 0, on, true},
      job);
}

void launch_turns(float* turns, const std::int32_t* positions, const float* inverse_frequency,
                  std::int64_t rows, std::int32_t pairs, float magnitude, cudaStream_t on) {
  launch("rotation tables", compute_turns, {rows, 1, rotate_threads, 0, on, true},
         turns_parameters{turns, positions, inverse_frequency, pairs, magnitude});
}

}  // namespace fastserve::kernels::cuda
