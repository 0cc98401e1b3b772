#include <chrono>

#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/dispatch.hpp"
#include "kernels/profile.hpp"

namespace fastserve::kernels {
namespace {

class profiled_backend final : public cpu::cpu_backend {
 public:
  profiled_backend(int threads, step_profile& into)
      : cpu_backend{threads, cpu::choose_table({}), &into.waited_ns}, into_{into} {}

  std::unique_ptr<step_plan> plan_step(const step_layout& layout, const rope_table& rope,
                                       const attention_shape& shape, stream& on) override {
    const timer time{into_, step_op::planning};
    return cpu_backend::plan_step(layout, rope, shape, on);
  }
  void embed(tensor_view out, const weight& tokens, const weight* positions, const step_plan& plan,
             stream& on) override {
    const timer time{into_, step_op::embedding};
    cpu_backend::embed(out, tokens, positions, plan, on);
  }
  void norm(tensor_view out, tensor_view in, const norm_weights& by, stream& on) override {
    const timer time{into_, step_op::norms};
    cpu_backend::norm(out, in, by, on);
  }
  void linear(tensor_view out, tensor_view in, const weight& w, tensor_view bias, bool accumulate,
              stream& on) override {
    const timer time{into_, step_op::products};
    cpu_backend::linear(out, in, w, bias, accumulate, on);
  }
  void rotate_and_store(tensor_view qkv, const norm_weights* query_norm, const norm_weights* key_norm,
                        kv_store& kv, std::int32_t layer, const attention_shape& shape, const step_plan& plan,
                        stream& on) override {
    const timer time{into_, step_op::rotation};
    cpu_backend::rotate_and_store(qkv, query_norm, key_norm, kv, layer, shape, plan, on);
  }
  void attention(tensor_view out, tensor_view query, const kv_store& kv, std::int32_t layer,
                 const attention_shape& shape, const step_plan& plan, stream& on) override {
    const timer time{into_, step_op::attention};
    cpu_backend::attention(out, query, kv, layer, shape, plan, on);
  }
  void activate(tensor_view out, tensor_view in, activation f, bool gated, stream& on) override {
    const timer time{into_, step_op::activations};
    cpu_backend::activate(out, in, f, gated, on);
  }
  void each_on_host(std::int64_t count, const std::function<void(std::int64_t, int)>& work) override {
    const timer time{into_, step_op::drawing};
    cpu_backend::each_on_host(count, work);
  }

 private:
  class timer {
   public:
    timer(step_profile& into, step_op op) : ns_{into.op_ns[static_cast<std::size_t>(op)]} {}
    ~timer() {
      const auto took = std::chrono::steady_clock::now() - start_;
      ns_.fetch_add(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count(),
                    std::memory_order_relaxed);
    }
    timer(const timer&) = delete;
    timer& operator=(const timer&) = delete;

   private:
    std::atomic<std::int64_t>& ns_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  };

  step_profile& into_;
};

}  // namespace

const char* name_of(step_op op) {
  constexpr const char* names[step_ops] = {"products", "attention",     "rotation, KV store",
                                           "norms",    "activations",   "embedding",
                                           "planning", "drawing tokens"};
  return names[static_cast<std::size_t>(op)];
}

std::unique_ptr<backend> make_profiled_cpu_backend(int threads, step_profile& into) {
  auto made = std::make_unique<profiled_backend>(threads, into);
  into.threads = made->info().threads;
  return made;
}

}  // namespace fastserve::kernels
