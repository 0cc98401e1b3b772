#include "fuzz_targets.hpp"

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

#include "model/architecture.hpp"
#include "model/safetensors.hpp"
#include "model/safetensors_source.hpp"

namespace fastserve::model::test {
namespace {

void demand(bool condition, const char* what) {
  if (condition) return;
  std::cerr << "fuzz: broken promise: " << what << "\n";
  std::abort();
}

template <class F>
bool accepted(F&& parse) {
  try {
    parse();
    return true;
  } catch (const std::runtime_error& e) {
    const std::string text = e.what();
    demand(!text.empty() && text.size() < 2000, "an error is one short line");
    for (const char c : text) demand(c >= ' ' && c <= '~', "an error is plain text");
    return false;
  }
}

std::string_view text_of(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

bool fuzz_safetensors(std::span<const std::uint8_t> bytes) {
  return accepted([&] {
    std::size_t covered = 0;
    for (const auto& e : parse_safetensors_header(std::as_bytes(bytes), "fuzz")) {
      demand(e.begin >= 10 && e.begin <= e.end && e.end <= bytes.size(), "tensors lie inside the file");
      covered += e.end - e.begin;
      if (!e.type) continue;
      std::size_t size = kernels::size_of(*e.type);
      for (const auto dim : e.shape) size *= static_cast<std::size_t>(dim);
      demand(size == e.end - e.begin, "a tensor's bytes are its shape's");
    }
    std::size_t header = 8;
    for (std::size_t i = 8; i-- > 0;) header += static_cast<std::size_t>(bytes[i]) << (8 * i);
    demand(header + covered == bytes.size(), "tensors fill the data");
  });
}

bool fuzz_shard_index(std::span<const std::uint8_t> bytes) {
  return accepted([&] {
    for (const auto& [tensor, shard] : parse_shard_index(text_of(bytes), "fuzz"))
      demand(!shard.empty() && shard != ".." && shard.find('/') == shard.npos, "shards stay in their folder");
  });
}

bool fuzz_config(std::span<const std::uint8_t> bytes) {
  return accepted([&] {
    const auto a = parse_architecture(text_of(bytes), "fuzz");
    demand(a.layers >= 1 && a.layers <= 4096 && a.hidden_size >= 1 && a.vocab_size >= 1, "sizes are bounded");
    demand(a.heads >= 1 && a.kv_heads >= 1 && a.heads % a.kv_heads == 0 && a.head_dim >= 1, "heads fit");
    demand(a.window.size() == static_cast<std::size_t>(a.layers), "a window a layer");
    demand(a.max_positions >= 1, "positions");
    demand(a.parameters() > 0, "parameters fit 64 bits");
    for (const auto id : a.eos_ids) demand(id >= 0 && id < a.vocab_size, "ids are in the vocabulary");
    demand(a.bos_id < a.vocab_size, "ids are in the vocabulary");
    if (!a.learned_positions) {
      demand(a.rope.inverse_frequency.size() == static_cast<std::size_t>(a.head_dim) / 2,
             "a frequency a pair");
      for (const auto f : a.rope.inverse_frequency)
        demand(std::isfinite(f) && f >= 0.0F, "frequencies are finite");
      demand(std::isfinite(a.rope.magnitude) && a.rope.magnitude > 0.0F, "the magnitude is finite");
    }
  });
}

}  // namespace fastserve::model::test
