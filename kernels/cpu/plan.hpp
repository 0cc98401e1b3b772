#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cpu/memory.hpp"
#include "kernels/cpu/team.hpp"

namespace fastserve::kernels::cpu {

/// Long contexts are attended in segments of this many tokens, cut by absolute position: the parts of one
/// softmax are computed apart, by several threads if there are few other jobs, and always merged in rising
/// order.
inline constexpr std::int32_t segment_tokens = 1024;

/// One KV head's share of some rows of a sequence, over segments [segment_first, segment_last).
struct attention_task {
  std::int32_t sequence = 0;
  std::int32_t kv_head = 0;
  std::int32_t first = 0;  ///< row within the sequence
  std::int32_t rows = 0;
  std::int32_t segment_first = 0;
  std::int32_t segment_last = 0;
  std::int64_t state = -1;  ///< where its states are kept for merging, in states; -1: finishes by itself
  std::int64_t cost = 0;
};

/// Rows whose segments were dealt to several tasks: their states lie one after another from `state` on.
struct attention_merge {
  attention_task rows;
  std::int32_t segments = 0;
};

/// A step on the host: the layout, rotation tables, and attention cut into tasks, dearest first.
class cpu_plan final : public step_plan {
 public:
  cpu_plan(const step_layout& layout, const rope_table& rope, const attention_shape& shape,
           const thread_team& team);

  std::int64_t rows() const { return static_cast<std::int64_t>(layout_.positions.size()); }
  const step_layout& layout() const { return layout_; }

  rope_kind rotation() const { return rotation_; }
  std::int32_t rotated_pairs() const { return pairs_; }
  const float* cosine(std::int64_t row) const { return tables_.data() + 2 * row * pairs_; }
  const float* sine(std::int64_t row) const { return cosine(row) + pairs_; }

  /// KV slot of a row: block id and token within the block.
  std::int32_t block_of(std::int64_t row) const { return slots_[static_cast<std::size_t>(row)].block; }
  std::int32_t slot_of(std::int64_t row) const { return slots_[static_cast<std::size_t>(row)].slot; }

  std::span<const attention_task> tasks() const { return tasks_; }
  std::span<const attention_merge> merges() const { return merges_; }
  /// Softmax states that the merges need.
  std::int64_t states() const { return states_; }
  /// Most (row, head) pairs of a task.
  std::int32_t task_pairs() const { return task_pairs_; }
  /// Keys that all query heads together look at.
  std::int64_t scores() const { return scores_; }

 private:
  struct kv_slot {
    std::int32_t block;
    std::int32_t slot;
  };

  void find_slots();
  void fill_tables(const rope_table& rope, const thread_team& team);
  void cut_attention(const attention_shape& shape, int threads);
  void add_tasks(attention_task task, std::int32_t segments, std::int32_t group, bool split);

  step_layout layout_;
  rope_kind rotation_;
  std::int32_t pairs_ = 0;
  std::vector<float> tables_;  // [rows][cosines, sines][pairs]
  std::vector<kv_slot> slots_;
  std::vector<attention_task> tasks_;
  std::vector<attention_merge> merges_;
  std::int64_t states_ = 0;
  std::int32_t task_pairs_ = 0;
  std::int64_t scores_ = 0;
};

}  // namespace fastserve::kernels::cpu
