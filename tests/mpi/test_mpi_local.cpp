#include <boost/test/unit_test.hpp>

#include <atomic>
#include <future>
#include <thread>

#include "mpi/buffer_pool.hpp"
#include "mpi/link_probe.hpp"
#include "mpi/local_tensor_channel.hpp"
#include "mpi/start_limit.hpp"
#include "tensor_cases.hpp"
#include "test_messages.hpp"

namespace fastserve::tests {
namespace {

using namespace std::chrono_literals;
constexpr auto patience = 20s;

// -- links --------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_link_is_measured_from_both_ends) {
  mpi::local_tensor_hub hub{2};
  const auto probe = [&hub](int self) {
    const auto channel = hub.endpoint(self);
    const auto on = kernels::make_cpu_backend(1);
    return mpi::probe_link(*channel, self, 1 - self, 1, 0, *on, patience);
  };
  auto other = std::async(std::launch::async, probe, 1);
  const auto mine = probe(0);
  const auto theirs = other.get();
  BOOST_REQUIRE(mine && theirs);
  for (const auto& f : {*mine, *theirs}) {
    BOOST_CHECK_GT(f.latency_s, 0);
    BOOST_CHECK_LT(f.latency_s, 1);
    BOOST_CHECK_GT(f.bytes_per_s, 1e6);
  }
}

BOOST_AUTO_TEST_CASE(a_silent_peer_ends_the_measurement) {
  mpi::local_tensor_hub hub{2};
  const auto channel = hub.endpoint(0);
  const auto on = kernels::make_cpu_backend(1);
  const auto start = std::chrono::steady_clock::now();
  BOOST_CHECK(!mpi::probe_link(*channel, 0, 1, 1, 0, *on, 50ms));
  BOOST_CHECK(!mpi::probe_link(*channel, 0, 1, 1, 128, *on, 50ms));
  BOOST_CHECK(std::chrono::steady_clock::now() - start < 5s);
}

// -- buffers ------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(buffers_are_aligned_and_used_again) {
  mpi::buffer_pool pool{1 << 20};
  void* first = nullptr;
  {
    auto a = pool.acquire(1000);
    first = a.data();
    BOOST_CHECK_EQUAL(a.size(), 1000U);
    BOOST_CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(first) % 64, 0U);
  }
  BOOST_CHECK_EQUAL(pool.idle_bytes(), 1024U);
  const auto b = pool.acquire(600);
  BOOST_CHECK_EQUAL(b.data(), first);
  BOOST_CHECK_EQUAL(pool.allocations(), 1U);
  const auto c = pool.acquire(600);
  BOOST_CHECK_NE(c.data(), b.data());
  const auto empty = pool.acquire(0);
  BOOST_CHECK(!empty.empty());
}

BOOST_AUTO_TEST_CASE(a_pool_keeps_no_more_than_it_may) {
  mpi::buffer_pool pool{4096};
  {
    const auto a = pool.acquire(4096);
    const auto b = pool.acquire(4096);
  }
  BOOST_CHECK_EQUAL(pool.idle_bytes(), 4096U);
  BOOST_CHECK_THROW(pool.acquire(std::size_t{1} << 60), std::bad_alloc);
}

BOOST_AUTO_TEST_CASE(a_buffer_outlives_its_pool) {
  mpi::pooled_buffer kept;
  {
    mpi::buffer_pool pool{1 << 20};
    kept = pool.acquire(128);
  }
  kept.data()[127] = std::byte{1};
  BOOST_CHECK_EQUAL(kept.size(), 128U);
}

// -- tensors in one process ---------------------------------------------------

BOOST_AUTO_TEST_CASE(tensors_pass_between_endpoints) {
  mpi::local_tensor_hub hub{3};
  BOOST_CHECK_EQUAL(hub.size(), 3);
  BOOST_CHECK_THROW(hub.endpoint(3), std::runtime_error);
  auto one = hub.endpoint(1);
  auto two = hub.endpoint(2);
  BOOST_CHECK_EQUAL(one->name(), "in-process");
  far_backend device;
  auto stream = device.make_stream();
  for (const auto type : all_dtypes) {
    const auto seed = static_cast<std::uint64_t>(type);
    test_tensor out{device, *stream, type, 5, 33, seed};
    test_tensor in{device, *stream, type, 5, 33, seed};
    in.clear();
    BOOST_CHECK(!in.intact());
    one->send(2, {0, seed}, out.view, device, *stream);
    BOOST_REQUIRE(two->receive(1, {0, seed}, in.view, device, *stream, patience));
    BOOST_CHECK(in.intact());
    // Taken is taken.
    BOOST_CHECK(!two->receive(1, {0, seed}, in.view, device, *stream, 1ms));
  }
  test_tensor out{device, *stream, kernels::dtype::f32, 1, 1, 1};
  BOOST_CHECK_THROW(one->send(3, {0, 9}, out.view, device, *stream), std::runtime_error);
}

BOOST_AUTO_TEST_CASE(a_receiver_sleeps_until_the_tensor_comes_or_the_epoch_ends) {
  mpi::local_tensor_hub hub{2};
  auto zero = hub.endpoint(0);
  auto one = hub.endpoint(1);
  far_backend device;
  auto stream = device.make_stream();
  test_tensor out{device, *stream, kernels::dtype::f32, 2, 2, 5};
  test_tensor in{device, *stream, kernels::dtype::f32, 2, 2, 5};
  in.clear();
  auto waiting = std::async(std::launch::async, [&] {
    return one->receive(0, {1, 8}, in.view, device, *stream, std::chrono::nanoseconds::max());
  });
  std::this_thread::sleep_for(5ms);
  zero->send(1, {1, 7}, out.view, device, *stream);  // another step's
  zero->send(1, {1, 8}, out.view, device, *stream);
  BOOST_REQUIRE(waiting.wait_for(patience) == std::future_status::ready);
  BOOST_CHECK(waiting.get());
  BOOST_CHECK(in.intact());

  waiting = std::async(std::launch::async, [&] {
    return one->receive(0, {1, 9}, in.view, device, *stream, std::chrono::nanoseconds::max());
  });
  std::this_thread::sleep_for(5ms);
  one->end_epoch(1);
  BOOST_REQUIRE(waiting.wait_for(patience) == std::future_status::ready);
  BOOST_CHECK(!waiting.get());
  BOOST_CHECK(!one->receive(0, {1, 7}, in.view, device, *stream, patience));
}

// -- actors -------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_message_survives_the_way_to_bytes_and_back) {
  test_config config;
  caf::actor_system system{config};
  const auto sent = caf::make_message(echo_atom_v, parcel{3, {1, 2}, "text"});
  mpi::message_bytes bytes;
  BOOST_REQUIRE(mpi::write(system, sent, bytes) == caf::error{});
  caf::message back;
  BOOST_REQUIRE(mpi::read(system, bytes.data(), bytes.size(), back) == caf::error{});
  BOOST_REQUIRE_EQUAL(back.size(), 2U);
  BOOST_REQUIRE((back.match_elements<echo_atom, parcel>()));
  BOOST_CHECK_EQUAL(back.get_as<parcel>(1).text, "text");
  // Every prefix and one byte too many are refused.
  for (std::size_t n = 0; n < bytes.size(); ++n)
    BOOST_CHECK(!(mpi::read(system, bytes.data(), n, back) == caf::error{}));
  bytes.push_back({});
  BOOST_CHECK(!(mpi::read(system, bytes.data(), bytes.size(), back) == caf::error{}));
}

BOOST_AUTO_TEST_CASE(errors_have_words) {
  test_config config;
  caf::actor_system system{config};
  const auto e = caf::make_error(mpi::transport_error::peer_down, std::string{"rank 3"});
  BOOST_CHECK(e == mpi::transport_error::peer_down);
  BOOST_CHECK(!(e == mpi::transport_error::unknown_role));
  BOOST_CHECK_EQUAL(mpi::context_of(e), "rank 3");
  const auto text = mpi::describe(system, e);
  BOOST_CHECK_MESSAGE(text.find("peer down") != std::string::npos && text.find("rank 3") != std::string::npos,
                      text);
  BOOST_CHECK_EQUAL(mpi::context_of(caf::error{}), "");
  for (std::uint8_t code = 0; code < 8; ++code) {
    mpi::transport_error one{};
    mpi::transport_error two{};
    BOOST_REQUIRE(mpi::from_integer(code, one));
    BOOST_REQUIRE(mpi::from_string(mpi::to_string(one), two));
    BOOST_CHECK(one == two);
  }
  mpi::transport_error none{};
  BOOST_CHECK(!mpi::from_integer(8, none));
  BOOST_CHECK(!mpi::from_string("no such error", none));
}

struct counted_state {
  static constexpr const char* name = "counted";
  counted_state(mpi::base_of<log_actor>* self, std::atomic<int>& alive) : self_{self}, alive_{alive} {
    ++alive_;
  }
  ~counted_state() { --alive_; }
  log_actor::behavior_type make_behavior() {
    mpi::send_after(self_, 5ms, log_actor{self_}, note_atom_v, 1);
    return {[this](note_atom, std::int32_t n) { sum_ += n; },
            [this](report_atom) {
              return parcel{sum_, {}, {}};
            }};
  }

 private:
  mpi::base_of<log_actor>* self_;
  std::atomic<int>& alive_;
  std::int32_t sum_ = 0;
};

BOOST_AUTO_TEST_CASE(state_dies_with_the_actor_and_delayed_messages_come) {
  test_config config;
  std::atomic<int> alive{0};
  {
    caf::actor_system system{config};
    for (const bool detached : {false, true}) {
      auto actor = detached ? mpi::spawn_detached<log_actor, counted_state>(system, std::ref(alive))
                            : mpi::spawn<log_actor, counted_state>(system, std::ref(alive));
      caf::scoped_actor self{system};
      std::int32_t sum = 0;
      for (int tries = 0; tries < 20000 && sum == 0; ++tries) {
        std::this_thread::sleep_for(1ms);
        mpi::request(self.ptr(), actor, patience, report_atom_v)
            .receive([&](const parcel& p) { sum = p.serial; },
                     [](const caf::error&) { BOOST_ERROR("no report"); });
      }
      BOOST_CHECK_EQUAL(sum, 1);
      BOOST_CHECK_EQUAL(alive, 1);
      caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
      self->wait_for(actor);
      // The handle is still held here; the state is not.
      for (int tries = 0; tries < 20000 && alive != 0; ++tries) std::this_thread::sleep_for(1ms);
      BOOST_CHECK_EQUAL(alive, 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_watch_tells_several_actors_apart) {
  test_config config;
  caf::actor_system system{config};
  auto one =
      spawn_script(system, [](caf::event_based_actor*) -> caf::behavior { return {[](ping_atom) {}}; });
  auto two =
      spawn_script(system, [](caf::event_based_actor*) -> caf::behavior { return {[](ping_atom) {}}; });
  std::promise<int> first;
  std::promise<int> second;
  auto guard = spawn_script(system, [&](caf::event_based_actor* self) -> caf::behavior {
    auto watch = std::make_shared<mpi::down_watch<caf::event_based_actor>>(self);
    watch->watch(one, [&first, watch](const caf::error&) { first.set_value(1); });
    watch->watch(two, [&second, watch](const caf::error&) { second.set_value(2); });
    return {[](ping_atom) {}};
  });
  caf::scoped_actor self{system};
  mpi::request(self.ptr(), guard, patience, ping_atom_v)
      .receive([] {}, [](const caf::error&) { BOOST_ERROR("no guard"); });
  auto saw_first = first.get_future();
  auto saw_second = second.get_future();
  caf::anon_send_exit(two, caf::exit_reason::user_shutdown);
  BOOST_REQUIRE(saw_second.wait_for(patience) == std::future_status::ready);
  BOOST_CHECK(saw_first.wait_for(20ms) == std::future_status::timeout);
  caf::anon_send_exit(one, caf::exit_reason::user_shutdown);
  BOOST_CHECK(saw_first.wait_for(patience) == std::future_status::ready);
  caf::anon_send_exit(guard, caf::exit_reason::user_shutdown);
}

BOOST_AUTO_TEST_CASE(a_start_that_takes_too_long_is_ended) {
  std::promise<void> expired;
  const mpi::start_limit limit{1ms, [&] { expired.set_value(); }};
  BOOST_CHECK(expired.get_future().wait_for(patience) == std::future_status::ready);
}

BOOST_AUTO_TEST_CASE(a_start_in_time_is_left_alone) {
  std::atomic<int> expired = 0;
  mpi::start_limit limit{1h, [&] { ++expired; }};
  limit.done();
  limit.done();
  BOOST_CHECK_EQUAL(expired.load(), 0);
}

}  // namespace
}  // namespace fastserve::tests
