#pragma once

#include "kernels/backend.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/memory.hpp"

namespace fastserve::kernels::cuda {

/// [block][layer][kv head][keys, values] (kv_layout): a block over all layers is one piece, so that copying
/// and swapping it is one transfer.
class device_kv_store final : public kv_store {
 public:
  device_kv_store(const kv_shape& shape, int ordinal)
      : kv_store{shape},
        memory_{allocate_device(shape.block_bytes() * static_cast<std::size_t>(shape.blocks), ordinal)} {}

  char* block(std::int32_t block) const {
    assert(block >= 0 && block < shape().blocks);
    return static_cast<char*>(memory_.data()) + shape().block_bytes() * static_cast<std::size_t>(block);
  }
  kv_layout layer(std::int32_t layer) const {
    assert(layer >= 0 && layer < shape().layers);
    kv_layout out;
    out.half_bytes =
        static_cast<std::int64_t>(kv_vector_bytes(shape().head_dim, shape().type)) * kv_block_tokens;
    out.layer = static_cast<char*>(memory_.data()) + 2 * out.half_bytes * shape().kv_heads * layer;
    out.block_bytes = static_cast<std::int64_t>(shape().block_bytes());
    out.type = shape().type;
    return out;
  }

 private:
  buffer memory_;
};

}  // namespace fastserve::kernels::cuda
