#pragma once

#include <boost/test/unit_test.hpp>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "../support/sanitized.hpp"
#include "scheduler/replica_set.hpp"

namespace sched = fastserve::scheduler;
using sched::request_id;
using std::chrono::milliseconds;

/// The policies that random operations go through: under sanitizers the one with the fewest states and the
/// one with the most.
inline std::vector<std::string> policies() {
  if (fastserve::test::sanitized) return {"fcfs", "sj-mlfq"};
  return sched::policy_names();
}

inline sched::limits small(std::int32_t stages = 1) {
  sched::limits l;
  l.stages = stages;
  l.max_batch = 8;
  l.token_budget = 64;
  l.kv_blocks = 64;
  l.max_context = 256;
  return l;
}

inline sched::request ask(std::uint64_t id, std::size_t prompt, std::int32_t max_tokens) {
  sched::request r;
  r.id = request_id{id};
  for (std::size_t i = 0; i < prompt; ++i) r.prompt.push_back(static_cast<std::int32_t>(id * 1000 + i));
  r.max_tokens = max_tokens;
  return r;
}

// Draws a token for every sequence of a batch that wants one.
inline std::vector<sched::drawn_token> draw(const sched::micro_batch& b, std::int32_t token = 5) {
  std::vector<sched::drawn_token> out;
  for (const auto& e : b.entries)
    if (e.samples) out.push_back({e.id, token});
  return out;
}

/// The memory of a pipeline's stages: every slot of every block remembers which text, from its first token
/// on, it was computed for. A row may only be computed when all rows before it are in the blocks it was
/// given. Each stage does its steps in order and its moves in order, but the two beside each other, as early
/// or as late as chance has it: a step waits for the moves of its ticket alone, and for the stage before.
class stage_memories {
 public:
  struct work {
    std::size_t first = 0;
    std::vector<std::uint64_t> text;  // [rows of the sequence so far, those of this step last]
    std::vector<std::int32_t> blocks;
  };
  struct step {
    std::uint64_t ticket = 0;
    std::vector<work> parts;
  };

  explicit stage_memories(const sched::limits& l) { reset(l); }
  void reset(const sched::limits& l) {
    stages_.assign(static_cast<std::size_t>(l.stages), {});
    for (auto& s : stages_) {
      s.kv.assign(static_cast<std::size_t>(l.kv_blocks) * 16, 0);
      s.swap.assign(static_cast<std::size_t>(l.swap.memory_slots + l.swap.disk_slots) * 16, 0);
    }
    steps_.clear();
    orders_.clear();
    completed_ = 0;
  }

  void add(sched::move_order order) {
    BOOST_REQUIRE(orders_.empty() || order.ticket > orders_.back().ticket);
    orders_.push_back(std::move(order));
  }
  void add(step s) { steps_.push_back(std::move(s)); }

  /// Something happens somewhere.
  void progress(std::mt19937& random) {
    const auto i = random() % stages_.size();
    if (random() % 2 == 0)
      move_once(stages_[i]);
    else
      run_once(i);
  }
  /// The oldest step comes out of the last stage.
  void complete() {
    for (std::size_t i = 0; i < stages_.size(); ++i)
      while (stages_[i].steps <= completed_) BOOST_REQUIRE(run_once(i));
    ++completed_;
  }

 private:
  struct stage {
    std::vector<std::uint64_t> kv, swap;  // [block][16], [slot][16]
    std::size_t steps = 0, orders = 0;    // done
  };

  bool move_once(stage& at) {
    if (at.orders == orders_.size()) return false;
    for (const auto& m : orders_[at.orders].moves) {
      auto* block = &at.kv.at(static_cast<std::size_t>(m.block) * 16);
      auto& others = m.kind == sched::move_kind::copy ? at.kv : at.swap;
      auto* other = &others.at(static_cast<std::size_t>(m.other) * 16);
      if (m.kind == sched::move_kind::out)
        std::copy_n(block, 16, other);
      else
        std::copy_n(other, 16, block);
    }
    ++at.orders;
    return true;
  }

  bool run_once(std::size_t i) {
    auto& at = stages_[i];
    if (at.steps == steps_.size() || (i > 0 && stages_[i - 1].steps == at.steps)) return false;
    const auto& s = steps_[at.steps++];
    while (at.orders < orders_.size() && orders_[at.orders].ticket <= s.ticket) move_once(at);
    for (const auto& w : s.parts)
      for (std::size_t p = 0; p < w.text.size(); ++p) {
        auto& slot = at.kv.at(static_cast<std::size_t>(w.blocks[p / 16]) * 16 + p % 16);
        if (p >= w.first)
          slot = w.text[p];
        else if (slot != w.text[p])
          BOOST_FAIL("stage " << i << ", block " << w.blocks[p / 16] << ": row " << p
                              << " is another text's");
      }
    return true;
  }

  std::vector<stage> stages_;
  std::vector<step> steps_;
  std::vector<sched::move_order> orders_;
  std::size_t completed_ = 0;
};

/// Drives the schedulers of one pipeline or several at random and holds them to their promises.
class follower {
 public:
  follower(const sched::limits& l, unsigned seed, std::size_t pipelines = 1)
      : scheduler_{std::vector(pipelines, l)},
        lanes_(pipelines, lane{l, stage_memories{l}, {}}),
        random_{seed} {}

  /// With `restarts` pipelines are lost now and then, and others take over, sometimes only after a while; of
  /// several, all but the first may also be given up.
  void run(int operations, bool restarts = false, std::size_t most_choices = 1) {
    most_choices_ = most_choices;
    for (int i = 0; i < operations; ++i) {
      now_ += milliseconds{1 + random_() % 20};
      const auto dice = random_() % 100;
      if (restarts && random_() % 50 == 0)
        disturb();
      else if (dice < 10 && live_.size() < 40)
        add();
      else if (dice < 12 && !live_.empty())
        cancel();
      else if (dice < 60)
        step();
      else
        complete();
      for (auto n = random_() % 4; n > 0; --n) any().memories.progress(random_);
      if (i % 2 == 0) scheduler_.check_integrity();
    }
    for (std::size_t i = 0; i < lanes_.size(); ++i)
      if (!scheduler_.stands(i) && (i == 0 || random_() % 2 == 0)) restore(i);
    for (int rounds = 0; !scheduler_.idle(); ++rounds) {
      now_ += milliseconds{1};
      for (std::size_t i = 0; i < lanes_.size(); ++i)
        if (!step(i)) complete(i);
      BOOST_REQUIRE_LT(rounds, 100'000);
    }
    scheduler_.check_integrity();
    BOOST_TEST(ended_ == next_id_);
    BOOST_TEST(live_.empty());
    const auto c = scheduler_.count();
    BOOST_TEST(c.kv_blocks_free == c.kv_blocks);
    BOOST_TEST(c.swap_slots_free == c.swap_slots);
  }
  const sched::replica_set& under_test() const { return scheduler_; }
  int restarts() const { return restarts_; }
  int given_up() const { return given_up_; }
  /// Rows of tokens that were not known, and those that turned out to be behind an answer's end.
  int rows_ahead() const { return rows_ahead_; }
  int rows_for_nothing() const { return rows_for_nothing_; }

 private:
  static constexpr std::int32_t stop_token = 7;

  struct request {
    std::vector<std::int32_t> tokens;
    std::size_t prompt = 0;
    std::int32_t due = 0;
    bool cancelled = false;
    std::uint64_t salt = 0;
    bool runs_ahead = true;
    std::vector<std::int32_t> coming = {};  // tokens that steps in flight draw for it
  };
  struct flight {
    sched::step_id step;
    std::vector<sched::drawn_token> drawn;
    bool followed = false;
  };
  struct lane {
    sched::limits limits;
    stage_memories memories;
    std::deque<flight> flying;
  };
  lane& any() { return lanes_[random_() % lanes_.size()]; }

  void add() {
    sched::request r;
    r.id = request_id{++next_id_};
    // Few beginnings, so that prefixes are shared.
    std::mt19937 text{static_cast<unsigned>(random_() % 4)};
    const auto common = random_() % 100;
    for (std::size_t i = 0; i < common; ++i) r.prompt.push_back(static_cast<std::int32_t>(text() % 50));
    for (std::size_t i = random_() % 40; i < 41; ++i)
      r.prompt.push_back(static_cast<std::int32_t>(random_() % 50));
    r.max_tokens = static_cast<std::int32_t>(1 + random_() % 60);
    r.priority = static_cast<std::int32_t>(random_() % 2);
    r.cache_salt = random_() % 2;
    if (lanes_.front().limits.ahead) {
      r.stop_ids = {stop_token};
      r.runs_ahead = random_() % 8 != 0;
    }
    live_.emplace(r.id, request{r.prompt, r.prompt.size(), r.max_tokens, false, r.cache_salt, r.runs_ahead});
    for (auto n = random_() % most_choices_; n > 0; --n) {
      r.choices.push_back(request_id{++next_id_});
      live_.emplace(r.choices.back(), live_.at(r.id));
    }
    BOOST_REQUIRE(scheduler_.add(r, now_).empty());
  }

  void cancel() {
    const auto it = std::next(live_.begin(), static_cast<long>(random_() % live_.size()));
    it->second.cancelled = true;
    if (auto p = scheduler_.finish(it->first, sched::finish_reason::cancelled, now_)) settle(*p);
  }

  void disturb() {
    const auto i = random_() % lanes_.size();
    if (!scheduler_.stands(i)) {
      restore(i);
      return;
    }
    for (const auto& f : lanes_[i].flying)
      for (const auto& d : f.drawn)
        if (const auto it = live_.find(d.id); it != live_.end()) it->second.coming.clear();
    lanes_[i].flying.clear();
    const auto ended =
        i > 0 && random_() % 4 == 0 ? (++given_up_, scheduler_.give_up(i, now_)) : scheduler_.lose(i, now_);
    for (const auto& p : ended) settle(p);
    scheduler_.check_integrity();
    if (lanes_.size() == 1 || random_() % 2 == 0) restore(i);
  }

  // Other numbers of stages and blocks; no slot holds anything any more.
  void restore(std::size_t i) {
    auto& limits = lanes_[i].limits;
    limits.stages = static_cast<std::int32_t>(1 + random_() % 4);
    limits.kv_blocks = static_cast<std::int32_t>(20 + random_() % 20);
    if (limits.swap.any()) limits.swap.memory_slots = static_cast<std::int32_t>(random_() % 40);
    lanes_[i].memories.reset(limits);
    const auto ended =
        scheduler_.restore(i, limits.stages, limits.kv_blocks, now_, limits.swap, limits.ahead);
    for (const auto& p : ended) settle(p);
    scheduler_.check_integrity();
    ++restarts_;
  }

  void step() { step(random_() % lanes_.size()); }
  void complete() { complete(random_() % lanes_.size()); }

  bool step(std::size_t i) {
    const auto b = scheduler_.schedule(i, now_);
    // Nothing but a step's end would wake it.
    if (lanes_.size() == 1 && scheduler_.stands(i) && !scheduler_.idle())
      BOOST_REQUIRE_MESSAGE(b || !lanes_[i].flying.empty(), "requests wait and nothing is in flight");
    stage_memories::step work;
    if (b) work = check(*b, lanes_[i]);
    if (auto order = scheduler_.take_moves(i)) lanes_[i].memories.add(std::move(*order));
    if (b) lanes_[i].memories.add(std::move(work));
    return b.has_value();
  }

  stage_memories::step check(const sched::micro_batch& b, lane& in) {
    BOOST_REQUIRE_LE(b.rows, in.limits.token_budget);
    BOOST_REQUIRE_LE(b.entries.size(), static_cast<std::size_t>(in.limits.max_batch));
    const bool ahead = in.limits.ahead && in.limits.stages == 1;
    if (ahead && !in.flying.empty()) BOOST_REQUIRE(in.flying.back().followed);
    BOOST_REQUIRE(ahead || !b.followed);
    stage_memories::step out{b.ticket, {}};
    flight f{b.step, {}, b.followed};
    std::set<request_id> once;
    std::int32_t rows = 0;
    for (const auto& e : b.entries) {
      BOOST_REQUIRE(once.insert(e.id).second);
      auto& r = live_.at(e.id);
      const auto first = static_cast<std::size_t>(e.first_position);
      const auto last = first + e.tokens.size();
      auto tokens = r.tokens;
      if (r.coming.empty()) {
        BOOST_REQUIRE_LE(last, tokens.size());
        BOOST_REQUIRE(std::equal(e.tokens.begin(), e.tokens.end(), tokens.begin() + e.first_position));
      } else {
        // The one step in flight draws the token, and the answer is not sure to end with it.
        BOOST_REQUIRE((ahead && r.runs_ahead && in.flying.size() == 1 && r.coming.size() == 1));
        BOOST_REQUIRE_EQUAL(first, tokens.size());
        BOOST_REQUIRE((e.tokens.size() == 1 && e.tokens[0] == sched::coming_token && e.samples));
        BOOST_REQUIRE_LT(tokens.size() + 1 - r.prompt, static_cast<std::size_t>(r.due));
        tokens.push_back(r.coming.front());
        ++rows_ahead_;
      }
      BOOST_REQUIRE_EQUAL(e.samples, last == tokens.size());
      BOOST_REQUIRE_GE(static_cast<std::int32_t>(e.blocks.size()),
                       sched::blocks_for(static_cast<std::int64_t>(last)));
      stage_memories::work w{first, {}, {e.blocks.begin(), e.blocks.end()}};
      auto text = r.salt;
      for (std::size_t p = 0; p < last; ++p) {
        text = text * 1'000'003 + static_cast<std::uint64_t>(tokens[p]) + 1;
        w.text.push_back(text);
      }
      out.parts.push_back(std::move(w));
      rows += static_cast<std::int32_t>(e.tokens.size());
      if (e.samples) {
        BOOST_REQUIRE(r.runs_ahead || !f.followed);
        f.drawn.push_back({e.id, static_cast<std::int32_t>(random_() % 50)});
        r.coming.push_back(f.drawn.back().token);
        // Now and then the same token, so that answers stay alike for a while.
        for (const auto id : e.choices) {
          BOOST_REQUIRE(e.tokens.size() + first == live_.at(id).prompt && live_.at(id).coming.empty());
          const auto token =
              random_() % 2 == 0 ? f.drawn.back().token : static_cast<std::int32_t>(random_() % 50);
          f.drawn.push_back({id, token});
          live_.at(id).coming.push_back(token);
        }
      }
    }
    BOOST_REQUIRE_EQUAL(rows, b.rows);
    in.flying.push_back(std::move(f));
    BOOST_REQUIRE_LE(static_cast<std::int32_t>(in.flying.size()), in.limits.stages + (ahead ? 1 : 0));
    return out;
  }

  void complete(std::size_t i) {
    auto& lane = lanes_[i];
    if (lane.flying.empty()) return;
    lane.memories.complete();
    const auto f = std::move(lane.flying.front());
    lane.flying.pop_front();
    for (const auto& d : f.drawn) {
      const auto it = live_.find(d.id);
      if (it == live_.end())
        ++rows_for_nothing_;
      else
        it->second.coming.erase(it->second.coming.begin());
    }
    for (const auto& p : scheduler_.complete(i, f.step, f.drawn, now_)) settle(p);
  }

  void settle(const sched::progress& p) {
    auto& r = live_.at(p.id);
    if (p.token >= 0) r.tokens.push_back(p.token);
    if (!p.finished) return;
    const auto answered = static_cast<std::int32_t>(r.tokens.size() - r.prompt);
    BOOST_REQUIRE_EQUAL(answered, p.completion_tokens);
    const bool stopped = p.finished == sched::finish_reason::stop;
    if (stopped) BOOST_REQUIRE_EQUAL(r.tokens.back(), stop_token);
    if (!r.cancelled && !stopped) BOOST_REQUIRE_EQUAL(answered, r.due);
    live_.erase(p.id);
    ++ended_;
  }

  sched::replica_set scheduler_;
  std::vector<lane> lanes_;
  std::mt19937 random_;
  std::map<request_id, request> live_;
  sched::time now_{};
  std::uint64_t next_id_ = 0;
  std::uint64_t ended_ = 0;
  int restarts_ = 0;
  int given_up_ = 0;
  int rows_ahead_ = 0;
  int rows_for_nothing_ = 0;
  std::size_t most_choices_ = 1;
};
