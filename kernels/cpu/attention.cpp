#include <algorithm>
#include <atomic>

#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/kv.hpp"
#include "kernels/cpu/plan.hpp"

namespace fastserve::kernels::cpu {
namespace {

constexpr std::int64_t parallel_products = std::int64_t{1} << 18;

const cpu_plan& host(const step_plan& plan) {
  assert(dynamic_cast<const cpu_plan*>(&plan) != nullptr);
  return static_cast<const cpu_plan&>(plan);
}

/// One attention call: what its tasks share.
class attention_call {
 public:
  attention_call(const kernel_table& table, tensor_view out, tensor_view query, const host_kv_store& kv,
                 std::int32_t layer, const attention_shape& shape, const cpu_plan& plan, float* kept)
      : table_{table},
        out_{out},
        query_{query},
        kv_{kv},
        layer_{layer},
        shape_{shape},
        plan_{plan},
        kept_{kept},
        group_{shape.heads / shape.kv_heads},
        state_floats_{state_floats(shape.head_dim)} {}

  /// Floats of scratch that a thread needs: queries and two sets of states.
  static std::size_t thread_floats(const cpu_plan& plan, const attention_shape& shape) {
    return static_cast<std::size_t>(plan.task_pairs()) *
           static_cast<std::size_t>(padded_dim(shape.head_dim) + 2 * state_floats(shape.head_dim));
  }

  void run(const attention_task& task, float* mine) const {
    const int pairs = task.rows * group_;
    auto job = prepare(task);
    job.scratch = mine;
    float* running = mine + std::int64_t{pairs} * padded_dim(shape_.head_dim);
    float* fresh = running + std::int64_t{pairs} * state_floats_;
    if (task.state >= 0) running = kept_ + task.state * state_floats_;
    const std::int32_t hidden =
        shape_.window > 0 ? std::max(job.first_position + 1 - shape_.window, 0) / segment_tokens : 0;
    const std::int32_t first = std::max(task.segment_first, hidden);
    if (first >= task.segment_last) return table_.clear_states(running, pairs, shape_.head_dim);
    for (std::int32_t i = first; i < task.segment_last; ++i) {
      job.token_first = i * segment_tokens;
      job.token_last = job.token_first + segment_tokens;
      job.states = i == first ? running : fresh;
      table_.attention[static_cast<int>(kv_.shape().type)](job);
      if (i > first) table_.merge_states(running, fresh, pairs, shape_.head_dim);
    }
    if (task.state < 0) finish(task, running);
  }

  void merge(const attention_merge& merge) const {
    const int pairs = merge.rows.rows * group_;
    float* running = kept_ + merge.rows.state * state_floats_;
    for (std::int32_t i = 1; i < merge.segments; ++i) {
      table_.merge_states(running, running + std::int64_t{i} * pairs * state_floats_, pairs, shape_.head_dim);
    }
    finish(merge.rows, running);
  }

 private:
  attention_job prepare(const attention_task& task) const {
    const auto& sequence = plan_.layout().sequences[static_cast<std::size_t>(task.sequence)];
    attention_job job;
    job.query = static_cast<const float*>(query_.data) + (sequence.first_row + task.first) * query_.stride +
                std::int64_t{task.kv_head} * group_ * shape_.head_dim;
    job.query_stride = query_.stride;
    job.rows = task.rows;
    job.group = group_;
    job.head_dim = shape_.head_dim;
    job.first_position = sequence.first_position + task.first;
    job.window = shape_.window;
    job.scale = shape_.scale;
    job.keys = kv_.keys(layer_, 0, task.kv_head);
    job.values = kv_.values(layer_, 0, task.kv_head);
    job.block_bytes = static_cast<std::int64_t>(kv_.layer_block_bytes());
    job.blocks = sequence.blocks.data();
    return job;
  }

  void finish(const attention_task& task, const float* states) const {
    const auto& sequence = plan_.layout().sequences[static_cast<std::size_t>(task.sequence)];
    const auto size = static_cast<std::int64_t>(size_of(out_.type));
    for (std::int32_t r = 0; r < task.rows; ++r) {
      for (std::int32_t g = 0; g < group_; ++g, states += state_floats_) {
        const std::int64_t head = std::int64_t{task.kv_head} * group_ + g;
        const std::int64_t at = (sequence.first_row + task.first + r) * out_.stride + head * shape_.head_dim;
        table_.finish_state[static_cast<int>(out_.type)](static_cast<char*>(out_.data) + at * size, states,
                                                         shape_.head_dim);
      }
    }
  }

  const kernel_table& table_;
  tensor_view out_;
  tensor_view query_;
  const host_kv_store& kv_;
  std::int32_t layer_;
  const attention_shape& shape_;
  const cpu_plan& plan_;
  float* kept_;
  std::int32_t group_;
  int state_floats_;
};

}  // namespace

std::unique_ptr<step_plan> cpu_backend::plan_step(const step_layout& layout, const rope_table& rope,
                                                  const attention_shape& shape, stream&) {
  return std::make_unique<cpu_plan>(layout, rope, shape, team_);
}

void cpu_backend::attention(tensor_view out, tensor_view query, const kv_store& kv, std::int32_t layer,
                            const attention_shape& shape, const step_plan& step, stream&) {
  assert(dynamic_cast<const host_kv_store*>(&kv) != nullptr);
  const auto& store = static_cast<const host_kv_store&>(kv);
  const auto& plan = host(step);
  assert(shape.heads % shape.kv_heads == 0 && shape.head_dim == kv.shape().head_dim);
  assert(query.type == dtype::f32 && query.cols == std::int64_t{shape.heads} * shape.head_dim);
  assert(out.rows == query.rows && out.cols == query.cols && query.rows == plan.rows());
  if (plan.tasks().empty()) return;

  float* kept = attention_states_.floats(static_cast<std::size_t>(plan.states()) *
                                         static_cast<std::size_t>(state_floats(shape.head_dim)));
  const attention_call call{table_, out, query, store, layer, shape, plan, kept};
  const std::size_t each = attention_call::thread_floats(plan, shape);
  float* work = attention_.floats(each * static_cast<std::size_t>(team_.size()));
  const auto tasks = plan.tasks();
  const auto merges = plan.merges();
  const bool worthwhile = tasks.size() > 1 && plan.scores() * shape.head_dim > parallel_products;
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> next_merge{0};
  team_.run(worthwhile, [&](int thread, int threads) {
    float* mine = work + each * static_cast<std::size_t>(thread);
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks.size();)
      call.run(tasks[i], mine);
    if (merges.empty()) return;
    if (threads > 1) team_.barrier();
    for (std::size_t i; (i = next_merge.fetch_add(1, std::memory_order_relaxed)) < merges.size();) {
      call.merge(merges[i]);
    }
  });
}

void cpu_backend::rotate_and_store(tensor_view qkv, const norm_weights* query_norm,
                                   const norm_weights* key_norm, kv_store& kv, std::int32_t layer,
                                   const attention_shape& shape, const step_plan& step, stream&) {
  assert(dynamic_cast<const host_kv_store*>(&kv) != nullptr);
  const auto& store = static_cast<const host_kv_store&>(kv);
  const auto& plan = host(step);
  const std::int32_t dim = shape.head_dim;
  assert(qkv.type == dtype::f32 && qkv.rows == plan.rows());
  assert(qkv.cols == std::int64_t{shape.heads + 2 * shape.kv_heads} * dim);
  assert(dim == kv.shape().head_dim && shape.kv_heads == kv.shape().kv_heads);
  assert(2 * plan.rotated_pairs() <= dim);

  const auto write = table_.store_kv[static_cast<int>(kv.shape().type)];
  const auto rotate =
      plan.rotation() == rope_kind::interleaved ? table_.rotate_interleaved : table_.rotate_half;
  const auto rms_norm = table_.rms_norm[element_f32];
  const auto turn = [&](float* head, const norm_weights* norm, std::int64_t row) {
    if (norm != nullptr) {
      assert(norm->kind == norm_kind::rms && norm->gain.cols == dim);
      rms_norm(head, head, static_cast<const float*>(norm->gain.data), norm->epsilon, dim);
    }
    if (plan.rotation() != rope_kind::none)
      rotate(head, plan.cosine(row), plan.sine(row), plan.rotated_pairs());
  };
  team_.run(qkv.rows * qkv.cols > (1 << 16), [&](int thread, int threads) {
    const share mine{qkv.rows, thread, threads};
    for (std::int64_t r = mine.first; r < mine.last; ++r) {
      float* query = static_cast<float*>(qkv.data) + r * qkv.stride;
      float* key = query + std::int64_t{shape.heads} * dim;
      const float* value = key + std::int64_t{shape.kv_heads} * dim;
      for (std::int32_t h = 0; h < shape.heads; ++h) turn(query + std::int64_t{h} * dim, query_norm, r);
      const std::int32_t block = plan.block_of(r);
      assert(block >= 0);
      for (std::int32_t h = 0; h < shape.kv_heads; ++h) {
        turn(key + std::int64_t{h} * dim, key_norm, r);
        write(store.keys(layer, block, h), store.values(layer, block, h), key + std::int64_t{h} * dim,
              value + std::int64_t{h} * dim, plan.slot_of(r), dim);
      }
    }
  });
}

}  // namespace fastserve::kernels::cpu
