#pragma once

#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include "kernels/backend.hpp"

namespace fastserve::tests {

/// A device whose memory the host cannot reach: its addresses are not addresses. Code that follows a tensor's
/// pointer in place of asking the back end crashes. Memory functions only; nothing is computed.
class far_backend final : public kernels::backend {
 public:
  kernels::device_info info() const override { return {where(), "far away", 0, 1}; }
  std::unique_ptr<kernels::stream> make_stream() override {
    struct no_wait final : kernels::stream {
      void synchronize() override {}
    };
    return std::make_unique<no_wait>();
  }
  kernels::buffer allocate(std::size_t bytes) override {
    auto* data = new std::byte[bytes + 1]();
    return {far(data), bytes, where(), [](void* p, std::size_t, kernels::device) { delete[] near(p); }};
  }
  kernels::buffer allocate_host(std::size_t) override { no(); }
  void upload(kernels::tensor_view to, const void* from, kernels::stream&) override {
    if (to.bytes() != 0) std::memcpy(near(to.data), from, to.bytes());
  }
  void download(void* to, kernels::tensor_view from, kernels::stream&) override {
    if (from.bytes() != 0) std::memcpy(to, near(from.data), from.bytes());
  }
  /// Pinned host memory of the view's own, as a GPU's back end would have.
  const void* host_read(kernels::tensor_view from, kernels::stream&) override {
    const std::lock_guard lock{mutex_};
    auto& host = staging_[from.data];
    host.resize(from.bytes() + 1);
    std::memcpy(host.data(), near(from.data), from.bytes());
    return host.data();
  }
  void copy(kernels::tensor_view to, kernels::tensor_view from, kernels::stream&) override {
    std::memcpy(near(to.data), near(from.data), to.bytes());
  }

  std::unique_ptr<kernels::weight> pack(std::span<const kernels::host_matrix>, kernels::dtype) override {
    return no();
  }
  std::unique_ptr<kernels::weight> pack_quantized(std::span<const kernels::quantized_matrix>) override {
    return no();
  }
  std::unique_ptr<kernels::weight> quantize(std::span<const kernels::host_matrix>,
                                            const kernels::quantized_format&) override {
    return no();
  }
  std::unique_ptr<kernels::weight> table(const kernels::host_matrix&) override { return no(); }
  std::unique_ptr<kernels::kv_store> make_kv_store(const kernels::kv_shape&) override { return no(); }
  void copy_block(kernels::kv_store&, std::int32_t, std::int32_t, kernels::stream&) override { no(); }
  void read_block(void*, const kernels::kv_store&, std::int32_t, kernels::stream&) override { no(); }
  void write_block(kernels::kv_store&, std::int32_t, const void*, kernels::stream&) override { no(); }
  std::unique_ptr<kernels::step_plan> plan_step(const kernels::step_layout&, const kernels::rope_table&,
                                                const kernels::attention_shape&, kernels::stream&) override {
    return no();
  }
  void embed(kernels::tensor_view, const kernels::weight&, const kernels::weight*, const kernels::step_plan&,
             kernels::stream&) override {
    no();
  }
  void norm(kernels::tensor_view, kernels::tensor_view, const kernels::norm_weights&,
            kernels::stream&) override {
    no();
  }
  void linear(kernels::tensor_view, kernels::tensor_view, const kernels::weight&, kernels::tensor_view, bool,
              kernels::stream&) override {
    no();
  }
  void rotate_and_store(kernels::tensor_view, const kernels::norm_weights*, const kernels::norm_weights*,
                        kernels::kv_store&, std::int32_t, const kernels::attention_shape&,
                        const kernels::step_plan&, kernels::stream&) override {
    no();
  }
  void attention(kernels::tensor_view, kernels::tensor_view, const kernels::kv_store&, std::int32_t,
                 const kernels::attention_shape&, const kernels::step_plan&, kernels::stream&) override {
    no();
  }
  void activate(kernels::tensor_view, kernels::tensor_view, kernels::activation, bool,
                kernels::stream&) override {
    no();
  }
  void gather_sampled(kernels::tensor_view, kernels::tensor_view, const kernels::step_plan&,
                      kernels::stream&) override {
    no();
  }

 private:
  static constexpr std::uintptr_t distance = std::uintptr_t{1} << 62;
  static void* far(std::byte* p) {
    return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(p) ^ distance);
  }
  static std::byte* near(void* p) {
    return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(p) ^ distance);
  }
  static kernels::device where() { return {kernels::device_kind::cuda, 7}; }
  [[noreturn]] static std::nullptr_t no() { throw std::logic_error("far_backend computes nothing"); }

  std::mutex mutex_;
  std::unordered_map<void*, std::vector<std::byte>> staging_;
};

}  // namespace fastserve::tests
