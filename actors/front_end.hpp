#pragma once

#include <cstdint>

#include "actors/messages.hpp"

namespace fastserve::actors {

/// What a front end does with answers: console, batch and bench differ in this alone. Called on one thread.
class answer_sink {
 public:
  virtual ~answer_sink() = default;
  virtual void on_token(const answer_token& token) = 0;
  virtual void on_done(const answer_done& done) = 0;
};

/// A front end's way to the engine. Any thread may use it; what one thread gives arrives in that order, and
/// nothing waits. After engine::close_front_ends() nothing happens any more.
class front_end {
 public:
  virtual ~front_end() = default;
  /// The answers go to the sink, as `request.request`.
  virtual void send(submit request) = 0;
  /// Ends a request; its answers end as cancelled. One that is not open: nothing happens.
  virtual void send(cancel request) = 0;
};

}  // namespace fastserve::actors
