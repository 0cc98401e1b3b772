#pragma once

#include <memory>

#include "actors/protocol.hpp"
#include "actors/rank_context.hpp"
#include "actors/swap_store.hpp"

namespace fastserve::actors {

/// Owns the KV storage of the rank's layers: makes it to the size that the leader allots, hands it to the
/// executor, moves blocks beside the executor's steps. Which block is whose is the scheduler's business.
class cache_manager_state {
 public:
  static constexpr const char* name = "cache manager";

  cache_manager_state(mpi::base_of<cache_actor>* self, rank_context& context);
  cache_actor::behavior_type make_behavior();

 private:
  kv_ready make_store(const kv_allotment& allotment);
  void measure(kv_ready& ready, const kv_allotment& allotment);
  void move(const move_blocks& order);
  void move(const block_move& what);

  mpi::base_of<cache_actor>* self_;
  rank_context& context_;
  std::unique_ptr<kernels::stream> stream_;
  kv_need need_;
  caf::strong_actor_ptr executor_;
  std::shared_ptr<kernels::kv_store> store_;
  std::unique_ptr<swap_store> swap_;
  kernels::buffer swap_memory_;  // of the last epoch's store
  kernels::buffer block_;        // on its way to or from disk
};

}  // namespace fastserve::actors
