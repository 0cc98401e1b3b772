#include "actors/executor.hpp"

#include <chrono>
#include <thread>
#include <utility>

namespace fastserve::actors {

namespace {

// Between two looks for the tokens of a step that others run ahead of. They are not urgent: while the device
// is busy with the next step, the one after it is due at the end of that.
constexpr std::chrono::microseconds between_looks{20};

}  // namespace

executor_state::executor_state(mpi::base_of<executor_actor>* self, rank_context& context, cache_actor cache)
    : self_{self}, shard_{context}, cache_{std::move(cache)} {}

executor_actor::behavior_type executor_state::make_behavior() {
  return {
      [this](const link_request&) { return shard_.offer_link(); },
      [this](const stage_assignment& place) {
        auto ready = shard_.load(place);
        if (ready.error.empty()) mpi::send(self_, cache_, shard_.need());
        return ready;
      },
      [this](const kv_handle& kv) { shard_.use(kv); },
      [this](const micro_batch& work) { on_step(work); },
      [this](const tick&) { on_tick(); },
      [this](const executor_stats_request&) { return shard_.take_stats(); },
  };
}

void executor_state::on_step(const micro_batch& work) {
  scheduler_ = caf::actor_cast<scheduler_actor>(self_->current_sender());
  answer(shard_.run(work));
}

void executor_state::on_tick() {
  ticks_ = false;
  auto results = shard_.collect();
  if (results.empty() && shard_.waits()) std::this_thread::sleep_for(between_looks);
  answer(std::move(results));
}

// And looks again behind the messages that are there by now, among which may be the next step.
void executor_state::answer(std::vector<step_result> results) {
  for (auto& r : results) mpi::send(self_, scheduler_, std::move(r));
  if (ticks_ || !shard_.waits()) return;
  ticks_ = true;
  mpi::send(self_, executor_actor{self_}, tick{});
}

}  // namespace fastserve::actors
