#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/backend.hpp"

// Launchers of the ops that go row by row (rows.cu). Matrices are views of device memory.

namespace fastserve::kernels::cuda {

void launch_norm(tensor_view out, tensor_view in, const norm_weights& by, cudaStream_t on);
void launch_activate(tensor_view out, tensor_view in, activation f, bool gated, cudaStream_t on);
/// f32 rows to q8 or f8: codes and scale of every 128 columns (the sums of a record are the host's alone).
void launch_quantize(tensor_view out, tensor_view in, cudaStream_t on);
/// out[r, :] = tokens[ids[r], :] (+ positions[at[r], :] unless null).
void launch_embed(tensor_view out, tensor_view tokens, const std::int32_t* ids, const tensor_view* positions,
                  const std::int32_t* at, cudaStream_t on);
/// out[i, :] = in[rows[i], :], f32.
void launch_gather(tensor_view out, tensor_view in, const std::int32_t* rows, cudaStream_t on);
/// Rows of 16 or 32-bit elements to rows of `columns` of them, zero where `in` ends.
void launch_pad(void* out, std::int64_t columns, tensor_view in, cudaStream_t on);

}  // namespace fastserve::kernels::cuda
