#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/memory.hpp"

namespace fastserve::kernels::cuda {

/// A step's arrays on the device, in one piece of memory that one transfer fills. The memory is a slot's,
/// which the next steps use again once the device is done with it: a host that plans a step ahead of the
/// device waits for nothing.
struct plan_slot {
  explicit plan_slot(int ordinal) : device{ordinal} {}
  pinned_memory host;
  device_scratch device;
  cuda_event done;  ///< recorded when the plan that used the slot goes
};

class plan_slots {
 public:
  explicit plan_slots(int ordinal) : ordinal_{ordinal} {}
  /// A slot that the device is done with; waits for the oldest where `most` are in use.
  std::unique_ptr<plan_slot> take();
  void give_back(std::unique_ptr<plan_slot> slot);

 private:
  static constexpr std::size_t most = 4;
  int ordinal_;
  std::mutex guard_;
  std::vector<std::unique_ptr<plan_slot>> free_;  // oldest first
};

/// Attention of a step cut into tasks. Pure arithmetic: see attention.hpp for what the cuts must keep.
struct attention_cut {
  std::vector<attention_task> narrow;  ///< of one warp
  std::vector<attention_task> wide;    ///< of wide_warps
  std::vector<attention_merge> merges;
  std::int32_t states = 0;
};
/// Sequences of few rows are split into segments where the device would be idle otherwise. `blocks_at` by
/// sequence.
attention_cut cut_attention(const step_layout& layout, const std::vector<std::int32_t>& blocks_at,
                            const attention_shape& shape, int multiprocessors);

class cuda_plan final : public step_plan {
 public:
  cuda_plan(const step_layout& layout, const rope_table& rope, const attention_shape& shape,
            int multiprocessors, plan_slots& slots, cudaStream_t on);
  ~cuda_plan() override;

  std::int64_t rows() const { return rows_; }
  std::int64_t sampled() const { return sampled_count_; }
  bool has_tokens() const { return has_tokens_; }
  rope_kind rotation() const { return rotation_; }
  std::int32_t rotated_pairs() const { return pairs_; }
  std::int64_t narrow_tasks() const { return narrow_count_; }
  std::int64_t wide_tasks() const { return wide_count_; }
  std::int64_t merge_count() const { return merge_count_; }
  std::int64_t states() const { return states_; }
  bool has_sequences() const { return has_sequences_; }

  // Device memory.
  const std::int32_t* token_ids() const { return token_ids_; }
  const std::int32_t* positions() const { return positions_; }
  const std::int32_t* sampled_rows() const { return sampled_; }
  const std::int32_t* blocks() const { return blocks_; }
  const std::int32_t* row_blocks_at() const { return row_blocks_at_; }
  const attention_task* narrow() const { return narrow_; }
  const attention_task* wide() const { return wide_; }
  const attention_merge* merges() const { return merges_; }
  const float* turns() const { return turns_; }

 private:
  plan_slots& slots_;
  cudaStream_t on_;
  std::unique_ptr<plan_slot> slot_;
  std::int64_t rows_ = 0, sampled_count_ = 0, narrow_count_ = 0, wide_count_ = 0, merge_count_ = 0,
               states_ = 0;
  bool has_tokens_ = false, has_sequences_ = false;
  rope_kind rotation_ = rope_kind::none;
  std::int32_t pairs_ = 0;
  const std::int32_t* token_ids_ = nullptr;
  const std::int32_t* positions_ = nullptr;
  const std::int32_t* sampled_ = nullptr;
  const std::int32_t* blocks_ = nullptr;
  const std::int32_t* row_blocks_at_ = nullptr;
  const attention_task* narrow_ = nullptr;
  const attention_task* wide_ = nullptr;
  const attention_merge* merges_ = nullptr;
  float* turns_ = nullptr;
};

}  // namespace fastserve::kernels::cuda
