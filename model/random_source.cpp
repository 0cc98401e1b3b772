#include "model/random_source.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "model/text.hpp"

namespace fastserve::model {
namespace {

constexpr std::size_t block_values = (std::size_t{1} << 20) - 3;

/// FNV-1a: std::hash is free to differ between libraries.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325U;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return h;
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
std::uint64_t mix(std::uint64_t& state) {
  auto z = state += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

/// Uniform in [-limit, limit).
std::vector<float> uniform(std::string_view name, std::size_t count, float limit) {
  std::vector<float> out(count);
  auto state = hash_of(name);
  for (auto& x : out) x = static_cast<float>(static_cast<std::int64_t>(mix(state)) >> 40) * 0x1p-23F * limit;
  return out;
}

}  // namespace

random_source::random_source(const architecture& arch, kernels::dtype type) : type_{type} {
  for (auto& spec : tensors_of(arch, whole_range(arch), names_of(arch.model_type).prefix)) {
    auto name = spec.name;
    specs_.emplace(std::move(name), std::move(spec));
  }
}

const tensor_spec& random_source::spec_of(std::string_view name) const {
  const auto it = specs_.find(name);
  if (it == specs_.end())
    throw std::runtime_error(where(name) + ": tensor " + in_quotes(name) + " is missing");
  return it->second;
}

host_tensor random_source::describe(std::string_view name) { return {nullptr, type_, spec_of(name).shape}; }

std::string random_source::fingerprint(std::string_view name) {
  const auto about = describe(name);
  return "random 1 " + std::string(name) + ' ' + std::string(kernels::name_of(about.type)) + ' ' +
         shape_text(about.shape);
}

host_tensor random_source::tensor(std::string_view name) {
  const auto& spec = spec_of(name);
  auto& [bytes, users] = made_[spec.name];
  ++users;
  if (bytes.empty()) {
    const auto total = static_cast<std::size_t>(spec.elements());
    const auto width = kernels::size_of(type_);
    std::vector<float> values;
    if (spec.vector) {
      values.assign(total, spec.gain ? 1.0F : 0.0F);
    } else {
      const auto columns = static_cast<float>(spec.shape.back());
      values = uniform(name, std::min(total, block_values), std::sqrt(3.0F / columns));
    }
    bytes.resize(total * width);
    kernels::from_f32(bytes.data(), type_, values.data(), values.size());
    for (auto done = values.size(); done < total; done += values.size())
      std::memcpy(bytes.data() + done * width, bytes.data(), std::min(values.size(), total - done) * width);
  }
  return {bytes.data(), type_, spec.shape};
}

void random_source::release(std::string_view name) {
  if (const auto it = made_.find(name); it != made_.end() && --it->second.users == 0) made_.erase(it);
}

}  // namespace fastserve::model
