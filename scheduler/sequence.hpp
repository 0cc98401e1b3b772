#pragma once

// What the scheduler*.cpp files share; for them alone.

#include <algorithm>
#include <optional>
#include <vector>

#include "scheduler/scheduler.hpp"

namespace fastserve::scheduler {

struct scheduler::sequence {
  // What the policy holds, and the way back from it.
  struct view : policy_item {
    sequence* of = nullptr;
  };

  sequence() { item.of = this; }
  sequence(const sequence&) = delete;
  sequence& operator=(const sequence&) = delete;

  request what;
  view item;
  std::vector<std::int32_t> tokens;  // prompt, then answer
  std::int32_t prompt_tokens = 0;
  std::int32_t asked_tokens = 0;  // what max_tokens was before it was cut to the pool
  std::int32_t dispatched = 0;    // rows whose KV is there or under way; <= tokens.size() + drawing
  std::int32_t computed = 0;      // rows whose step is complete
  std::size_t told = 0;           // blocks that the prefix cache knows
  std::int32_t in_flight = 0;     // micro-batches that hold rows of this sequence
  std::int32_t drawing = 0;       // of them, those that draw: two where it runs ahead
  bool queued = false;            // in the policy's hands
  bool admitted = false;
  bool shared = false;                  // others may hold the block that the next row goes into
  bool counted = false;                 // in decoding_
  std::size_t place = 0;                // in resident_, while it has blocks
  std::optional<finish_reason> ending;  // asked to end while in flight
  std::vector<std::int32_t> blocks;     // at least blocks_for(dispatched)
  std::uint64_t ticket = 0;             // of the last move that touched one of the blocks
  std::vector<std::int32_t> slots;      // of the swap pool: what the first `saved` rows' blocks held
  std::int32_t saved = 0;               // rows; only while there are no blocks
  std::vector<sequence*> choices;       // further ones of this prompt, which wait for its first token
  sequence* first = nullptr;            // the one that this one waits for
  request_times times;

  static sequence& of(policy_item& item) { return *static_cast<view&>(item).of; }
  // Rows that need no computing: what is saved comes back with the first step.
  std::int32_t there() const { return std::max(dispatched, saved); }
  std::int32_t backlog() const { return static_cast<std::int32_t>(tokens.size()) + drawing - there(); }
  // Rows of tokens that are known.
  std::int32_t known() const { return std::min(dispatched, static_cast<std::int32_t>(tokens.size())); }
  bool decodes() const { return backlog() == 1 && dispatched > 0 && dispatched >= prompt_tokens; }
  // In decoding_, which the even share of a micro-batch is taken from: also while its row is in flight.
  bool decoding() const { return !blocks.empty() && !ending && dispatched >= prompt_tokens; }
  std::int32_t answered() const {
    return std::max(static_cast<std::int32_t>(tokens.size()) - prompt_tokens, 0);
  }
  std::int32_t due() const { return what.max_tokens - answered(); }
  // Whether others have to wait until a token of it is known: it, or its choices, begin with it.
  bool holds() const { return !what.runs_ahead || !choices.empty(); }
};

struct scheduler::step {
  step_id id{};
  time begun{};
  std::int32_t rows = 0;
  std::int32_t prefilled = 0;  // of them, rows of prompts
  step_size size;
  bool follows = false;  // formed at once after the last one was complete
  bool full = false;     // with it the pipeline was full
  bool alone = false;    // without it the pipeline was empty
  bool holds = false;    // no step runs ahead of it
  struct part {
    sequence* of;  // null: has ended meanwhile
    request_id id;
    std::int32_t rows;
    bool samples;
  };
  std::vector<part> parts;
  std::vector<std::int32_t> kept;  // blocks of those that have ended, held until it is back
};

}  // namespace fastserve::scheduler
