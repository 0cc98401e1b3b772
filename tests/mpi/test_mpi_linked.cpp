#include <boost/test/unit_test.hpp>

#include <future>
#include <thread>

#include "memory_link.hpp"
#include "mpi/linked_tensor_channel.hpp"
#include "mpi/local_tensor_channel.hpp"
#include "tensor_cases.hpp"

namespace fastserve::tests {
namespace {

using namespace std::chrono_literals;
constexpr auto patience = 20s;
constexpr std::size_t largest = 1 << 16;

// Four ranks, of which some may be joined by a link.
struct job {
  explicit job(std::chrono::nanoseconds link_patience = patience) {
    for (int r = 0; r < 4; ++r)
      ranks.push_back(std::make_unique<mpi::linked_tensor_channel>(
          hub.endpoint(r), std::make_unique<memory_link>(room, device), r, link_patience));
  }
  mpi::linked_tensor_channel& operator[](int rank) { return *ranks[static_cast<std::size_t>(rank)]; }

  // Every rank is told of the plan, as a stage is.
  void join(const mpi::link_plan& plan) {
    std::vector<std::future<bool>> all;
    for (auto& r : ranks)
      all.push_back(std::async(std::launch::async, [&] { return r->join(plan, largest, patience); }));
    for (auto& one : all) BOOST_REQUIRE(one.get());
  }

  std::shared_ptr<link_room> room = std::make_shared<link_room>();
  far_backend device;
  std::unique_ptr<kernels::stream> stream = device.make_stream();
  mpi::local_tensor_hub hub{4};
  std::vector<std::unique_ptr<mpi::linked_tensor_channel>> ranks;
};

void pass(job& j, int from, int to, mpi::tensor_key key) {
  test_tensor out{j.device, *j.stream, kernels::dtype::f32, 3, 17, key.step};
  test_tensor in{j.device, *j.stream, kernels::dtype::f32, 3, 17, key.step};
  in.clear();
  j[from].send(to, key, out.view, j.device, *j.stream);
  out.clear();  // may be written again at once
  BOOST_REQUIRE(j[to].receive(from, key, in.view, j.device, *j.stream, patience));
  BOOST_CHECK(in.intact());
}

BOOST_AUTO_TEST_CASE(members_use_the_link_and_others_the_host) {
  job j;
  j.join({1, j[1].make_id(), {1, 2}});
  BOOST_CHECK_EQUAL(j[1].name_to(2), "memory");
  BOOST_CHECK_EQUAL(j[2].name_to(1), "memory");
  BOOST_CHECK_EQUAL(j[0].name_to(1), "in-process");
  BOOST_CHECK_EQUAL(j[2].name_to(3), "in-process");
  for (std::uint64_t step = 1; step <= 5; ++step) {
    pass(j, 0, 1, {1, step});
    pass(j, 1, 2, {1, step});
    pass(j, 2, 3, {1, step});
  }
  BOOST_CHECK_EQUAL(j.room->sent.size(), 1U);  // one hop was the link's
}

BOOST_AUTO_TEST_CASE(without_a_plan_all_goes_through_the_host) {
  job j;
  j.join({1, "", {}});
  pass(j, 0, 1, {1, 1});
  pass(j, 1, 2, {1, 1});
  BOOST_CHECK_EQUAL(j.room->sent.size(), 0U);
}

BOOST_AUTO_TEST_CASE(several_steps_are_on_their_way_in_order) {
  job j;
  j.join({1, j[0].make_id(), {0, 1, 2, 3}});
  std::vector<test_tensor> sent;
  for (std::uint64_t step = 1; step <= 4; ++step) {
    sent.emplace_back(j.device, *j.stream, kernels::dtype::f32, static_cast<std::int64_t>(step), 8, step);
    j[0].send(1, {1, step}, sent.back().view, j.device, *j.stream);
  }
  for (std::uint64_t step = 1; step <= 4; ++step) {
    test_tensor in{j.device, *j.stream, kernels::dtype::f32, static_cast<std::int64_t>(step), 8, step};
    in.clear();
    BOOST_REQUIRE(j[1].receive(0, {1, step}, in.view, j.device, *j.stream, patience));
    BOOST_CHECK(in.intact());
  }
}

BOOST_AUTO_TEST_CASE(the_end_of_an_epoch_releases_whoever_waits_and_a_new_link_follows) {
  job j;
  j.join({1, j[0].make_id(), {0, 1, 2}});
  test_tensor lost{j.device, *j.stream, kernels::dtype::f32, 2, 2, 1};
  j[0].send(1, {1, 1}, lost.view, j.device, *j.stream);  // nobody will take it
  test_tensor in{j.device, *j.stream, kernels::dtype::f32, 2, 2, 1};
  auto waiting = std::async(std::launch::async, [&] {
    return j[2].receive(1, {1, 1}, in.view, j.device, *j.stream, patience);
  });
  std::this_thread::sleep_for(5ms);
  for (auto& r : j.ranks) r->end_epoch(1);
  BOOST_REQUIRE(waiting.wait_for(patience) == std::future_status::ready);
  BOOST_CHECK(!waiting.get());
  BOOST_CHECK(!j[2].receive(1, {1, 2}, in.view, j.device, *j.stream, patience));
  j[1].send(2, {1, 2}, lost.view, j.device, *j.stream);  // dropped

  // Rank 1 is no more.
  j.join({2, j[0].make_id(), {0, 2}});
  pass(j, 0, 2, {2, 1});
  pass(j, 2, 3, {2, 1});
  BOOST_CHECK_EQUAL(j[1].name_to(0), "in-process");
}

BOOST_AUTO_TEST_CASE(a_member_that_never_comes_stops_nobody) {
  job j;
  const mpi::link_plan plan{3, j[0].make_id(), {0, 1}};
  BOOST_CHECK(!j[0].join(plan, largest, 20ms));
  // The epoch ends while it waits.
  const mpi::link_plan next{4, j[0].make_id(), {0, 1}};
  auto waiting = std::async(std::launch::async, [&] { return j[0].join(next, largest, patience); });
  std::this_thread::sleep_for(5ms);
  j[0].end_epoch(4);
  BOOST_REQUIRE(waiting.wait_for(patience) == std::future_status::ready);
  BOOST_CHECK(!waiting.get());
  // Or before.
  BOOST_CHECK(!j[0].join({4, j[0].make_id(), {0, 1}}, largest, patience));
  j.join({5, j[0].make_id(), {0, 1}});
  pass(j, 0, 1, {5, 1});
}

// NCCL may hear of a death before the heartbeats are missed: that is no error of a step.
BOOST_AUTO_TEST_CASE(a_broken_link_is_an_error_unless_its_epoch_ends) {
  for (const bool died : {true, false}) {
    job j{died ? std::chrono::nanoseconds{patience} : 20ms};
    j.join({1, j[0].make_id(), {0, 1, 2}});
    {
      const std::lock_guard lock{j.room->mutex};
      j.room->broken = true;
    }
    test_tensor out{j.device, *j.stream, kernels::dtype::f32, 2, 2, 1};
    test_tensor in{j.device, *j.stream, kernels::dtype::f32, 2, 2, 1};
    auto sent = std::async(std::launch::async, [&] {
      j[1].send(2, {1, 1}, out.view, j.device, *j.stream);
      return false;
    });
    auto received = std::async(std::launch::async, [&] {
      return j[2].receive(1, {1, 1}, in.view, j.device, *j.stream, patience);
    });
    auto joined = std::async(std::launch::async, [&] {
      return j[0].join({2, "another", {0, 1}}, largest, patience);
    });
    if (died) {
      std::this_thread::sleep_for(5ms);
      for (auto& r : j.ranks) r->end_epoch(2);
      for (auto* one : {&sent, &received, &joined}) {
        BOOST_REQUIRE(one->wait_for(patience) == std::future_status::ready);
        BOOST_CHECK(!one->get());
      }
    } else {
      for (auto* one : {&sent, &received, &joined}) BOOST_CHECK_THROW(one->get(), std::runtime_error);
    }
  }
}

BOOST_AUTO_TEST_CASE(only_stages_with_a_device_of_their_own_are_joined) {
  using list = std::vector<int>;
  const auto of = [](list ranks, std::vector<std::string> devices) { return mpi::linkable(ranks, devices); };
  BOOST_TEST(of({0, 1, 2}, {"a 0", "a 1", "b 0"}) == (list{0, 1, 2}), boost::test_tools::per_element());
  BOOST_TEST(of({4, 2, 7}, {"a 0", "", "b 0"}) == (list{4, 7}), boost::test_tools::per_element());
  BOOST_TEST(of({0, 1}, {"a 0", "a 0"}) == list{}, boost::test_tools::per_element());
  BOOST_TEST(of({0, 1, 2}, {"a 0", "a 0", "a 1"}) == list{}, boost::test_tools::per_element());
  BOOST_TEST(of({0, 1}, {"a 0", ""}) == list{}, boost::test_tools::per_element());
}

}  // namespace
}  // namespace fastserve::tests
