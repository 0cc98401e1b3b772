#include <boost/test/unit_test.hpp>
#include <stdexcept>

#include "launch/cluster_file.hpp"
#include "launch/plan_report.hpp"
#include "refusal.hpp"

using namespace fastserve;
using launch::read_cluster_text;

namespace {

constexpr const char* two_groups = R"(ranks:
  - group: a
    count: 2
    memory: 8GiB
    bandwidth: 50GB
    gops: {f32: 100, bf16: 400}
    gelements: 2
    step_us: 70
    operation_us: 3
  - group: b
    memory: 4GiB
    bandwidth: 10GB
    gops: {f32: 50}
links:
  - {between: [a, a], latency_us: 2, bandwidth: 10GB}
  - {between: [a, b], latency_us: 20, bandwidth: 1GB}
)";

void check_refused(std::string_view text, const std::string& message) {
  check_refused_by([](std::string_view t) { return read_cluster_text(t, "x.yaml"); }, text, message);
}

std::string with(const std::string& from, const std::string& to) {
  std::string text = two_groups;
  const auto at = text.find(from);
  BOOST_REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

planner::model_work small_model() {
  planner::model_work m;
  m.layers = 8;
  m.layer.products = {{1e8, 2e8, planner::arithmetic::bf16}};
  m.layer.kv_bytes = 4096;
  m.head = {1e8, 2e8, planner::arithmetic::bf16};
  m.hidden = 1024;
  m.layer_bytes = m.embedding_bytes = m.head_bytes = 2e8;
  return m;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cluster_file)

BOOST_AUTO_TEST_CASE(reads_ranks_and_links) {
  const auto c = read_cluster_text(two_groups, "x.yaml");
  BOOST_REQUIRE(c.ranks.size() == 3U);
  BOOST_TEST(c.groups == 2U);
  BOOST_TEST(c.ranks[1].rank == 1);
  BOOST_TEST(c.ranks[1].name == "a");
  BOOST_TEST(c.ranks[1].memory_bytes == 8.0 * (1ULL << 30));
  BOOST_TEST(c.ranks[1].ops_per_s[0] == 1e11);
  BOOST_TEST(c.ranks[1].ops_per_s[2] == 4e11);  // bf16
  BOOST_TEST(c.ranks[1].ops_per_s[3] == 4e11);  // int8, not told
  BOOST_TEST(c.ranks[2].ops_per_s[2] == 5e10);
  BOOST_TEST(c.ranks[2].group == 1);
  BOOST_TEST(c.between(c.ranks[0], c.ranks[1]).latency_s == 2e-6, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(c.between(c.ranks[2], c.ranks[0]).bytes_per_s == 1e9);
}

BOOST_AUTO_TEST_CASE(what_is_written_reads_back) {
  const auto c = read_cluster_text(two_groups, "x.yaml");
  const auto again = read_cluster_text(launch::format_cluster(c), "y.yaml");
  BOOST_REQUIRE(again.ranks.size() == c.ranks.size());
  for (std::size_t i = 0; i < c.ranks.size(); ++i) {
    BOOST_TEST(again.ranks[i].name == c.ranks[i].name);
    BOOST_TEST(again.ranks[i].bytes_per_s == c.ranks[i].bytes_per_s);
    BOOST_TEST(again.ranks[i].ops_per_s == c.ranks[i].ops_per_s, boost::test_tools::per_element());
  }
  BOOST_TEST(again.links[1].latency_s == c.links[1].latency_s, boost::test_tools::tolerance(1e-4));
}

BOOST_AUTO_TEST_CASE(refuses_what_it_does_not_know_with_line_and_name) {
  check_refused("", "x.yaml:1: ");
  check_refused("ranks: 3", "x.yaml:1: expected a list under 'ranks', found '3'");
  check_refused(with("gelements", "gelement"), "x.yaml:7: unknown key 'gelement' of a group (did you mean");
  check_refused(with("count: 2", "count: 0"), "x.yaml:3: count: expected an integer from 1");
  check_refused(with("count: 2", "count: 100001"), "x.yaml:3: count: expected an integer from 1");
  check_refused(with("memory: 8GiB", "memory: lots"), "x.yaml:4: memory: expected an amount of memory");
  check_refused(with("memory: 8GiB", "memory: 0"), "x.yaml:4: memory: expected more than nothing");
  check_refused(with("{f32: 100, bf16: 400}", "{bf16: 400}"), "x.yaml:6: gops without 'f32'");
  check_refused(with("bf16: 400", "bf17: 400"), "x.yaml:6: unknown key 'bf17' of gops");
  check_refused(with("f32: 100", "f32: nan"), "x.yaml:6: f32: expected a number");
  check_refused(with("f32: 100", "f32: -1"), "x.yaml:6: f32: expected a number");
  check_refused(with("group: b", "group: a"), "x.yaml:10: group 'a' is given twice");
  check_refused(with("    bandwidth: 10GB\n", ""), "x.yaml:10: a group without 'bandwidth'");
  check_refused(with("[a, b]", "[a, c]"), "x.yaml:16: no group 'c' under 'ranks'");
  check_refused(with("[a, b]", "[a]"), "x.yaml:16: between: expected two groups, found 1");
  check_refused(with("[a, b]", "[a, a]"), "x.yaml:16: the link between 'a' and 'a' is given twice");
  check_refused(with("latency_us: 20, ", ""), "x.yaml:16: a link without 'latency_us'");
  check_refused(with("  - {between: [a, a], latency_us: 2, bandwidth: 10GB}\n", ""),
                "x.yaml:15: no link between 'a' and 'a'");
  check_refused(std::string{two_groups} + "more: 1\n", "x.yaml:17: unknown key 'more'");
}

BOOST_AUTO_TEST_CASE(hostile_sizes_are_bounded) {
  std::string groups = "ranks:\n";
  for (int i = 0; i < 300; ++i)
    groups += "  - {group: g" + std::to_string(i) + ", memory: 1GiB, bandwidth: 1GB, gops: {f32: 1}}\n";
  check_refused(groups, "x.yaml:258: more than 256 groups");
  std::string many = "ranks:\n";
  for (int i = 0; i < 3; ++i)
    many += "  - {group: g" + std::to_string(i) +
            ", count: 50000, memory: 1GiB, bandwidth: 1GB, gops: {f32: 1}}\n";
  check_refused(many, "x.yaml:4: more than 100000 ranks");
}

BOOST_AUTO_TEST_CASE(table_picture_and_json_tell_the_plan) {
  const auto c = read_cluster_text(two_groups, "x.yaml");
  planner::plan_wishes w;
  w.replicas = 1;
  const auto p = planner::make_plan(small_model(), c, w);
  BOOST_REQUIRE_MESSAGE(p.error.empty(), p.error);
  const auto table = launch::format_plan(p, c, w);
  BOOST_TEST(table.find("pipeline  rank  group  layers") == 0U);
  BOOST_TEST(table.find("embed, 0") != std::string::npos);
  BOOST_TEST(table.find("head") != std::string::npos);
  BOOST_TEST(table.find("- 1 pipeline of") != std::string::npos);
  const auto json = launch::plan_json(p, c);
  BOOST_TEST(json["pipelines"].size() == 1U);
  const auto picture = launch::draw_plan(p, c, "a < b & c");
  BOOST_TEST(picture.find("<svg") == 0U);
  BOOST_TEST(picture.find("a &lt; b &amp; c") != std::string::npos);
  BOOST_TEST(picture.find("rank 0") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
