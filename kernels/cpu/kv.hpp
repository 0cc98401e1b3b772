#pragma once

#include "kernels/backend.hpp"
#include "kernels/cpu/memory.hpp"

namespace fastserve::kernels::cpu {

/// [layer][block][kv head][keys, values]: one block of one layer is one piece of memory. Keys lie
/// [head_dim][16 tokens], values [16 tokens][head_dim]; behind either, where the type is i8, lie the scales
/// of the 16 tokens. Some instruction sets have bf16 in pairs: isa/attention_pairs.hpp.
class host_kv_store final : public kv_store {
 public:
  explicit host_kv_store(const kv_shape& shape)
      : kv_store{shape},
        memory_{allocate_memory(shape.block_bytes() * static_cast<std::size_t>(shape.blocks))} {}

  /// Keys (or values) of one KV head in one block.
  std::size_t half_bytes() const { return kv_vector_bytes(shape().head_dim, shape().type) * kv_block_tokens; }
  /// One block of one layer.
  std::size_t layer_block_bytes() const {
    return 2 * half_bytes() * static_cast<std::size_t>(shape().kv_heads);
  }
  char* block(std::int32_t layer, std::int32_t block) const {
    assert(layer >= 0 && layer < shape().layers && block >= 0 && block < shape().blocks);
    const auto index = static_cast<std::size_t>(layer) * static_cast<std::size_t>(shape().blocks) +
                       static_cast<std::size_t>(block);
    return static_cast<char*>(memory_.data()) + index * layer_block_bytes();
  }
  char* keys(std::int32_t layer, std::int32_t block, std::int32_t head) const {
    return this->block(layer, block) + static_cast<std::size_t>(head) * 2 * half_bytes();
  }
  char* values(std::int32_t layer, std::int32_t block, std::int32_t head) const {
    return keys(layer, block, head) + half_bytes();
  }

 private:
  buffer memory_;
};

}  // namespace fastserve::kernels::cpu
