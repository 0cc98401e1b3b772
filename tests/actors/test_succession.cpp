#include <boost/test/unit_test.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "actors/standing_stages.hpp"
#include "actors/succession.hpp"
#include "actors/write_lease.hpp"

namespace act = fastserve::actors;
using namespace std::chrono_literals;

namespace {

using time_point = act::succession::time;

// Ranks with their views, a network that delays, ranks that die, stop, and links that break; a step is a
// heartbeat. The monitor of a real leader is there as well: it declares dead whom it has not heard for the
// deadline.
class cluster {
 public:
  static constexpr auto beat = 100ms;
  static constexpr auto deadline = 1000ms;

  cluster(int ranks, bool same_machine, std::uint32_t seed = 1) : random_{seed} {
    for (int r = 0; r < ranks; ++r) {
      act::succession::setup s;
      s.rank = r;
      s.ranks = ranks;
      s.heirs = true;
      s.deadline = deadline;
      s.fence = 5s;
      s.grace = 60s;
      if (same_machine) s.gone = [this](int x) { return !at(x).alive; };
      ranks_.push_back({std::make_unique<act::succession>(s, 0s), true, false, r == 0, 0ms, {}, {}});
    }
    for (auto& r : ranks_) r.heard.assign(ranks_.size(), 0ms);
  }

  void kill(int rank) { at(rank).alive = false; }
  void stop(int rank, bool stopped) { at(rank).stopped = stopped; }
  void cut(std::set<int> island) { island_ = std::move(island); }
  bool alive(int rank) { return at(rank).alive; }
  std::vector<int> leaders() {
    std::vector<int> out;
    for (int r = 0; r < size(); ++r)
      if (at(r).alive && at(r).leads) out.push_back(r);
    return out;
  }
  bool all_follow(int leader) {
    for (auto& r : ranks_)
      if (r.alive && !r.leads && r.view->leader() != leader) return false;
    return true;
  }
  time_point now() const { return now_; }

  void run(std::chrono::milliseconds for_so_long) {
    for (const auto end = now_ + for_so_long; now_ < end;) {
      now_ += 10ms;
      for (int r = 0; r < size(); ++r) {
        auto& me = at(r);
        if (!me.alive || me.stopped) continue;
        while (!me.inbox.empty() && me.inbox.front().when <= now_) {
          const auto m = me.inbox.front();
          me.inbox.pop_front();
          take(r, m);
          if (!me.alive) break;
        }
        if (me.alive && now_ >= me.next) {
          me.next = now_ + beat;
          tick(r);
        }
      }
    }
  }

 private:
  enum class kind { word, sign, loss, call, reply };
  struct mail {
    time_point when;
    int from;
    kind what;
    int value;
    bool flag;
  };
  struct one {
    std::unique_ptr<act::succession> view;
    bool alive;
    bool stopped;
    bool leads;
    time_point next;
    std::vector<time_point> heard;
    std::deque<mail> inbox;
    std::set<int> lost{};
  };

  int size() const { return static_cast<int>(ranks_.size()); }
  one& at(int r) { return ranks_.at(static_cast<std::size_t>(r)); }
  bool reach(int a, int b) const { return island_.contains(a) == island_.contains(b); }
  void send(int from, int to, kind what, int value, bool flag = false) {
    if (!reach(from, to) || !at(to).alive || at(from).lost.contains(to)) return;
    const auto delay = 1ms * std::uniform_int_distribution{1, 20}(random_);
    auto when = now_ + delay;
    if (!at(to).inbox.empty()) when = std::max(when, at(to).inbox.back().when);
    at(to).inbox.push_back({when, from, what, value, flag});
  }
  void take(int r, const mail& m) {
    auto& me = at(r);
    if (me.lost.contains(m.from)) {  // the pump tells it that it is fenced
      if (reach(r, m.from)) at(m.from).alive = false;
      return;
    }
    switch (m.what) {
      case kind::word: {
        const auto before = me.view->leader();
        const auto v = me.view->heard(m.value, now_);
        if (v == act::succession::verdict::passed_over) me.alive = false;
        if (v == act::succession::verdict::follow)
          for (int x = before; x < m.value; ++x) me.lost.insert(x);
        break;
      }
      case kind::sign:
        me.heard.at(static_cast<std::size_t>(m.from)) = now_;
        break;
      case kind::loss:
        if (m.value == r) break;
        me.view->lost(m.value);
        me.lost.insert(m.value);
        break;
      case kind::call:
        send(r, m.from, kind::reply, r, me.view->silent(now_));
        break;
      case kind::reply:
        me.view->answered(m.value, m.flag);
        look(r);
        break;
    }
  }
  void look(int r) {
    auto& me = at(r);
    const auto o = me.view->look(now_);
    if (o.fence) me.alive = false;
    for (const auto c : o.calls) send(r, c, kind::call, r);
    if (!o.lead) return;
    me.leads = true;
    for (int x = 0; x < size(); ++x) {
      if (x < r) me.lost.insert(x);
      me.heard.at(static_cast<std::size_t>(x)) = now_ + deadline;
    }
  }
  void tick(int r) {
    auto& me = at(r);
    look(r);
    if (!me.alive) return;
    if (!me.leads) {
      send(r, me.view->leader(), kind::sign, r);
      return;
    }
    for (int x = 0; x < size(); ++x) {
      if (x == r || me.lost.contains(x)) continue;
      if (now_ - me.heard.at(static_cast<std::size_t>(x)) <= deadline) continue;
      me.lost.insert(x);
      for (int y = 0; y < size(); ++y)
        if (y != r) send(r, y, kind::loss, x);
    }
    for (int x = 0; x < size(); ++x)
      if (x != r) send(r, x, kind::word, r);
  }

  std::vector<one> ranks_;
  std::set<int> island_;
  std::mt19937 random_;
  time_point now_{};
};

using list = std::vector<int>;

}  // namespace

BOOST_AUTO_TEST_SUITE(succession_suite)

BOOST_AUTO_TEST_CASE(the_lowest_rank_left_takes_over_in_time) {
  cluster c{4, false};
  c.run(3s);
  BOOST_TEST(c.leaders() == list{0}, boost::test_tools::per_element());
  c.kill(0);
  c.run(1000ms);
  BOOST_TEST(c.leaders().empty());
  c.run(300ms);  // a deadline after the last word, a heartbeat, the others' answers
  BOOST_TEST(c.leaders() == list{1}, boost::test_tools::per_element());
  c.run(1s);
  BOOST_TEST(c.all_follow(1));
  c.kill(1);
  c.run(2s);
  BOOST_TEST(c.leaders() == list{2}, boost::test_tools::per_element());
}

// The silence of a dead leader is not one of its successor's: who hears the new leader just before its own
// deadline would grant it four times that.
BOOST_AUTO_TEST_CASE(the_death_of_a_new_leader_is_seen_as_soon) {
  act::succession::setup s;
  s.rank = 2;
  s.ranks = 3;
  s.heirs = true;
  s.deadline = 1s;
  s.fence = 5s;
  s.grace = 60s;
  act::succession view{s, 0s};
  time_point t = 0s;
  bool leads = false;
  const auto run = [&](int leader, time_point end) {
    for (; t < end && !leads; t += 100ms) {
      if (leader >= 0) view.heard(leader, t);
      leads = view.look(t).lead;
    }
  };
  run(0, 2s);
  run(-1, 2900ms);
  run(1, 4s);
  BOOST_TEST(view.leader() == 1);
  run(-1, 8s);
  BOOST_TEST(leads);
  BOOST_TEST((t <= 5200ms));
}

BOOST_AUTO_TEST_CASE(those_that_die_with_the_leader_are_passed_over) {
  cluster c{7, false};
  c.run(2s);
  for (const int r : {0, 1, 2}) c.kill(r);  // of the six others four are left
  c.run(3s);
  BOOST_TEST(c.leaders() == list{3}, boost::test_tools::per_element());
  BOOST_TEST(c.all_follow(3));
  for (const int r : {4, 5, 6}) BOOST_TEST(c.alive(r));
}

// Only where it can be seen that the others are dead.
BOOST_AUTO_TEST_CASE(the_last_one_leads_on_one_machine_and_ends_elsewhere) {
  for (const bool same : {true, false}) {
    cluster c{4, same};
    c.run(2s);
    for (const int r : {0, 1, 2}) c.kill(r);
    c.run(8s);
    BOOST_TEST(c.leaders() == (same ? list{3} : list{}), boost::test_tools::per_element());
    BOOST_TEST(c.alive(3) == same);
  }
}

// Cut off, it hears nobody: it does not lead, and ends.
BOOST_AUTO_TEST_CASE(a_standby_that_is_cut_off_does_not_lead) {
  cluster c{3, false};
  c.run(2s);
  c.cut({1});
  c.run(8s);
  BOOST_TEST(c.leaders() == list{0}, boost::test_tools::per_element());
  BOOST_TEST(!c.alive(1));
  BOOST_TEST(c.alive(2));
}

BOOST_AUTO_TEST_CASE(a_leader_that_is_cut_off_is_succeeded_and_ends_when_it_returns) {
  cluster c{4, false};
  c.run(2s);
  c.cut({0});
  c.run(3s);
  BOOST_TEST(c.leaders() == (list{0, 1}), boost::test_tools::per_element());  // 0 for itself alone
  BOOST_TEST(c.all_follow(1));
  c.cut({});
  // It has taken all others for dead and says nothing to them; they do not listen to it.
  c.run(2s);
  BOOST_TEST(c.all_follow(1));
}

BOOST_AUTO_TEST_CASE(a_leader_that_was_stopped_ends) {
  cluster c{4, false};
  c.run(2s);
  c.stop(0, true);
  c.run(3s);
  BOOST_TEST(c.leaders() == (list{0, 1}), boost::test_tools::per_element());
  c.stop(0, false);
  c.run(1s);
  BOOST_TEST(!c.alive(0));
  BOOST_TEST(c.leaders() == list{1}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(short_silence_changes_nothing) {
  cluster c{4, false};
  c.run(2s);
  c.stop(0, true);
  c.run(700ms);
  c.stop(0, false);
  c.run(3s);
  BOOST_TEST(c.leaders() == list{0}, boost::test_tools::per_element());
  BOOST_TEST(c.all_follow(0));
}

BOOST_AUTO_TEST_CASE(without_heirs_ranks_end) {
  act::succession::setup s;
  s.rank = 1;
  s.ranks = 2;
  s.deadline = 1s;
  s.fence = 5s;
  s.grace = 10s;
  act::succession one{s, 0s};
  one.heard(0, 0s);
  bool fenced = false;
  auto now = 0ms;
  for (; now < 7s && !fenced; now += 100ms) {
    const auto o = one.look(now);
    BOOST_TEST(!o.lead);
    BOOST_TEST(o.calls.empty());
    fenced = o.fence;
  }
  BOOST_TEST((fenced && now > 5s && now <= 5300ms));
}

// Whoever dies in whatever order: at last the lowest one left leads, all others follow it, and no other
// leads.
BOOST_AUTO_TEST_CASE(random_deaths) {
  std::mt19937 random{7};
  for (std::uint32_t round = 0; round < 300; ++round) {
    const int ranks = std::uniform_int_distribution{2, 8}(random);
    cluster c{ranks, true, round};
    c.run(1500ms);
    const int deaths = std::uniform_int_distribution{1, ranks - 1}(random);
    for (int i = 0; i < deaths; ++i) {
      c.kill(std::uniform_int_distribution{0, ranks - 1}(random));
      c.run(10ms * std::uniform_int_distribution{0, 300}(random));
    }
    c.run(12s);
    int lowest = 0;
    while (lowest < ranks && !c.alive(lowest)) ++lowest;
    BOOST_REQUIRE_LT(lowest, ranks);
    BOOST_TEST(c.leaders() == list{lowest}, boost::test_tools::per_element());
    BOOST_TEST(c.all_follow(lowest));
  }
}

BOOST_AUTO_TEST_CASE(a_lease_ends_before_the_standby_may_take_over) {
  act::write_lease lease{1s};
  BOOST_TEST(!lease.valid(0s));
  lease.hear_most(20s);  // not what this is about
  lease.renew(10s);
  BOOST_TEST(lease.valid(10500ms));
  BOOST_TEST(!lease.valid(10700ms));
  lease.renew(11s);
  lease.renew(10500ms);  // an answer that comes late
  BOOST_TEST(lease.valid(11600ms));
  lease.lose(11500ms);
  lease.renew(11600ms);  // another standby
  BOOST_TEST(!lease.valid(12400ms));
  lease.renew(12400ms);
  BOOST_TEST(lease.valid(12500ms));
  lease.lose(13s);
  lease.be_alone(true);
  BOOST_TEST(!lease.valid(13900ms));
  BOOST_TEST(lease.valid(100s));
}

// The standby answers beside the leader, and the others put up a leader of their own on the far side of a
// cut.
BOOST_AUTO_TEST_CASE(a_lease_ends_before_most_others_may_agree) {
  act::write_lease lease{1s};
  lease.renew(100s);
  lease.hear_most(99200ms);
  BOOST_TEST(lease.valid(99800ms));
  BOOST_TEST(!lease.valid(99900ms));
  lease.hear_most(100s);
  BOOST_TEST(lease.valid(100s));
  // They are given up, so that those that are left are all heard; the others may be just about to begin.
  lease.lose_sight(100s);
  for (auto t = 100s; t < 103s; ++t) {
    lease.renew(t);
    lease.hear_most(t);
    BOOST_TEST(!lease.valid(t));
  }
  lease.lose(102900ms);  // a shorter wait does not end a longer one, nor the other way round
  lease.renew(103500ms);
  lease.hear_most(103500ms);
  BOOST_TEST(!lease.valid(103500ms));
  lease.renew(104s);
  lease.hear_most(104s);
  BOOST_TEST(lease.valid(104s));
}

BOOST_AUTO_TEST_CASE(the_pipeline_that_stood_is_found_with_its_gaps) {
  using stages = std::vector<fastserve::planner::stage_place>;
  const auto text = [](const stages& all) {
    std::string out;
    for (const auto& s : all)
      out += std::to_string(s.rank) + ":" + std::to_string(s.first_layer) + "-" +
             std::to_string(s.last_layer) + " ";
    return out;
  };
  BOOST_TEST(text(act::standing_stages(8, {})) == "");
  BOOST_TEST(text(act::standing_stages(8, {{1, 0, 0}, {2, 0, 0}})) == "");
  BOOST_TEST(text(act::standing_stages(8, {{3, 6, 8}, {1, 2, 4}, {4, 0, 0}})) ==
             "-1:0-2 1:2-4 -1:4-6 3:6-8 ");
  BOOST_TEST(text(act::standing_stages(8, {{1, 0, 5}, {2, 5, 7}})) == "1:0-5 2:5-7 -1:7-8 ");
  BOOST_TEST(text(act::standing_stages(8, {{1, 0, 5}, {2, 4, 8}})) == "");  // two of another making
  BOOST_TEST(text(act::standing_stages(8, {{1, 0, 9}})) == "");
}

BOOST_AUTO_TEST_SUITE_END()
