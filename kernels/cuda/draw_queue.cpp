#include "kernels/cuda/draw_queue.hpp"

#include <cassert>
#include <cstring>

#include "kernels/cuda/draw.hpp"

namespace fastserve::kernels::cuda {

// The events are of the device that is current when they are made.
draw_queue::draw_queue(int ordinal) : device_{(use_device(ordinal), ordinal)} {}

void draw_queue::start(std::span<const draw_row> rows, tensor_view logits, cudaStream_t on) {
  assert(started_ - finished_ < flights_.size());
  auto& f = flights_[started_ % flights_.size()];
  f.count = rows.size();
  f.asked_bytes = rows.size_bytes();
  const auto drawn_bytes = f.count * sizeof(drawn_row);
  auto* host = static_cast<std::byte*>(f.host.at_least(f.asked_bytes + drawn_bytes));
  auto* device = static_cast<std::byte*>(device_.at_least(f.asked_bytes + drawn_bytes));
  std::memcpy(host, rows.data(), f.asked_bytes);
  check(cudaMemcpyAsync(device, host, f.asked_bytes, cudaMemcpyHostToDevice, on), "cudaMemcpyAsync of draws");
  auto* drawn = reinterpret_cast<drawn_row*>(device + f.asked_bytes);
  launch_draw(drawn, reinterpret_cast<const draw_row*>(device), static_cast<std::int64_t>(f.count), logits,
              on);
  check(cudaMemcpyAsync(host + f.asked_bytes, drawn, drawn_bytes, cudaMemcpyDeviceToHost, on),
        "cudaMemcpyAsync of tokens");
  f.done.record(on);
  last_ = drawn;
  ++started_;
}

bool draw_queue::done() {
  assert(finished_ < started_);
  return oldest().done.passed();
}

void draw_queue::finish(std::span<drawn_row> out) {
  assert(finished_ < started_);
  auto& f = oldest();
  assert(out.size() == f.count);
  ++finished_;  // also where the device has failed: nothing more comes of it
  f.done.wait();
  const auto* host = static_cast<const std::byte*>(f.host.at_least(0));
  std::memcpy(out.data(), host + f.asked_bytes, out.size_bytes());
}

}  // namespace fastserve::kernels::cuda
