#include "actors/front_end_actor.hpp"

#include <utility>

namespace fastserve::actors {

namespace {

class handle_front_end : public front_end {
 public:
  explicit handle_front_end(front_end_actor actor) : actor_{std::move(actor)} {}
  void send(submit request) override { mpi::anon_send(actor_, std::move(request)); }
  void send(cancel request) override { mpi::anon_send(actor_, request); }

 private:
  const front_end_actor actor_;
};

}  // namespace

std::shared_ptr<front_end> front_end_of(front_end_actor actor) {
  return std::make_shared<handle_front_end>(std::move(actor));
}

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
