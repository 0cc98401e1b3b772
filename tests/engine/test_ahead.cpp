// Steps that are begun before the tokens of those before are known. On CPUs they are not, unless
// FASTSERVE_AHEAD says so; the other cases run once with it set, too.
#include <stdlib.h>

#include "support.hpp"

BOOST_AUTO_TEST_SUITE(ahead)

namespace {

std::string wanted() {
  const char* value = ::getenv("FASTSERVE_AHEAD");
  return value == nullptr ? "" : value;
}

// Sets FASTSERVE_AHEAD for a scope.
class with_ahead {
 public:
  explicit with_ahead(bool ahead) : before_{wanted()} { ::setenv("FASTSERVE_AHEAD", ahead ? "1" : "0", 1); }
  ~with_ahead() {
    if (before_.empty())
      ::unsetenv("FASTSERVE_AHEAD");
    else
      ::setenv("FASTSERVE_AHEAD", before_.c_str(), 1);
  }

 private:
  std::string before_;
};

// A pipeline of one stage on every rank.
options of_single_stages(const fs::path& model) {
  auto o = for_model(model);
  o.engine.replicas = mpi_job::env->size();
  return o;
}

std::map<std::uint64_t, answer> serve(const options& settings, bool ahead,
                                      const std::vector<act::submit>& requests) {
  const with_ahead set{ahead};
  std::map<std::uint64_t, answer> got;
  with_engine(settings, [&](engine& e) {
    BOOST_TEST(e.layout().limits.ahead == ahead);
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    for (const auto& r : requests) front_end->send(r);
    got = answers.wait(requests.size());
    const auto s = stats_at_rest(e);
    BOOST_TEST(s.kv_tokens == s.kv_tokens_free);
    BOOST_TEST(s.finished == requests.size());
  });
  return got;
}

void check_equal(const std::map<std::uint64_t, answer>& a, const std::map<std::uint64_t, answer>& b) {
  BOOST_REQUIRE(a.size() == b.size());
  std::size_t different = 0;
  for (const auto& [id, x] : a) {
    const auto& y = b.at(id);
    if (x.ids != y.ids || x.text != y.text || x.done.finish_reason != y.done.finish_reason ||
        x.done.completion_tokens != y.done.completion_tokens || x.done.error != y.done.error)
      ++different;
  }
  BOOST_TEST(different == 0U);
}

}  // namespace

BOOST_AUTO_TEST_CASE(is_on_where_it_is_asked_for) {
  with_engine(for_model(tiny), [](engine& e) {
    BOOST_TEST(e.layout().limits.ahead == (wanted() == "1" && e.layout().limits.stages == 1));
  });
}

// Answers that end by a token, by their length, at the first token or the second.
BOOST_AUTO_TEST_CASE(ends_change_no_answer) {
  auto settings = of_single_stages(tiny);
  settings.scheduler.token_budget = 48;
  settings.scheduler.max_batch = 8;
  settings.kv_cache.kv_tokens = 600;
  std::mt19937 random{5};
  std::vector<act::submit> requests;
  for (std::uint64_t id = 1; id <= 300; ++id) {
    std::vector<std::int32_t> prompt(1 + random() % 60);
    for (auto& t : prompt) t = static_cast<std::int32_t>(random() % 120);
    auto r = ask(id, std::move(prompt), static_cast<std::int32_t>(1 + random() % (id % 2 == 0 ? 2 : 60)));
    r.stop.ignore_eos = random() % 2 == 0;
    for (int n = 0; n < 6; ++n) r.stop.stop_token_ids.push_back(static_cast<std::int32_t>(random() % 120));
    r.sampling.seed = random();
    r.sampling.temperature = random() % 4 == 0 ? 0.0F : 1.0F;
    if (random() % 20 == 0) r.sampling.frequency_penalty = 0.5F;
    if (random() % 20 == 0) r.sampling.logprobs = 1;
    requests.push_back(std::move(r));
  }
  const auto plain = serve(settings, false, requests);
  check_equal(plain, serve(settings, true, requests));
  if (!mpi_job::env->leader()) return;
  std::map<std::string, int> reasons;
  for (const auto& [id, a] : plain) ++reasons[a.done.finish_reason];
  BOOST_TEST(reasons["stop"] > 20);
  BOOST_TEST(reasons["length"] > 20);
}

// The row behind a stop string has begun when the text is looked at.
BOOST_AUTO_TEST_CASE(stop_strings_change_no_answer, *boost::unit_test::precondition(has_shared)) {
  auto settings = of_single_stages(stories);
  settings.scheduler.max_batch = 8;
  std::vector<act::submit> requests;
  for (std::uint64_t id = 1; id <= 40; ++id) {
    auto r = ask(id, {1}, 60);
    r.stop.stop = {"girl", " the ", ". "};
    if (id % 2 == 0) r.stop.stop = {"day,", "big"};
    r.sampling.seed = id;
    r.sampling.temperature = 1.0F;
    requests.push_back(std::move(r));
  }
  const auto plain = serve(settings, false, requests);
  check_equal(plain, serve(settings, true, requests));
  if (!mpi_job::env->leader()) return;
  int stopped = 0;
  for (const auto& [id, a] : plain) stopped += a.done.finish_reason == "stop" ? 1 : 0;
  BOOST_TEST(stopped > 20);
}

BOOST_AUTO_TEST_SUITE_END()
