#pragma once

#include <memory>

#include "actors/protocol.hpp"
#include "actors/rank_context.hpp"

namespace fastserve::actors {

/// Owns the KV storage of the rank's layers: makes it to the size that the leader allots, hands it to the
/// executor, copies blocks. Which block is whose is the scheduler's business.
class cache_manager_state {
 public:
  static constexpr const char* name = "cache manager";

  cache_manager_state(mpi::base_of<cache_actor>* self, rank_context& context);
  cache_actor::behavior_type make_behavior();

 private:
  kv_ready make_store(const kv_allotment& allotment);
  void copy(const copy_blocks& order);

  mpi::base_of<cache_actor>* self_;
  rank_context& context_;
  std::unique_ptr<kernels::stream> stream_;
  kv_need need_;
  caf::strong_actor_ptr executor_;
  std::shared_ptr<kernels::kv_store> store_;
};

}  // namespace fastserve::actors
