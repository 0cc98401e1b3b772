#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/memory.hpp"

namespace fastserve::kernels::cuda {

/// Attention of a step cut into tasks. Pure arithmetic: see attention.hpp for what the cuts must keep.
struct attention_cut {
  std::vector<attention_task> narrow;  ///< of up to warp_pairs
  std::vector<attention_task> wide;    ///< of more
  std::vector<attention_merge> merges;
  std::int32_t states = 0;

  void clear();
};
/// What tasks are cut for.
struct cut_device {
  int multiprocessors = 1;
  std::int32_t pairs = wide_pairs;  ///< of a wide task, at most
};
/// Sequences of few rows are split into segments where the device would be idle otherwise. `blocks_at` by
/// sequence.
void cut_attention(attention_cut& out, const step_layout& layout, const std::vector<std::int32_t>& blocks_at,
                   const attention_shape& shape, const cut_device& device);
/// Adds tasks of nothing, so that as many sequences a few tokens further on have as many tasks: the grids of
/// a recorded step are fixed.
void round_up(attention_cut& cut, std::size_t sequences);

/// A step's arrays in host memory, before they are put into one piece. Kept for the next step, which then
/// allocates nothing.
struct step_arrays {
  std::vector<std::int32_t> blocks;         ///< of all sequences
  std::vector<std::int32_t> blocks_at;      ///< by sequence
  std::vector<std::int32_t> row_blocks_at;  ///< by row
  attention_cut cut;
};

/// A step's arrays on the device, in one piece of memory that one transfer fills. The memory is a slot's,
/// which the next steps use again once the device is done with it: a host that plans a step ahead of the
/// device waits for nothing.
struct plan_slot {
  explicit plan_slot(int ordinal) : device{ordinal} {}
  step_arrays arrays;
  pinned_memory host;
  device_scratch device;
  cuda_event done;  ///< recorded when the plan that used the slot goes
};

class plan_slots {
 public:
  /// `moves`: of the place below.
  plan_slots(int ordinal, std::uint64_t* moves) : ordinal_{ordinal}, place_{ordinal, moves} {}
  /// A slot that the device is done with; waits for the oldest where `most` are in use.
  std::unique_ptr<plan_slot> take();
  void give_back(std::unique_ptr<plan_slot> slot);

  /// Device memory for the arrays of steps that may be recorded: the same for all of them, since a stream's
  /// steps are one behind the other.
  class place {
   public:
    place() = default;
    place(const place&) = delete;
    place& operator=(const place&) = delete;
    ~place();
    /// Null while another plan has it.
    void* take(plan_slots& from, std::size_t bytes, cudaStream_t on);
    bool taken() const { return from_ != nullptr; }

   private:
    plan_slots* from_ = nullptr;
  };

 private:
  static constexpr std::size_t most = 4;
  int ordinal_;
  std::mutex guard_;
  std::vector<std::unique_ptr<plan_slot>> free_;  // oldest first
  device_scratch place_;
  cudaStream_t place_on_ = nullptr;
  bool place_taken_ = false;
};

/// What decides the launches of a step and the places of its arrays: all but the arrays' contents.
struct plan_shape {
  std::int64_t rows = 0, sampled = 0, narrow = 0, wide = 0, merges = 0, states = 0;
  bool has_tokens = false, has_sequences = false;
  rope_kind rotation = rope_kind::none;
  std::int32_t pairs = 0;
  const void* memory = nullptr;  ///< on the device
  friend bool operator==(const plan_shape&, const plan_shape&) = default;
};

class cuda_plan final : public step_plan {
 public:
  /// Rows of the largest step that is worth recording: beyond, the device is busy for longer than it takes to
  /// tell it what to do.
  static constexpr std::int64_t most_recorded_rows = 128;

  cuda_plan(const step_layout& layout, const rope_table& rope, const attention_shape& shape,
            const cut_device& device, plan_slots& slots, cudaStream_t on);
  ~cuda_plan() override;

  const plan_shape& shape() const { return shape_; }
  /// Whether another step of this shape has its arrays at the same addresses: one of a row for each of a few
  /// sequences.
  bool in_place() const { return place_.taken(); }
  std::int64_t rows() const { return shape_.rows; }
  std::int64_t sampled() const { return shape_.sampled; }
  bool has_tokens() const { return shape_.has_tokens; }
  rope_kind rotation() const { return shape_.rotation; }
  std::int32_t rotated_pairs() const { return shape_.pairs; }
  std::int64_t narrow_tasks() const { return shape_.narrow; }
  std::int64_t wide_tasks() const { return shape_.wide; }
  std::int64_t merge_count() const { return shape_.merges; }
  std::int64_t states() const { return shape_.states; }
  bool has_sequences() const { return shape_.has_sequences; }

  // Device memory.
  const std::int32_t* token_ids() const { return token_ids_; }
  std::int32_t* token_ids() { return token_ids_; }
  const std::int32_t* positions() const { return positions_; }
  const std::int32_t* sampled_rows() const { return sampled_; }
  const std::int32_t* blocks() const { return blocks_; }
  const std::int32_t* row_blocks_at() const { return row_blocks_at_; }
  const attention_task* narrow() const { return narrow_; }
  const attention_task* wide() const { return wide_; }
  const attention_merge* merges() const { return merges_; }
  const float* turns() const { return turns_; }

 private:
  bool recordable(const step_layout& layout) const;
  void put(const step_layout& layout, const rope_table& rope);

  plan_slots& slots_;
  cudaStream_t on_;
  std::unique_ptr<plan_slot> slot_;
  plan_slots::place place_;
  plan_shape shape_;
  std::int32_t* token_ids_ = nullptr;
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
