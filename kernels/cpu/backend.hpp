#pragma once

#include <cassert>

#include "kernels/backend.hpp"
#include "kernels/cpu/dispatch.hpp"
#include "kernels/cpu/integer_weight.hpp"
#include "kernels/cpu/jobs.hpp"
#include "kernels/cpu/memory.hpp"
#include "kernels/cpu/table.hpp"
#include "kernels/cpu/team.hpp"
#include "kernels/cpu/weight.hpp"

namespace fastserve::kernels::cpu {

/// The host's processors behind the backend interface. Ops run on the calling thread and the team at once, so
/// a stream holds nothing. Scratch memory is kept between calls and grows only. One executor thread calls it.
class cpu_backend : public backend {
 public:
  /// `waited`: as of thread_team.
  cpu_backend(int threads, const kernel_table& table, std::atomic<std::int64_t>* waited = nullptr,
              processor_habits habits = habits_here())
      : table_{table}, habits_{habits}, team_{threads, waited}, deal_{threads} {}

  device_info info() const override;

  std::unique_ptr<stream> make_stream() override;
  buffer allocate(std::size_t bytes) override { return allocate_memory(bytes); }
  buffer allocate_host(std::size_t bytes) override { return allocate_memory(bytes); }
  void upload(tensor_view to, const void* from, stream& on) override;
  void download(void* to, tensor_view from, stream& on) override;
  const void* host_read(tensor_view from, stream&) override { return from.data; }
  void copy(tensor_view to, tensor_view from, stream& on) override;

  std::unique_ptr<weight> pack(std::span<const host_matrix> stacked, dtype compute) override {
    return pack_weight(stacked, compute, table_, team_);
  }
  std::unique_ptr<weight> pack_quantized(std::span<const quantized_matrix> stacked) override {
    return pack_integers(stacked, table_, team_);
  }
  std::unique_ptr<weight> quantize(std::span<const host_matrix> stacked,
                                   const quantized_format& format) override {
    return pack_integers(stacked, format, table_, team_);
  }
  std::unique_ptr<weight> table(const host_matrix& rows) override;
  bool embeds_packed() const override { return true; }
  std::string packed_layout() const override;
  weight_room room_for(const packed_form& form) override;

  std::unique_ptr<kv_store> make_kv_store(const kv_shape& shape) override;
  void copy_block(kv_store& kv, std::int32_t to, std::int32_t from, stream& on) override;
  void read_block(void* to, const kv_store& kv, std::int32_t block, stream& on) override;
  void write_block(kv_store& kv, std::int32_t block, const void* from, stream& on) override;

  std::unique_ptr<step_plan> plan_step(const step_layout& layout, const rope_table& rope,
                                       const attention_shape& shape, stream& on) override;
  void embed(tensor_view out, const weight& tokens, const weight* positions, const step_plan& plan,
             stream& on) override;
  void norm(tensor_view out, tensor_view in, const norm_weights& by, stream& on) override;
  void linear(tensor_view out, tensor_view in, const weight& w, tensor_view bias, bool accumulate,
              stream& on) override;
  void rotate_and_store(tensor_view qkv, const norm_weights* query_norm, const norm_weights* key_norm,
                        kv_store& kv, std::int32_t layer, const attention_shape& shape, const step_plan& plan,
                        stream& on) override;
  void attention(tensor_view out, tensor_view query, const kv_store& kv, std::int32_t layer,
                 const attention_shape& shape, const step_plan& plan, stream& on) override;
  void activate(tensor_view out, tensor_view in, activation f, bool gated, stream& on) override;
  void each_on_host(std::int64_t count, const std::function<void(std::int64_t, int)>& work) override {
    team_.run(count > 1, [&](int thread, int threads) {
      for (std::int64_t i = thread; i < count; i += threads) work(i, thread);
    });
  }
  void gather_sampled(tensor_view out, tensor_view in, const step_plan& plan, stream& on) override;

 private:
  void linear_integers(tensor_view out, tensor_view in, const weight& w, tensor_view bias, bool accumulate);

  const kernel_table& table_;
  processor_habits habits_;
  thread_team team_;
  job_deal deal_;
  scratch packed_rows_;  ///< input of a product
  std::vector<section_cut> cuts_;
  scratch partials_;          ///< sums of a product cut along k, a piece per thread
  scratch attention_;         ///< queries and softmax states, a piece per thread
  scratch attention_states_;  ///< softmax states of long rows, cut into segments
};

}  // namespace fastserve::kernels::cpu
