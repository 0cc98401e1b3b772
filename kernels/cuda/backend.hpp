#pragma once

#include "kernels/backend.hpp"
#include "kernels/cuda/draw_queue.hpp"
#include "kernels/cuda/graphs.hpp"
#include "kernels/cuda/linear.hpp"
#include "kernels/cuda/memory.hpp"
#include "kernels/cuda/plan.hpp"
#include "kernels/cuda/weight.hpp"

namespace fastserve::kernels::cuda {

/// One GPU behind the backend interface (make_cuda_backend).
class cuda_backend final : public backend {
 public:
  explicit cuda_backend(int ordinal);

  device_info info() const override;

  std::unique_ptr<stream> make_stream() override { return std::make_unique<cuda_stream>(ordinal_); }
  std::unique_ptr<stream_mark> make_mark() override {
    use_device(ordinal_);
    return std::make_unique<cuda_mark>();
  }
  buffer allocate(std::size_t bytes) override { return allocate_device(bytes, ordinal_); }
  buffer allocate_host(std::size_t bytes) override { return allocate_pinned(bytes, ordinal_); }
  void upload(tensor_view to, const void* from, stream& on) override;
  void download(void* to, tensor_view from, stream& on) override;
  const void* host_read(tensor_view from, stream& on) override;
  void copy(tensor_view to, tensor_view from, stream& on) override;

  std::unique_ptr<weight> pack(std::span<const host_matrix> stacked, dtype compute) override;
  std::unique_ptr<weight> pack_quantized(std::span<const quantized_matrix> stacked) override;
  std::unique_ptr<weight> quantize(std::span<const host_matrix> stacked,
                                   const quantized_format& format) override;
  bool multiplies_fp8() const override { return hopper_; }
  std::unique_ptr<weight> table(const host_matrix& rows) override;

  std::unique_ptr<kv_store> make_kv_store(const kv_shape& shape) override;
  void copy_block(kv_store& kv, std::int32_t to, std::int32_t from, stream& on) override;
  void read_block(void* to, const kv_store& kv, std::int32_t block, stream& on) override;
  void write_block(kv_store& kv, std::int32_t block, const void* from, stream& on) override;

  std::unique_ptr<step_recorder> make_recorder() override {
    return std::make_unique<cuda_recorder>(ordinal_, graphs_wanted(), scratch_moves_);
  }
  std::unique_ptr<step_plan> plan_step(const step_layout& layout, const rope_table& rope,
                                       const attention_shape& shape, stream& on) override;
  void embed(tensor_view out, const weight& tokens, const weight* positions, const step_plan& plan,
             stream& on) override;
  void norm(tensor_view out, tensor_view in, const norm_weights& by, stream& on) override;
  void linear(tensor_view out, tensor_view in, const weight& w, tensor_view bias, bool accumulate,
              stream& on) override;
  std::int64_t gated_turn(activation f, dtype compute) const override;
  void linear_gated(tensor_view out, tensor_view in, const weight& w, tensor_view bias, activation f,
                    stream& on) override;
  void norm_linear(tensor_view out, tensor_view normed, tensor_view in, const norm_weights& by,
                   const weight& w, tensor_view bias, stream& on) override;
  void norm_linear_gated(tensor_view out, tensor_view normed, tensor_view in, const norm_weights& by,
                         const weight& w, tensor_view bias, activation f, stream& on) override;
  void rotate_and_store(tensor_view qkv, const norm_weights* query_norm, const norm_weights* key_norm,
                        kv_store& kv, std::int32_t layer, const attention_shape& shape, const step_plan& plan,
                        stream& on) override;
  void attention(tensor_view out, tensor_view query, const kv_store& kv, std::int32_t layer,
                 const attention_shape& shape, const step_plan& plan, stream& on) override;
  void activate(tensor_view out, tensor_view in, activation f, bool gated, stream& on) override;
  void gather_sampled(tensor_view out, tensor_view in, const step_plan& plan, stream& on) override;
  bool draws() const override { return true; }
  void start_draw(std::span<const draw_row> rows, tensor_view logits, stream& on) override;
  bool draw_done() override;
  void finish_draw(std::span<drawn_row> out) override;

 private:
  /// The stream's handle, with this device current.
  cudaStream_t use(stream& on) const;
  /// f32 scratch of the shape of an output that will be rounded to records.
  tensor_view unrounded(const tensor_view& out);
  void give_scratch(product& p);
  /// Whether the product's kernel norms the row itself; then `p` says of what.
  bool give_norm(product& p, tensor_view normed, tensor_view in, const norm_weights& by,
                 const cuda_weight& w) const;
  /// The sections of a weight one after another; `p` says what becomes of the sums.
  void multiply(product p, tensor_view in, const cuda_weight& w, tensor_view bias, cudaStream_t on);

  int ordinal_;
  bool hopper_;
  cut_device cuts_;
  std::string name_;
  weight_packer packer_;
  staged_upload upload_;
  std::uint64_t scratch_moves_ = 0;  ///< of what follows: recorded steps know the addresses
  plan_slots slots_;
  device_scratch unrounded_;     ///< f32 results on their way to records
  device_scratch input_;         ///< of a product: padded to whole units, or rounded to records
  device_scratch partial_sums_;  ///< of products whose panels several blocks share
  device_scratch opened_;        ///< panels of integers, as bf16
  buffer arrivals_;              ///< of those blocks; zero between products
  device_scratch states_;        ///< softmax states of split attention
  draw_queue draws_;
  pinned_memory read_[2];  ///< host copies of the last views that were read, in turn
  unsigned next_read_ = 0;
};

}  // namespace fastserve::kernels::cuda
