#include "kernels/cuda/plan.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

namespace fastserve::kernels::cuda {
namespace {

/// Arrays that lie one after another in a piece of memory, each at a multiple of 16 bytes.
class packed_arrays {
 public:
  /// Room that the device fills. Before all that is added.
  std::size_t take(std::size_t bytes) {
    first_ = size_ = rounded(bytes);
    return 0;
  }
  template <class T>
  std::size_t add(const std::vector<T>& values) {
    const std::size_t at = size_;
    const std::size_t bytes = values.size() * sizeof(T);
    if (bytes > 0) parts_[count_++] = {at, values.data(), bytes};
    size_ += rounded(bytes);
    return at;
  }
  std::size_t size() const { return size_; }
  /// Where what was added begins, and how much that is.
  std::size_t first() const { return first_; }
  std::size_t added() const { return size_ - first_; }
  void write(char* to) const {
    for (std::size_t i = 0; i < count_; ++i)
      std::memcpy(to + parts_[i].at - first_, parts_[i].from, parts_[i].bytes);
  }

 private:
  static std::size_t rounded(std::size_t bytes) { return (bytes + 15) / 16 * 16; }
  struct part {
    std::size_t at;
    const void* from;
    std::size_t bytes;
  };
  std::array<part, 16> parts_;
  std::size_t count_ = 0, first_ = 0, size_ = 0;
};

/// Few enough values for a step's kernels to be recorded seldom, no more than an eighth of the tasks empty.
std::size_t rounded_tasks(std::size_t tasks) {
  const std::size_t unit = std::max<std::size_t>(std::bit_floor(tasks) / 8, 4);
  return (tasks + unit - 1) / unit * unit;
}

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

void* plan_slots::place::take(plan_slots& from, std::size_t bytes, cudaStream_t on) {
  const std::lock_guard lock{from.guard_};
  if (from.place_taken_) return nullptr;
  // Another stream's steps may still be at work there. A server has one.
  if (from.place_on_ != on && from.place_on_ != nullptr)
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  void* memory = from.place_.at_least(bytes);
  from.place_on_ = on;
  from.place_taken_ = true;
  from_ = &from;
  return memory;
}

plan_slots::place::~place() {
  if (from_ == nullptr) return;
  const std::lock_guard lock{from_->guard_};
  from_->place_taken_ = false;
}

void attention_cut::clear() {
  narrow.clear();
  wide.clear();
  merges.clear();
  states = 0;
}

void cut_attention(attention_cut& out, const step_layout& layout, const std::vector<std::int32_t>& blocks_at,
                   const attention_shape& shape, const cut_device& device) {
  out.clear();
  const std::int32_t group = shape.heads / shape.kv_heads;
  const auto few = [&](const step_sequence& s) { return std::int64_t{s.rows} * group <= warp_pairs; };
  const auto sequences_of_few = std::count_if(layout.sequences.begin(), layout.sequences.end(), few);
  // Three blocks to a multiprocessor are as many as find room in it.
  const bool split = sequences_of_few * shape.kv_heads < std::int64_t{3} * device.multiprocessors;
  for (std::size_t i = 0; i < layout.sequences.size(); ++i) {
    const auto& s = layout.sequences[i];
    attention_task task;
    task.row = s.first_row;
    task.first_position = s.first_position;
    task.blocks_at = blocks_at[i];
    const std::int32_t pairs = s.rows * group;
    const std::int32_t at_once = few(s) ? warp_pairs : device.pairs;
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
}

void round_up(attention_cut& cut, std::size_t sequences) {
  // Without merges every sequence has its one task, or as many as its query heads fill.
  if (cut.merges.empty()) return;
  cut.narrow.resize(rounded_tasks(cut.narrow.size()));
  cut.merges.resize(std::max(cut.merges.size(), sequences));
  cut.states = static_cast<std::int32_t>(cut.narrow.size());
}

cuda_plan::cuda_plan(const step_layout& layout, const rope_table& rope, const attention_shape& shape,
                     const cut_device& device, plan_slots& slots, cudaStream_t on)
    : slots_{slots}, on_{on}, slot_{slots.take()} {
  shape_.rows = static_cast<std::int64_t>(layout.positions.size());
  shape_.sampled = static_cast<std::int64_t>(layout.sampled_rows.size());
  shape_.has_tokens = !layout.token_ids.empty();
  shape_.has_sequences = !layout.sequences.empty();
  shape_.rotation = rope.kind;
  if (rope.kind != rope_kind::none) shape_.pairs = static_cast<std::int32_t>(rope.inverse_frequency.size());

  auto& arrays = slot_->arrays;
  arrays.blocks.clear();
  arrays.blocks_at.clear();
  arrays.row_blocks_at.assign(layout.positions.size(), 0);
  for (const auto& s : layout.sequences) {
    const auto at = static_cast<std::int32_t>(arrays.blocks.size());
    arrays.blocks_at.push_back(at);
    arrays.blocks.insert(arrays.blocks.end(), s.blocks.begin(), s.blocks.end());
    for (std::int32_t r = 0; r < s.rows; ++r) {
      const auto row = static_cast<std::size_t>(s.first_row + r);
      assert(row < arrays.row_blocks_at.size() && layout.positions[row] == s.first_position + r);
      assert(static_cast<std::size_t>(layout.positions[row] / kv_block_tokens) < s.blocks.size());
      arrays.row_blocks_at[row] = at;
    }
  }
  arrays.cut.clear();
  if (shape.kv_heads > 0) cut_attention(arrays.cut, layout, arrays.blocks_at, shape, device);
  if (recordable(layout)) round_up(arrays.cut, layout.sequences.size());
  shape_.narrow = static_cast<std::int64_t>(arrays.cut.narrow.size());
  shape_.wide = static_cast<std::int64_t>(arrays.cut.wide.size());
  shape_.merges = static_cast<std::int64_t>(arrays.cut.merges.size());
  shape_.states = arrays.cut.states;
  put(layout, rope);
}

bool cuda_plan::recordable(const step_layout& layout) const {
  return shape_.rows > 0 && shape_.rows <= most_recorded_rows &&
         layout.sequences.size() == layout.positions.size() &&
         std::all_of(layout.sequences.begin(), layout.sequences.end(),
                     [](const step_sequence& s) { return s.rows == 1; });
}

void cuda_plan::put(const step_layout& layout, const rope_table& rope) {
  const auto& arrays = slot_->arrays;
  packed_arrays packed;
  const auto turns = packed.take(sizeof(float) * 2 * static_cast<std::size_t>(shape_.rows * shape_.pairs));
  const auto frequencies = shape_.pairs > 0 ? packed.add(rope.inverse_frequency) : 0;
  const auto token_ids = packed.add(layout.token_ids);
  const auto positions = packed.add(layout.positions);
  const auto sampled = packed.add(layout.sampled_rows);
  const auto row_blocks = packed.add(arrays.row_blocks_at);
  const auto narrow = packed.add(arrays.cut.narrow);
  const auto wide = packed.add(arrays.cut.wide);
  const auto merges = packed.add(arrays.cut.merges);
  // Last, because its length is not in the shape and must move nothing else.
  const auto blocks = packed.add(arrays.blocks);

  const auto bytes = std::max<std::size_t>(packed.size(), 1);
  void* memory = recordable(layout) ? place_.take(slots_, bytes, on_) : nullptr;
  if (memory == nullptr) memory = slot_->device.at_least(bytes);
  shape_.memory = memory;
  auto* device = static_cast<char*>(memory);
  if (packed.added() > 0) {
    auto* host = static_cast<char*>(slot_->host.at_least(packed.added()));
    packed.write(host);
    check(cudaMemcpyAsync(device + packed.first(), host, packed.added(), cudaMemcpyHostToDevice, on_),
          "cudaMemcpyAsync of a step");
  }
  const auto ints = [&](std::size_t at) { return reinterpret_cast<std::int32_t*>(device + at); };
  token_ids_ = ints(token_ids);
  positions_ = ints(positions);
  sampled_ = ints(sampled);
  blocks_ = ints(blocks);
  row_blocks_at_ = ints(row_blocks);
  narrow_ = reinterpret_cast<const attention_task*>(device + narrow);
  wide_ = reinterpret_cast<const attention_task*>(device + wide);
  merges_ = reinterpret_cast<const attention_merge*>(device + merges);
  turns_ = reinterpret_cast<float*>(device + turns);
  if (shape_.pairs > 0 && shape_.rows > 0) {
    launch_turns(turns_, positions_, reinterpret_cast<const float*>(device + frequencies), shape_.rows,
                 shape_.pairs, rope.magnitude, on_);
  }
}

cuda_plan::~cuda_plan() {
  // An error here is met again by the next call on the device.
  if (cudaEventRecord(slot_->done.handle(), on_) != cudaSuccess) cudaGetLastError();
  slots_.give_back(std::move(slot_));
}

}  // namespace fastserve::kernels::cuda
