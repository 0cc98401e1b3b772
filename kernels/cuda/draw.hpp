#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/backend.hpp"

namespace fastserve::kernels::cuda {

/// out[i] = the token that rows[i] asks for. `rows` and `out`: device memory, [count].
void launch_draw(drawn_row* out, const draw_row* rows, std::int64_t count, tensor_view logits,
                 cudaStream_t on);
/// ids[r], where it is below 0, becomes drawn[~ids[r]].token. ids: device memory, [rows].
void launch_take_drawn(std::int32_t* ids, std::int64_t rows, const drawn_row* drawn, cudaStream_t on);

}  // namespace fastserve::kernels::cuda
