#include "kernels/cpu/plan.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace fastserve::kernels::cpu {
namespace {

constexpr std::int32_t wanted_pairs =
    64;  // (row, head) pairs of a task: their states stay in L2 beside the keys

}  // namespace

cpu_plan::cpu_plan(const step_layout& layout, const rope_table& rope, const attention_shape& shape,
                   const thread_team& team)
    : layout_{layout}, rotation_{rope.kind} {
  find_slots();
  if (rotation_ != rope_kind::none) fill_tables(rope, team);
  if (shape.kv_heads > 0) cut_attention(shape, team.size());
}

void cpu_plan::find_slots() {
  slots_.assign(layout_.positions.size(), {-1, 0});
  for (const auto& s : layout_.sequences) {
    for (std::int32_t i = 0; i < s.rows; ++i) {
      const std::int32_t position = s.first_position + i;
      const auto row = static_cast<std::size_t>(s.first_row + i);
      const auto block = static_cast<std::size_t>(position / kv_block_tokens);
      assert(row < slots_.size() && layout_.positions[row] == position && block < s.blocks.size());
      slots_[row] = {s.blocks[block], position % kv_block_tokens};
    }
  }
}

/// The angle in f32, as the reference implementations take it; its cosine and sine rounded once.
void cpu_plan::fill_tables(const rope_table& rope, const thread_team& team) {
  pairs_ = static_cast<std::int32_t>(rope.inverse_frequency.size());
  const auto pairs = static_cast<std::size_t>(pairs_);
  tables_.resize(2 * pairs * layout_.positions.size());
  team.run(tables_.size() > 4096, [&](int thread, int threads) {
    const share mine{rows(), thread, threads};
    for (std::int64_t r = mine.first; r < mine.last; ++r) {
      float* at = tables_.data() + 2 * static_cast<std::size_t>(r) * pairs;
      const auto position = static_cast<float>(layout_.positions[static_cast<std::size_t>(r)]);
      for (std::size_t i = 0; i < pairs; ++i) {
        const double angle = position * rope.inverse_frequency[i];
        at[i] = static_cast<float>(std::cos(angle)) * rope.magnitude;
        at[pairs + i] = static_cast<float>(std::sin(angle)) * rope.magnitude;
      }
    }
  });
}

void cpu_plan::cut_attention(const attention_shape& shape, int threads) {
  const std::int32_t group = shape.heads / shape.kv_heads;
  const std::int32_t block_rows = std::max(wanted_pairs / group, 1);
  std::int64_t tasks = 0;
  for (const auto& s : layout_.sequences) tasks += (s.rows + block_rows - 1) / block_rows * shape.kv_heads;
  const bool split = tasks < std::int64_t{4} * threads && threads > 1;
  for (std::size_t i = 0; i < layout_.sequences.size(); ++i) {
    const auto& s = layout_.sequences[i];
    for (std::int32_t first = 0; first < s.rows; first += block_rows) {
      attention_task task;
      task.sequence = static_cast<std::int32_t>(i);
      task.first = first;
      task.rows = std::min(block_rows, s.rows - first);
      task_pairs_ = std::max(task_pairs_, task.rows * group);
      // All segments up to the last row; what a layer's window hides costs next to nothing.
      const std::int32_t end = s.first_position + first + task.rows;
      const std::int32_t visible = shape.window > 0 ? std::min(end, shape.window + task.rows) : end;
      task.cost = std::int64_t{visible} * task.rows * group;
      scores_ += task.cost * shape.kv_heads;
      for (task.kv_head = 0; task.kv_head < shape.kv_heads; ++task.kv_head) {
        add_tasks(task, (end + segment_tokens - 1) / segment_tokens, group, split);
      }
    }
  }
  std::stable_sort(tasks_.begin(), tasks_.end(),
                   [](const auto& a, const auto& b) { return a.cost > b.cost; });
}

void cpu_plan::add_tasks(attention_task task, std::int32_t segments, std::int32_t group, bool split) {
  task.segment_first = 0;
  task.segment_last = segments;
  if (!split || segments == 1) {
    tasks_.push_back(task);
    return;
  }
  task.state = states_;
  merges_.push_back({task, segments});
  for (std::int32_t i = 0; i < segments; ++i) {
    auto part = task;
    part.segment_first = i;
    part.segment_last = i + 1;
    part.state = states_;
    part.cost = task.cost / segments;
    states_ += std::int64_t{task.rows} * group;
    tasks_.push_back(part);
  }
}

}  // namespace fastserve::kernels::cpu
