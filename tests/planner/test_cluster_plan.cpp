#include "planner/cluster_plan.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <set>

namespace plan = fastserve::planner;

namespace {

constexpr double gib = 1024.0 * 1024 * 1024;

// About Llama 2 7B in bf16.
plan::model_work seven_billions() {
  plan::model_work m;
  m.layers = 32;
  for (const double parameters : {3 * 4096.0 * 4096, 4096.0 * 4096, 2 * 4096.0 * 11008, 4096.0 * 11008})
    m.layer.products.push_back({parameters, 2 * parameters, plan::arithmetic::bf16});
  m.layer.attention_ops = 4 * 4096;
  m.layer.kv_bytes = 2 * 2 * 4096;
  m.head = {32000.0 * 4096, 2 * 32000.0 * 4096, plan::arithmetic::bf16};
  m.hidden = 4096;
  m.vocab = 32000;
  for (const auto& p : m.layer.products) m.layer_bytes += p.bytes;
  m.embedding_bytes = m.head_bytes = m.head.bytes;
  return m;
}

plan::rank_profile rank_of(int number, double speed = 1, double memory = 64 * gib) {
  plan::rank_profile r;
  r.rank = number;
  r.name = "node";
  r.ops_per_s.fill(2e12 * speed);
  r.bytes_per_s = 2e11 * speed;
  r.step_s = 50e-6;
  r.operation_s = 5e-6;
  r.memory_bytes = memory;
  return r;
}

plan::cluster cluster_of(int ranks, double memory = 64 * gib) {
  plan::cluster c;
  for (int r = 0; r < ranks; ++r) c.ranks.push_back(rank_of(r, 1, memory));
  c.links = {{5e-6, 1e10}};
  return c;
}

bool says(const plan::cluster_plan& p, const std::string& text) {
  return std::any_of(p.reasons.begin(), p.reasons.end(),
                     [&](const auto& r) { return r.find(text) != std::string::npos; });
}

// Every layer of every pipeline once, every rank at most once.
void check_whole(const plan::cluster_plan& p, const plan::cluster& c, std::int32_t layers) {
  BOOST_REQUIRE_MESSAGE(p.error.empty(), p.error);
  std::set<int> ranks;
  for (const auto& pipeline : p.pipelines) {
    std::int32_t next = 0;
    for (const auto& s : pipeline.stages) {
      BOOST_REQUIRE(s.first_layer == next);
      BOOST_REQUIRE(s.last_layer > s.first_layer);
      BOOST_REQUIRE(ranks.insert(s.rank).second);
      next = s.last_layer;
    }
    BOOST_REQUIRE(next == layers);
  }
  for (const auto r : p.spares) BOOST_REQUIRE(ranks.insert(r).second);
  for (const auto r : p.left_out) BOOST_REQUIRE(ranks.insert(r).second);
  BOOST_REQUIRE(ranks.size() == c.ranks.size());
}

}  // namespace

// Where one of the two takes far longer it is all there is to see; where they take as long, root two times
// that.
BOOST_AUTO_TEST_CASE(reading_and_multiplying_hide_each_other_in_part) {
  const auto m = seven_billions();
  const auto r = rank_of(0);
  const auto one = plan::step_line(m, r, 1, 1, 1, 1);
  const auto reading = m.head.bytes / r.bytes_per_s;
  BOOST_TEST(one.head >= reading + r.operation_s);
  BOOST_TEST(one.head < 1.01 * reading + r.operation_s);
  const auto as_long =
      plan::step_line(m, r, 1, 1, 1, m.head.bytes * 2e12 / (2 * m.head.parameters * r.bytes_per_s));
  BOOST_TEST(as_long.head == std::sqrt(2.0) * reading + r.operation_s, boost::test_tools::tolerance(1e-9));
  const auto many = plan::step_line(m, r, 256, 1, 1, 1);
  const double ops = 2 * 256 * (3 * 4096.0 * 4096 + 4096.0 * 4096 + 3 * 4096.0 * 11008);
  BOOST_TEST(many.layer > ops / 2e12);
  BOOST_TEST(many.layer < ops / 2e12 * 1.05);
  // A prompt in chunks costs what its rows cost, and each chunk the fixed part once more.
  const auto whole = plan::prompt_line(m, r, 512, 512), parts = plan::prompt_line(m, r, 512, 256);
  BOOST_TEST(parts.step == 2 * whole.step);
  BOOST_TEST(parts.layer > whole.layer);
  BOOST_TEST(parts.layer < whole.layer * 1.1);
  BOOST_TEST(parts.head == whole.head);
}

BOOST_AUTO_TEST_CASE(a_window_bounds_attention) {
  auto m = seven_billions();
  const auto far = plan::step_line(m, rank_of(0), 1, 30000, 1, 1).layer;
  m.layer.window = 1000;
  const auto near = plan::step_line(m, rank_of(0), 1, 30000, 1, 1).layer;
  BOOST_TEST(far > near);
  BOOST_TEST(plan::step_line(m, rank_of(0), 1, 500, 1, 1).layer ==
             plan::step_line(seven_billions(), rank_of(0), 1, 500, 1, 1).layer);
  BOOST_TEST(plan::prompt_line(m, rank_of(0), 30000, 256).layer <
             plan::prompt_line(seven_billions(), rank_of(0), 30000, 256).layer);
}

BOOST_AUTO_TEST_CASE(what_fits_one_rank_becomes_replicas) {
  const auto c = cluster_of(4);
  const auto p = plan::make_plan(seven_billions(), c, {});
  check_whole(p, c, 32);
  BOOST_TEST(p.pipelines.size() == 4U);
  BOOST_TEST(p.expected.answer_tokens_per_s > 0);
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_one_rank_becomes_stages) {
  const auto c = cluster_of(4, 8 * gib);
  const auto p = plan::make_plan(seven_billions(), c, {});
  check_whole(p, c, 32);
  for (const auto& pipeline : p.pipelines)
    for (const auto& s : pipeline.stages) BOOST_TEST(s.weight_bytes < 8 * gib);
  auto none = plan::make_plan(seven_billions(), cluster_of(1, 8 * gib), {});
  BOOST_TEST(none.pipelines.empty());
  BOOST_TEST(none.error.find("the model does not fit: it needs") == 0U);
}

BOOST_AUTO_TEST_CASE(a_slow_rank_gets_fewer_layers_or_none) {
  auto c = cluster_of(3);
  c.ranks[1] = rank_of(1, 0.5);
  plan::plan_wishes w;
  w.replicas = 1;
  auto p = plan::make_plan(seven_billions(), c, w);
  check_whole(p, c, 32);
  BOOST_REQUIRE(p.pipelines[0].stages.size() == 3U);
  for (const auto& s : p.pipelines[0].stages) {
    const auto layers = s.last_layer - s.first_layer;
    if (s.rank == 1)
      BOOST_TEST(layers < 8);
    else
      BOOST_TEST(layers > 11);
  }
  c.ranks[1] = rank_of(1, 0.02);
  p = plan::make_plan(seven_billions(), c, w);
  check_whole(p, c, 32);
  BOOST_TEST(p.left_out == std::vector<int>{1}, boost::test_tools::per_element());
  BOOST_TEST(says(p, "rank 1 left out: it would slow the pipeline by "));
}

BOOST_AUTO_TEST_CASE(latency_takes_the_fastest_rank_alone_where_it_fits) {
  auto c = cluster_of(4);
  c.ranks[2] = rank_of(2, 2);
  plan::plan_wishes w;
  w.goal = plan::plan_goal::latency;
  w.batch = 1;
  const auto p = plan::make_plan(seven_billions(), c, w);
  check_whole(p, c, 32);
  BOOST_REQUIRE(p.pipelines.size() == 1U);
  BOOST_TEST(p.pipelines[0].stages[0].rank == 2);
  BOOST_TEST(says(p, "left out"));
}

BOOST_AUTO_TEST_CASE(spares_are_the_slowest_and_too_many_are_refused) {
  auto c = cluster_of(4);
  c.ranks[1] = rank_of(1, 0.9);
  plan::plan_wishes w;
  w.spares = 1;
  const auto p = plan::make_plan(seven_billions(), c, w);
  check_whole(p, c, 32);
  BOOST_TEST(p.spares == std::vector<int>{1}, boost::test_tools::per_element());
  w.spares = 4;
  BOOST_TEST(!plan::make_plan(seven_billions(), c, w).error.empty());
  w.spares = 0;
  w.replicas = 5;
  BOOST_TEST(!plan::make_plan(seven_billions(), c, w).error.empty());
}

BOOST_AUTO_TEST_CASE(slow_links_keep_pipelines_within_a_group) {
  auto c = cluster_of(4, 12 * gib);
  c.groups = 2;
  c.links = {{5e-6, 1e10}, {1e-2, 1e6}, {1e-2, 1e6}, {5e-6, 1e10}};
  for (int r = 0; r < 4; ++r) c.ranks[static_cast<std::size_t>(r)].group = r % 2;
  const auto p = plan::make_plan(seven_billions(), c, {});
  check_whole(p, c, 32);
  BOOST_TEST(p.pipelines.size() == 2U);
  for (const auto& pipeline : p.pipelines)
    for (const auto& s : pipeline.stages) BOOST_TEST(s.rank % 2 == pipeline.stages[0].rank % 2);
}

BOOST_AUTO_TEST_CASE(little_memory_for_kv_bounds_the_sequences) {
  const auto c = cluster_of(1, 14 * gib);
  plan::plan_wishes w;
  w.prompt_tokens = 2000;
  const auto p = plan::make_plan(seven_billions(), c, w);
  check_whole(p, c, 32);
  BOOST_TEST(p.pipelines[0].sequences < 64);
  BOOST_TEST(p.pipelines[0].sequences * 2128 <= p.pipelines[0].kv_tokens);
  BOOST_TEST(says(p, "room for the KV of"));
}

BOOST_AUTO_TEST_CASE(the_prediction_of_equal_stages_follows_from_one) {
  // Two equal stages: a lone sequence waits for both in turn, two of them fill both.
  const auto c = cluster_of(2);
  plan::plan_wishes w;
  w.prompt_tokens = 64;
  plan::planned_pipeline p;
  p.stages = {{0, 0, 16, 0, 0, 0, 0, 0}, {1, 16, 32, 0, 0, 0, 0, 0}};
  auto m = seven_billions();
  m.head = {0, 0, plan::arithmetic::bf16};
  m.vocab = 0;
  plan::predict(m, c, w, 1, p);
  const auto alone = p.expected;
  BOOST_TEST(alone.tpot_s > 1.95 * p.stages[0].decode_s);
  BOOST_TEST(alone.ttft_s > alone.tpot_s);
  plan::predict(m, c, w, 2, p);
  BOOST_TEST(p.micro_batches == 2);
  BOOST_TEST(p.expected.decode_tokens_per_s > 1.9 * alone.decode_tokens_per_s);
}

// Prompts go past the head but for their last rows, so the longer they are the less it weighs in a cut.
BOOST_AUTO_TEST_CASE(the_head_weighs_as_much_as_is_drawn) {
  const auto m = seven_billions();
  const auto r = rank_of(0);
  const auto weight = [&](double prompt, double answer) {
    const auto line = plan::request_line(m, r, prompt, answer, 256, 64);
    return line.head / line.layer;
  };
  const auto decode = plan::step_line(m, r, 64, 1 + 4096 / 2, 64, 64);
  BOOST_TEST(weight(1, 4096) == decode.head / decode.layer, boost::test_tools::tolerance(0.1));
  BOOST_TEST(weight(128, 128) < 0.9 * weight(1, 128));
  BOOST_TEST(weight(2048, 128) < 0.3 * weight(128, 128));
  const auto fast = rank_of(0, 4);
  const auto slow_line = plan::request_line(m, r, 100, 100, 256, 64);
  const auto fast_line = plan::request_line(m, fast, 100, 100, 256, 64);
  BOOST_TEST(fast_line.layer < slow_line.layer);
  BOOST_TEST(fast_line.head < slow_line.head);
}
