#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "actors/front_end.hpp"
#include "actors/protocol.hpp"

namespace fastserve::actors {

/// Submits in its own name and passes the answers to a sink.
class front_end_state {
 public:
  static constexpr const char* name = "front end";

  front_end_state(mpi::base_of<front_end_actor>* self, scheduler_actor scheduler, answer_sink& sink);
  front_end_actor::behavior_type make_behavior();

 private:
  mpi::base_of<front_end_actor>* self_;
  scheduler_actor scheduler_;
  answer_sink& sink_;
};

/// What its owner has of such an actor.
std::shared_ptr<front_end> front_end_of(front_end_actor actor);

/// Calls a function for every report.
class observer_state {
 public:
  static constexpr const char* name = "observer";

  observer_state(mpi::base_of<observer_actor>*, std::function<void(const load_progress&)> report)
      : report_{std::move(report)} {}
  observer_actor::behavior_type make_behavior() {
    return {[this](const load_progress& p) { report_(p); }};
  }

 private:
  std::function<void(const load_progress&)> report_;
};

}  // namespace fastserve::actors
