// Several pipelines of the same model: whichever a request ran in, and however often it moved, the answer is
// that of a run alone.
#include "support.hpp"

BOOST_AUTO_TEST_SUITE(replicas)

namespace {

options two_pipelines(std::int32_t replicas = 2) {
  auto o = for_model(tiny);
  o.engine.replicas = replicas;
  o.scheduler.token_budget = 48;
  o.scheduler.max_batch = 16;
  return o;
}

std::vector<act::submit> random_requests(std::uint64_t count, std::int32_t longest_answer, unsigned seed) {
  std::mt19937 random{seed};
  std::vector<act::submit> out;
  for (std::uint64_t id = 1; id <= count; ++id) {
    std::vector<std::int32_t> prompt(1 + random() % 90);
    for (auto& t : prompt) t = static_cast<std::int32_t>(random() % 120);
    auto r = ask(id, std::move(prompt),
                 1 + static_cast<std::int32_t>(random() % static_cast<unsigned>(longest_answer)));
    r.stop.ignore_eos = true;
    r.sampling.seed = random();
    if (random() % 3 != 0) r.sampling.temperature = 0.9F;
    if (random() % 4 == 0) r.sampling.repetition_penalty = 1.3F;
    out.push_back(std::move(r));
  }
  return out;
}

void check_against_solo(const std::vector<act::submit>& asked, const std::map<std::uint64_t, answer>& got) {
  solo alone{tiny};
  std::size_t different = 0;
  for (const auto& r : asked) {
    BOOST_REQUIRE(got.at(r.request).done.error.empty());
    if (got.at(r.request).ids != alone.run(r)) ++different;
  }
  BOOST_TEST(different == 0U);
}

void drain(engine& e, int rank) {
  std::string refusal;
  for (int i = 0; i < 1000; ++i) {  // until the last one is over
    refusal = e.drain(rank);
    if (refusal.find("try again") == std::string::npos) break;
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  BOOST_TEST(refusal.empty(), refusal);
}

// Until nothing is put up any more.
void wait_for_rest(engine& e, const std::function<bool(const act::engine_layout&)>& reached) {
  for (int i = 0; i < 2000 && !reached(e.layout()); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  BOOST_TEST(reached(e.layout()));
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_answer_equals_its_solo_run) {
  if (mpi_job::env->size() < 2) return;
  with_engine(two_pipelines(), [](engine& e) {
    const auto layout = e.layout();
    BOOST_REQUIRE_EQUAL(layout.pipelines.size(), 2U);
    BOOST_TEST(layout.pipelines[0].epoch != layout.pipelines[1].epoch);
    std::set<int> ranks;
    for (const auto& p : layout.pipelines) {
      BOOST_TEST(p.stands);
      ranks.insert(p.stage_ranks.begin(), p.stage_ranks.end());
    }
    BOOST_TEST(ranks.size() == e.loading_ranks());

    const auto asked = random_requests(600, 20, 21);
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    e.executor_stats();
    for (const auto& r : asked) front_end->send(r);
    check_against_solo(asked, answers.wait(asked.size()));
    for (const auto& stages : e.executor_stats())
      for (const auto& s : stages) BOOST_TEST(s.steps > 0U, "rank " << s.rank << " has done nothing");
    const auto s = stats_at_rest(e);
    BOOST_TEST(s.finished == asked.size());
    BOOST_TEST(s.running + s.waiting == 0U);
    BOOST_TEST(s.kv_tokens == s.kv_tokens_free);
  });
}

// A pool for a few of them, with blocks on their way to memory and back.
BOOST_AUTO_TEST_CASE(small_pools_change_no_answer) {
  if (mpi_job::env->size() < 2) return;
  auto settings = two_pipelines();
  settings.scheduler.max_batch = 4;
  settings.scheduler.policy = "sj-mlfq";
  settings.kv_cache.kv_tokens = 480;
  settings.kv_cache.swap_space = 1'000'000;
  with_engine(settings, [](engine& e) {
    const auto asked = random_requests(150, 60, 22);
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    for (const auto& r : asked) front_end->send(r);
    check_against_solo(asked, answers.wait(asked.size()));
    const auto s = stats_at_rest(e);
    BOOST_TEST(s.kv_tokens == s.kv_tokens_free);
    BOOST_TEST(s.swap_tokens == s.swap_tokens_free);
  });
}

BOOST_AUTO_TEST_CASE(choices_prefixes_and_cancels_find_their_pipeline) {
  if (mpi_job::env->size() < 2) return;
  with_engine(two_pipelines(), [](engine& e) {
    collector answers;
    std::shared_ptr<act::front_end> front_end;
    answers.on_token_ = [&](const act::answer_token& t) {
      if (t.request >= 100 && t.request < 200) front_end->send(act::cancel{t.request});
    };
    front_end = e.spawn_front_end(answers);
    solo alone{tiny};
    // Ten times three answers, while twenty others are taken back with their first token.
    for (std::uint64_t id = 1; id <= 10; ++id) {
      auto r = ask(id, std::vector<std::int32_t>(40, static_cast<std::int32_t>(id)), 12);
      r.stop.ignore_eos = true;
      r.sampling.temperature = 1.0F;
      r.sampling.seed = id * 7;
      r.choices = 3;
      front_end->send(r);
      for (const auto other : {100 + id, 110 + id}) {
        auto longest = ask(other, {1, static_cast<std::int32_t>(other)}, 100'000);
        longest.stop.ignore_eos = true;
        front_end->send(longest);
      }
    }
    const auto got = answers.wait(30 + 20);
    for (std::uint64_t id = 1; id <= 10; ++id) {
      BOOST_TEST(got.at(100 + id).done.finish_reason == "cancelled");
      for (std::int32_t i = 0; i < 3; ++i) {
        auto r = ask(id, std::vector<std::int32_t>(40, static_cast<std::int32_t>(id)), 12);
        r.stop.ignore_eos = true;
        r.sampling.temperature = 1.0F;
        r.sampling.seed = mod::choice_seed(id * 7, i);
        BOOST_TEST(got.at(collector::key(id, i)).ids == alone.run(r), boost::test_tools::per_element());
      }
    }
    const auto s = stats_at_rest(e);
    BOOST_TEST(s.kv_tokens == s.kv_tokens_free);
  });
}

// Each prompt is asked again, one after the other: its prefix is in one of the two caches and must be found
// there.
BOOST_AUTO_TEST_CASE(a_prompt_goes_where_its_prefix_is) {
  if (mpi_job::env->size() < 2) return;
  with_engine(two_pipelines(), [](engine& e) {
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    for (std::uint64_t id = 1; id <= 8; ++id)
      front_end->send(ask(id, std::vector<std::int32_t>(65, static_cast<std::int32_t>(id)), 4));
    answers.wait(8);
    for (std::uint64_t id = 1; id <= 8; ++id) {
      const auto before = e.stats().prefix_hit_tokens;
      front_end->send(ask(10 + id, std::vector<std::int32_t>(65, static_cast<std::int32_t>(id)), 4));
      const auto got = answers.wait(8 + id);
      BOOST_TEST(got.at(10 + id).ids == got.at(id).ids, boost::test_tools::per_element());
      BOOST_TEST(e.stats().prefix_hit_tokens - before == 64U);
    }
  });
}

// One pipeline is emptied rank by rank and taken apart; the other one keeps its epoch. With a spare the ranks
// are replaced instead.
BOOST_AUTO_TEST_CASE(one_pipeline_is_drained_while_the_other_goes_on) {
  const auto ranks = mpi_job::env->size();
  if (ranks < 2) return;
  for (const bool spare : {false, true}) {
    if (spare && ranks < 3) continue;
    BOOST_TEST_CONTEXT("with a spare: " << spare) {
      auto settings = two_pipelines();
      settings.failover.spare_ranks = spare ? 1 : 0;
      with_engine(settings, [spare](engine& e) {
        const auto before = e.layout();
        const auto asked = random_requests(150, 100, 23);
        collector answers;
        const auto front_end = e.spawn_front_end(answers);
        for (const auto& r : asked) front_end->send(r);
        const auto own = before.pipelines[1].stage_ranks;
        for (const auto rank : own) {
          drain(e, rank);
          if (spare) break;
        }
        wait_for_rest(e, [&](const act::engine_layout& l) {
          const auto& p = l.pipelines[1];
          return spare ? p.stands && p.epoch != before.pipelines[1].epoch : p.gone;
        });
        check_against_solo(asked, answers.wait(asked.size()));
        const auto after = e.layout();
        BOOST_TEST(after.pipelines[0].epoch == before.pipelines[0].epoch);
        BOOST_TEST(after.pipelines[0].stage_ranks == before.pipelines[0].stage_ranks);
        if (spare) BOOST_TEST(after.pipelines[1].stage_ranks.size() == own.size());
        const auto s = stats_at_rest(e);
        BOOST_TEST(s.finished == asked.size());
        BOOST_TEST(s.kv_tokens == s.kv_tokens_free);
      });
    }
  }
}

BOOST_AUTO_TEST_CASE(as_many_pipelines_as_ranks) {
  const auto ranks = mpi_job::env->size();
  with_engine(two_pipelines(ranks), [ranks](engine& e) {
    BOOST_TEST(e.layout().pipelines.size() == static_cast<std::size_t>(ranks));
    const auto asked = random_requests(100, 20, 24);
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    for (const auto& r : asked) front_end->send(r);
    check_against_solo(asked, answers.wait(asked.size()));
  });
  auto more = two_pipelines(ranks + 1);
  BOOST_CHECK_EXCEPTION(engine(*mpi_job::env, more), std::runtime_error, [](const std::runtime_error& e) {
    return std::string{e.what()}.find("needs a rank for each") != std::string::npos;
  });
}

BOOST_AUTO_TEST_SUITE_END()
