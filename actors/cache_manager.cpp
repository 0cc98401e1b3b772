#include "actors/cache_manager.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "scheduler/swap_pool.hpp"

namespace fastserve::actors {

namespace {

constexpr auto copy = static_cast<std::uint8_t>(scheduler::move_kind::copy);
constexpr auto out = static_cast<std::uint8_t>(scheduler::move_kind::out);
constexpr auto in = static_cast<std::uint8_t>(scheduler::move_kind::in);

// Enough to see what a block takes, few enough not to be noticed at the start.
constexpr std::int32_t measured_blocks = 8;

}  // namespace

cache_manager_state::cache_manager_state(mpi::base_of<cache_actor>* self, rank_context& context)
    : self_{self}, context_{context}, stream_{context.backend->make_stream()} {}

cache_actor::behavior_type cache_manager_state::make_behavior() {
  return {
      [this](const kv_need& need) {
        need_ = need;
        executor_ = self_->current_sender();
        store_.reset();
        if (swap_) swap_memory_ = need.shape.layers > 0 ? swap_->take_memory() : kernels::buffer{};
        swap_.reset();
        block_ = {};
      },
      [this](const kv_allotment& allotment) { return make_store(allotment); },
      [this](const move_blocks& order) { move(order); },
  };
}

kv_ready cache_manager_state::make_store(const kv_allotment& allotment) {
  kv_ready ready;
  ready.rank = context_.profile.rank;
  if (allotment.epoch != need_.epoch) {
    ready.error = "rank " + std::to_string(ready.rank) + ": KV memory was allotted for another epoch";
    return ready;
  }
  if (need_.shape.layers == 0) return ready;  // a spare
  auto shape = need_.shape;
  shape.blocks = allotment.blocks;
  ready.bytes = shape.block_bytes() * static_cast<std::uint64_t>(shape.blocks);
  try {
    store_ = context_.backend->make_kv_store(shape);
    swap_ = std::make_unique<swap_store>(*context_.backend, shape.block_bytes(), allotment.memory_slots,
                                         allotment.disk_slots, context_.swap_folder, std::move(swap_memory_));
    if (allotment.disk_slots > 0) block_ = context_.backend->allocate_host(shape.block_bytes());
    measure(ready, allotment);
    mpi::send(self_, caf::actor_cast<executor_actor>(executor_), kv_handle{need_.epoch, store_});
  } catch (const std::bad_alloc&) {
    ready.error = "rank " + std::to_string(ready.rank) + ": no memory for " + std::to_string(ready.bytes) +
                  " bytes of KV cache; lower --kv-tokens";
  } catch (const std::exception& e) {
    ready.error = "rank " + std::to_string(ready.rank) + ": " + e.what();
  }
  return ready;
}

// What a block takes one way: a few there and back, the second time, when the memory has been touched.
void cache_manager_state::measure(kv_ready& ready, const kv_allotment& allotment) {
  const auto time_of = [&](std::int32_t first_slot, std::int32_t slots) -> std::int64_t {
    const auto count = std::min({slots, allotment.blocks, measured_blocks});
    if (count == 0) return 0;
    std::int64_t spent = 0;
    for (int round = 0; round < 2; ++round) {
      const auto start = std::chrono::steady_clock::now();
      for (std::int32_t i = 0; i < count; ++i) move(block_move{out, i, first_slot + i});
      for (std::int32_t i = 0; i < count; ++i) move(block_move{in, i, first_slot + i});
      stream_->synchronize();
      spent = (std::chrono::steady_clock::now() - start).count();
    }
    return spent / (2 * count);
  };
  ready.memory_block_ns = time_of(0, allotment.memory_slots);
  ready.disk_block_ns = time_of(allotment.memory_slots, allotment.disk_slots);
}

void cache_manager_state::move(const move_blocks& order) {
  if (store_ && order.epoch == need_.epoch) {
    try {
      for (const auto& m : order.moves) move(m);
      stream_->synchronize();
    } catch (const std::exception& e) {
      step_result failure;
      failure.epoch = order.epoch;
      failure.error = "rank " + std::to_string(context_.profile.rank) + ": " + e.what();
      mpi::send(self_, caf::actor_cast<scheduler_actor>(self_->current_sender()), std::move(failure));
    }
  }
  context_.moves->done(order.epoch, order.ticket);
}

void cache_manager_state::move(const block_move& what) {
  auto& device = *context_.backend;
  if (what.kind == copy) {
    device.copy_block(*store_, what.block, what.other, *stream_);
    return;
  }
  auto* slot = swap_->memory(what.other);
  auto* host = slot != nullptr ? slot : static_cast<std::byte*>(block_.data());
  if (what.kind == out) {
    device.read_block(host, *store_, what.block, *stream_);
    if (slot != nullptr) return;
    stream_->synchronize();
    swap_->write(what.other, host);
  } else {
    if (slot == nullptr) swap_->read(what.other, host);
    device.write_block(*store_, what.block, host, *stream_);
    if (slot == nullptr) stream_->synchronize();  // the next block takes its place
  }
}

}  // namespace fastserve::actors
