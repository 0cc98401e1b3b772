#include "actors/cache_manager.hpp"

#include <exception>
#include <new>
#include <string>

namespace fastserve::actors {

cache_manager_state::cache_manager_state(mpi::base_of<cache_actor>* self, rank_context& context)
    : self_{self}, context_{context}, stream_{context.backend->make_stream()} {}

cache_actor::behavior_type cache_manager_state::make_behavior() {
  return {
      [this](const kv_need& need) {
        need_ = need;
        executor_ = self_->current_sender();
        store_.reset();
      },
      [this](const kv_allotment& allotment) { return make_store(allotment); },
      [this](const copy_blocks& order) { copy(order); },
  };
}

kv_ready cache_manager_state::make_store(const kv_allotment& allotment) {
  kv_ready ready{context_.profile.rank, 0, {}};
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
    mpi::send(self_, caf::actor_cast<executor_actor>(executor_), kv_handle{need_.epoch, store_});
  } catch (const std::bad_alloc&) {
    ready.error = "rank " + std::to_string(ready.rank) + ": no memory for " + std::to_string(ready.bytes) +
                  " bytes of KV cache; lower --kv-tokens";
  } catch (const std::exception& e) {
    ready.error = "rank " + std::to_string(ready.rank) + ": " + e.what();
  }
  return ready;
}

void cache_manager_state::copy(const copy_blocks& order) {
  if (!store_ || order.epoch != need_.epoch) return;
  for (const auto& c : order.copies) context_.backend->copy_block(*store_, c.to, c.from, *stream_);
  stream_->synchronize();
}

}  // namespace fastserve::actors
