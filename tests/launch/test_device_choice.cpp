#include <boost/test/unit_test.hpp>

#include "launch/device_choice.hpp"

namespace fastserve::launch {
namespace {

using gpus = std::vector<visible_gpus>;

std::string placed(std::string_view wish, const gpus& ranks) {
  std::string out;
  for (const auto& c : choose_devices(wish, ranks))
    out += (c.gpu < 0 ? "cpu" : std::to_string(c.gpu) + "/" + std::to_string(c.sharers)) + " ";
  return out;
}

BOOST_AUTO_TEST_SUITE(device_choice_tests)

BOOST_AUTO_TEST_CASE(ranks_that_see_all_gpus_take_them_in_turn) {
  const visible_gpus a{"a", {"x", "y"}};
  BOOST_TEST(placed("auto", {a, a}) == "0/1 1/1 ");
  BOOST_TEST(placed("auto", {a, a, a}) == "0/2 1/1 0/2 ");
  BOOST_TEST(placed("gpu", {a, {"b", {"x", "y"}}, a}) == "0/1 0/1 1/1 ");
}

BOOST_AUTO_TEST_CASE(a_rank_with_a_gpu_of_its_own_takes_that) {
  BOOST_TEST(placed("gpu", {{"a", {"x"}}, {"a", {"y"}}, {"a", {"z"}}}) == "0/1 0/1 0/1 ");
  const auto choices = choose_devices("gpu", {{"a", {"x"}}, {"a", {"y"}}, {"b", {"x"}}});
  BOOST_TEST(choices[0].gpu_id != choices[1].gpu_id);
  BOOST_TEST(choices[0].gpu_id != choices[2].gpu_id);
}

BOOST_AUTO_TEST_CASE(a_job_may_be_mixed) {
  BOOST_TEST(placed("auto", {{"a", {"x"}}, {"b", {}}}) == "0/1 cpu ");
  BOOST_TEST(placed("cpu", {{"a", {"x"}}, {"b", {}}}) == "cpu cpu ");
}

BOOST_AUTO_TEST_CASE(a_wish_that_cannot_be_met_is_one_line) {
  const gpus ranks{{"a", {"x"}}, {"b", {}}};
  BOOST_TEST(device_objection("auto", ranks, 1, true) == "");
  BOOST_TEST(device_objection("cpu", ranks, 1, false) == "");
  BOOST_TEST(device_objection("gpu", ranks, 0, true) == "");
  BOOST_TEST(device_objection("gpu", ranks, 1, true).find("rank 1 (b) sees no GPU") != std::string::npos);
  BOOST_TEST(device_objection("gpu", ranks, 0, false).find("without CUDA") != std::string::npos);
}

// Both kinds of build must link and answer; this one is one of them.
BOOST_AUTO_TEST_CASE(a_build_knows_whether_it_is_for_gpus) {
  const auto found = find_gpus();
  BOOST_TEST(gpu_names().size() == found.size());
  const auto objection = device_objection("gpu", {{"a", found}}, 0, built_for_gpus());
  if (built_for_gpus()) {
    BOOST_TEST(objection.empty() == !found.empty());
    return;
  }
  BOOST_TEST(objection.find("built without CUDA and NCCL; build it with -DFASTSERVE_CUDA=ON") !=
             std::string::npos);
  BOOST_TEST(objection.find('\n') == std::string::npos);
  BOOST_TEST(found.empty());
  BOOST_CHECK_THROW(open_gpu(0), std::logic_error);
  BOOST_CHECK_THROW(open_gpu_link(0), std::logic_error);
}

BOOST_AUTO_TEST_CASE(what_a_rank_sees_travels_as_text) {
  for (const auto& sees : gpus{{"a", {}}, {"a", {"x"}}, {"node 7", {"x", "y", "z"}}}) {
    const auto back = gpus_of(to_text(sees));
    BOOST_TEST(back.host == sees.host);
    BOOST_TEST(back.ids == sees.ids, boost::test_tools::per_element());
  }
  BOOST_CHECK_THROW(gpus_of("a\n"), std::runtime_error);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace fastserve::launch
