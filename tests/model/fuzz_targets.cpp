#include "fuzz_targets.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

#include "../support/temporary_folder.hpp"
#include "model/architecture.hpp"
#include "model/gguf.hpp"
#include "model/model_folder.hpp"
#include "model/pack_file.hpp"
#include "model/safetensors.hpp"
#include "model/safetensors_source.hpp"
#include "model/text.hpp"

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

void check_bounds(const architecture& a) {
  demand(a.layers >= 1 && a.layers <= 4096 && a.hidden_size >= 1 && a.vocab_size >= 1, "sizes are bounded");
  demand(a.heads >= 1 && a.kv_heads >= 1 && a.heads % a.kv_heads == 0 && a.head_dim >= 1, "heads fit");
  demand(a.window.size() == static_cast<std::size_t>(a.layers), "a window a layer");
  demand(a.max_positions >= 1, "positions");
  demand(a.parameters() > 0, "parameters fit 64 bits");
  for (const auto id : a.eos_ids) demand(id >= 0 && id < a.vocab_size, "ids are in the vocabulary");
  demand(a.bos_id < a.vocab_size, "ids are in the vocabulary");
  if (!a.learned_positions) {
    demand(a.rope.inverse_frequency.size() == static_cast<std::size_t>(a.head_dim) / 2, "a frequency a pair");
    for (const auto f : a.rope.inverse_frequency)
      demand(std::isfinite(f) && f >= 0.0F, "frequencies are finite");
    demand(std::isfinite(a.rope.magnitude) && a.rope.magnitude > 0.0F, "the magnitude is finite");
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

bool fuzz_gguf(std::span<const std::uint8_t> bytes) {
  return accepted([&] {
    const auto header = parse_gguf_header(std::as_bytes(bytes), "fuzz");
    std::size_t covered = 0;
    for (const auto& t : header.tensors) {
      demand(t.begin >= 24 && t.begin < t.end && t.end <= bytes.size(), "tensors lie inside the file");
      covered += t.end - t.begin;
      std::size_t elements = 1;
      for (const auto dim : t.shape) elements *= static_cast<std::size_t>(dim);
      demand(elements / t.type->elements * t.type->bytes == t.end - t.begin,
             "a tensor's bytes are its shape's");
    }
    demand(covered <= bytes.size(), "tensors do not overlap");
    for (const auto& v : header.metadata.values()) {
      try {
        header.metadata.texts(v.key);
      } catch (const std::runtime_error&) {
      }
      try {
        header.metadata.number(v.key, -1e300, 1e300);
      } catch (const std::runtime_error&) {
      }
    }
  });
}

bool fuzz_gguf_model(std::span<const std::uint8_t> bytes) {
  static const temporary_folder folder;
  const auto file = folder.path() / "fuzz.gguf";
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return accepted([&] {
    model_folder model(file);
    const auto& a = model.arch();
    check_bounds(a);
    if (a.layers < 100) model.describe();
    for (const auto& t : model.weights().all_tensors())
      if (model.weights().has(t.name)) {
        const auto tensor = model.weights().tensor(t.name);
        demand(tensor.data != nullptr && reinterpret_cast<std::uintptr_t>(tensor.data) % 4 == 0,
               "data is aligned");
        model.weights().release(t.name);
      }
    std::unique_ptr<tokenizer> tokens;
    try {
      tokens = open_tokenizer(file);
    } catch (const std::runtime_error& e) {
      throw std::runtime_error(in_quotes(e.what(), 1000));  // names of tokens are UTF-8
    }
    if (tokens)
      demand(tokens->decode(tokens->encode("Once upon a time, 12 \xC3\xA9!", true), true).size() < 1000,
             "text");
  });
}

bool fuzz_config(std::span<const std::uint8_t> bytes) {
  return accepted([&] {
    const auto a = parse_architecture(text_of(bytes), "fuzz");
    check_bounds(a);
  });
}

bool fuzz_pack_header(std::span<const std::uint8_t> bytes) {
  return accepted([&] {
    const auto file = std::as_bytes(bytes);
    const auto head = pack_head_bytes(file.first(std::min(file.size(), pack_fixed_bytes)), file.size());
    demand(head <= file.size(), "the head is in the file");
    const auto header = parse_pack_header(file.first(head), file.size());
    demand(header.payload_begin + header.payload_bytes == file.size(), "the payload fills the file");
    demand(header.hashes.size() == pack_parts(header.payload_bytes), "every part has a hash");
  });
}

}  // namespace fastserve::model::test
