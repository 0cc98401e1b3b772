#include "actors/front_end.hpp"

#include <utility>

namespace fastserve::actors {

front_end_state::front_end_state(mpi::base_of<front_end_actor>* self, scheduler_actor scheduler,
                                 answer_sink& sink)
    : self_{self}, scheduler_{std::move(scheduler)}, sink_{sink} {}

front_end_actor::behavior_type front_end_state::make_behavior() {
  return {
      [this](const submit& what) { mpi::send(self_, scheduler_, what); },
      [this](const cancel& what) { mpi::send(self_, scheduler_, what); },
      [this](const answer_tokens& step) {
        for (const auto& token : step.tokens) sink_.on_token(token);
      },
      [this](const answer_done& done) { sink_.on_done(done); },
  };
}

}  // namespace fastserve::actors
