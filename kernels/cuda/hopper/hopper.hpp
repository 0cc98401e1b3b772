#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/linear.hpp"

// Kernels that only a Hopper GPU runs (compute capability 9.0). Elsewhere, and for what they do not take,
// there are the others. Attention gives their bits, and so do W8A8 products. Other products do not, whose k
// stands in another order: a back end has one kind of weights or the other.

namespace fastserve::kernels::cuda::hopper {

/// Whether the device `ordinal` runs them. FASTSERVE_CUDA_HOPPER=0 in the environment says no.
bool runs_on(int ordinal);

/// Device memory that a product wants besides its operands.
struct product_scratch {
  std::int64_t arrivals = 0;      ///< numbers, zero before and after
  std::int64_t partial_sums = 0;  ///< floats
  std::int64_t opened = 0;        ///< bytes
};
product_scratch scratch_of(const product& p, int multiprocessors);
/// Of any product: panels are shared only where the device has more multiprocessors than half of them.
constexpr std::size_t most_arrivals(int multiprocessors) {
  return 2 * static_cast<std::size_t>(multiprocessors);
}

/// Whether launch_product takes a row that is still to be normed: of f32, with `gain`, aligned to 16 bytes.
bool norms(weight_form form, std::int64_t rows, std::int64_t cols);
/// Products by weights in panels (weight_section::panels), with their scratch.
void launch_product(const product& p, int multiprocessors, cudaStream_t on);

/// Pairs of a task of attention over a prompt's chunk.
inline constexpr int prompt_pairs = 128;
/// Whether launch_attention takes stores of this type and heads of this size.
constexpr bool attends(dtype type, int head_dim) {
  return (type == dtype::bf16 || type == dtype::f16) && head_dim % 8 == 0 && head_dim <= 128;
}
/// Attention of tasks of up to prompt_pairs that are not to be merged. `blocks`: of the store.
void launch_attention(const attention_job& job, std::int64_t tasks, std::int64_t blocks, cudaStream_t on);

}  // namespace fastserve::kernels::cuda::hopper
