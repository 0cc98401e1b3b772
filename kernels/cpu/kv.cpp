#include "kernels/cpu/kv.hpp"

#include <cstring>
#include <new>
#include <stdexcept>

#include "kernels/cpu/backend.hpp"

namespace fastserve::kernels::cpu {
namespace {

const host_kv_store& host(const kv_store& kv) {
  assert(dynamic_cast<const host_kv_store*>(&kv) != nullptr);
  return static_cast<const host_kv_store&>(kv);
}

}  // namespace

std::unique_ptr<kv_store> cpu_backend::make_kv_store(const kv_shape& shape) {
  if (shape.layers < 0 || shape.blocks < 0 || shape.kv_heads <= 0 || shape.head_dim <= 0 ||
      shape.type == dtype::i32) {
    throw std::invalid_argument("KV store of an impossible shape");
  }
  std::size_t bytes = kv_vector_bytes(shape.head_dim, shape.type) * 2 * kv_block_tokens;
  for (const auto factor : {shape.layers, shape.blocks, shape.kv_heads}) {
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(factor), &bytes)) throw std::bad_alloc{};
  }
  return std::make_unique<host_kv_store>(shape);
}

void cpu_backend::copy_block(kv_store& kv, std::int32_t to, std::int32_t from, stream&) {
  const auto& store = host(kv);
  if (to == from) return;
  for (std::int32_t l = 0; l < kv.shape().layers; ++l) {
    std::memcpy(store.block(l, to), store.block(l, from), store.layer_block_bytes());
  }
}

void cpu_backend::read_block(void* to, const kv_store& kv, std::int32_t block, stream&) {
  const auto& store = host(kv);
  for (std::int32_t l = 0; l < kv.shape().layers; ++l) {
    std::memcpy(static_cast<char*>(to) + static_cast<std::size_t>(l) * store.layer_block_bytes(),
                store.block(l, block), store.layer_block_bytes());
  }
}

void cpu_backend::write_block(kv_store& kv, std::int32_t block, const void* from, stream&) {
  const auto& store = host(kv);
  for (std::int32_t l = 0; l < kv.shape().layers; ++l) {
    std::memcpy(store.block(l, block),
                static_cast<const char*>(from) + static_cast<std::size_t>(l) * store.layer_block_bytes(),
                store.layer_block_bytes());
  }
}

}  // namespace fastserve::kernels::cpu
