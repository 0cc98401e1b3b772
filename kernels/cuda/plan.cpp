#include "kernels/cuda/plan.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace fastserve::kernels::cuda {
namespace {

/// Arrays that lie one after another in a slot, each at a multiple of 16 bytes.
class packed_arrays {
 public:
  template <class T>
  std::size_t add(const std::vector<T>& values) {
    const std::size_t at = take(values.size() * sizeof(T));
    if (!values.empty()) parts_.push_back({at, values.data(), values.size() * sizeof(T)});
    return at;
  }
  /// Room that the device fills.
  std::size_t take(std::size_t bytes) {
    const std::size_t at = size_;
    size_ += (bytes + 15) / 16 * 16;
    return at;
  }
  std::size_t size() const { return size_; }
  void write(char* to) const {
    for (const auto& p : parts_) std::memcpy(to + p.at, p.from, p.bytes);
  }

 private:
  struct part {
    std::size_t at;
    const void* from;
    std::size_t bytes;
  };
  std::vector<part> parts_;
  std::size_t size_ = 0;
};

}  // namespace

std::unique_ptr<plan_slot> plan_slots::take() {
  std::unique_ptr<plan_slot> slot;
  {
    const std::lock_guard lock{guard_};
    const auto passed =
        std::find_if(free_.begin(), free_.end(), [](const auto& s) { return s->done.passed(); });
    if (passed != free_.end()) {
      slot = std::move(*passed);
      free_.erase(passed);
    } else if (free_.size() >= most) {
      slot = std::move(free_.front());
      free_.erase(free_.begin());
    }
  }
  if (!slot) return std::make_unique<plan_slot>(ordinal_);
  slot->done.wait();
  return slot;
}

void plan_slots::give_back(std::unique_ptr<plan_slot> slot) {
  const std::lock_guard lock{guard_};
  free_.push_back(std::move(slot));
}

attention_cut cut_attention(const step_layout& layout, const std::vector<std::int32_t>& blocks_at,
                            const attention_shape& shape, int multiprocessors) {
  attention_cut out;
  const std::int32_t group = shape.heads / shape.kv_heads;
  const auto few = [&](const step_sequence& s) { return std::int64_t{s.rows} * group <= warp_pairs; };
  const auto sequences_of_few = std::count_if(layout.sequences.begin(), layout.sequences.end(), few);
  // Eight warps to a multiprocessor and it has enough to do.
  const bool split = sequences_of_few * shape.kv_heads < std::int64_t{8} * multiprocessors;
  for (std::size_t i = 0; i < layout.sequences.size(); ++i) {
    const auto& s = layout.sequences[i];
    attention_task task;
    task.row = s.first_row;
    task.first_position = s.first_position;
    task.blocks_at = blocks_at[i];
    const std::int32_t pairs = s.rows * group;
    const std::int32_t at_once = few(s) ? warp_pairs : warp_pairs * wide_warps;
    for (task.first_pair = 0; task.first_pair < pairs; task.first_pair += at_once) {
      task.pairs = std::min(at_once, pairs - task.first_pair);
      const std::int32_t end = s.first_position + (task.first_pair + task.pairs - 1) / group + 1;
      const std::int32_t segments = (end + segment_tokens - 1) / segment_tokens;
      task.segment_first = 0;
      task.segment_last = segments;
      if (!few(s) || !split || segments == 1) {
        (few(s) ? out.narrow : out.wide).push_back(task);
        continue;
      }
      auto part = task;
      part.state = out.states;
      out.merges.push_back({part, segments});
      for (std::int32_t segment = 0; segment < segments; ++segment) {
        part.segment_first = segment;
        part.segment_last = segment + 1;
        part.state = out.states++;
        out.narrow.push_back(part);
      }
    }
  }
  return out;
}

cuda_plan::cuda_plan(const step_layout& layout, const rope_table& rope, const attention_shape& shape,
                     int multiprocessors, plan_slots& slots, cudaStream_t on)
    : slots_{slots}, on_{on}, slot_{slots.take()}, rotation_{rope.kind} {
  rows_ = static_cast<std::int64_t>(layout.positions.size());
  sampled_count_ = static_cast<std::int64_t>(layout.sampled_rows.size());
  has_tokens_ = !layout.token_ids.empty();
  has_sequences_ = !layout.sequences.empty();
  if (rotation_ != rope_kind::none) pairs_ = static_cast<std::int32_t>(rope.inverse_frequency.size());

  std::vector<std::int32_t> blocks;
  std::vector<std::int32_t> blocks_at;
  std::vector<std::int32_t> row_blocks_at(layout.positions.size());
  for (const auto& s : layout.sequences) {
    const auto at = static_cast<std::int32_t>(blocks.size());
    blocks_at.push_back(at);
    blocks.insert(blocks.end(), s.blocks.begin(), s.blocks.end());
    for (std::int32_t r = 0; r < s.rows; ++r) {
      const auto row = static_cast<std::size_t>(s.first_row + r);
      assert(row < row_blocks_at.size() && layout.positions[row] == s.first_position + r);
      assert(static_cast<std::size_t>(layout.positions[row] / kv_block_tokens) < s.blocks.size());
      row_blocks_at[row] = at;
    }
  }
  attention_cut cut;
  if (shape.kv_heads > 0) cut = cut_attention(layout, blocks_at, shape, multiprocessors);
  narrow_count_ = static_cast<std::int64_t>(cut.narrow.size());
  wide_count_ = static_cast<std::int64_t>(cut.wide.size());
  merge_count_ = static_cast<std::int64_t>(cut.merges.size());
  states_ = cut.states;

  packed_arrays arrays;
  const auto token_ids = arrays.add(layout.token_ids);
  const auto positions = arrays.add(layout.positions);
  const auto sampled = arrays.add(layout.sampled_rows);
  const auto blocks_place = arrays.add(blocks);
  const auto row_blocks = arrays.add(row_blocks_at);
  const auto narrow = arrays.add(cut.narrow);
  const auto wide = arrays.add(cut.wide);
  const auto merges = arrays.add(cut.merges);
  const auto frequencies = pairs_ > 0 ? arrays.add(rope.inverse_frequency) : 0;
  const std::size_t uploaded = arrays.size();
  const auto turns = arrays.take(sizeof(float) * 2 * static_cast<std::size_t>(rows_ * pairs_));

  auto* host = static_cast<char*>(slot_->host.at_least(std::max<std::size_t>(uploaded, 1)));
  auto* device = static_cast<char*>(slot_->device.at_least(std::max<std::size_t>(arrays.size(), 1)));
  arrays.write(host);
  if (uploaded > 0)
    check(cudaMemcpyAsync(device, host, uploaded, cudaMemcpyHostToDevice, on), "cudaMemcpyAsync of a step");
  const auto ints = [&](std::size_t at) { return reinterpret_cast<const std::int32_t*>(device + at); };
  token_ids_ = ints(token_ids);
  positions_ = ints(positions);
  sampled_ = ints(sampled);
  blocks_ = ints(blocks_place);
  row_blocks_at_ = ints(row_blocks);
  narrow_ = reinterpret_cast<const attention_task*>(device + narrow);
  wide_ = reinterpret_cast<const attention_task*>(device + wide);
  merges_ = reinterpret_cast<const attention_merge*>(device + merges);
  turns_ = reinterpret_cast<float*>(device + turns);
  if (pairs_ > 0 && rows_ > 0) {
    launch_turns(turns_, positions_, reinterpret_cast<const float*>(device + frequencies), rows_, pairs_,
                 rope.magnitude, on);
  }
}

cuda_plan::~cuda_plan() {
  // An error here is met again by the next call on the device.
  if (cudaEventRecord(slot_->done.handle(), on_) != cudaSuccess) cudaGetLastError();
  slots_.give_back(std::move(slot_));
}

}  // namespace fastserve::kernels::cuda
