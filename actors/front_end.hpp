#pragma once

#include <functional>
#include <memory>

#include "actors/protocol.hpp"

namespace fastserve::actors {

/// What a front end does with answers: console, batch and bench differ in this alone. Called on one thread.
class answer_sink {
 public:
  virtual ~answer_sink() = default;
  virtual void on_token(const answer_token& token) = 0;
  virtual void on_done(const answer_done& done) = 0;
};

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
