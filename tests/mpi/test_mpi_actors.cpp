#define BOOST_TEST_NO_MAIN
#include "mpi_test.hpp"

#include <cstring>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "meeting.hpp"
#include "mpi/actor_transport.hpp"
#include "test_messages.hpp"

namespace fastserve::tests {
namespace {

using namespace std::chrono_literals;

constexpr mpi::role_id echo_role{1};
constexpr mpi::role_id ring_role{2};
constexpr mpi::role_id late_role{3};
constexpr mpi::role_id nobodys_role{99};

/// An actor system on the pump of this rank.
struct rank_of_actors {
  explicit rank_of_actors(mpi::transport_options options = {})
      : system{config},
        pump{world()},
        transport{std::make_unique<mpi::actor_transport>(system, pump, options)} {}

  /// Publishes an echo on every rank and starts.
  void start() {
    echo = mpi::spawn<echo_actor, echo_state>(system, world().rank());
    transport->publish(echo_role, echo);
    pump.start();
  }
  void stop() {
    everyone.wait();  // others may still ask our echo
    caf::anon_send_exit(echo, caf::exit_reason::user_shutdown);
    const auto report = pump.stop(patience);
    BOOST_CHECK_MESSAGE(report.clean, report.reason);
    transport->stop();
  }

  test_config config;
  caf::actor_system system;
  mpi::message_pump pump;
  meeting everyone{pump};
  std::unique_ptr<mpi::actor_transport> transport;
  echo_actor echo;
};

/// The code of a request that failed, or none; fails the test when it did not.
template <class... Ts>
mpi::transport_error error_of(caf::actor_system& system, const echo_actor& to, std::chrono::seconds limit,
                              Ts&&... xs) {
  caf::scoped_actor self{system};
  auto code = mpi::transport_error::none;
  bool other = false;
  mpi::request(self.ptr(), to, limit, std::forward<Ts>(xs)...)
      .receive([](const parcel&) {},
               [&](const caf::error& e) {
                 for (int c = 1; c < 8; ++c)
                   if (e == static_cast<mpi::transport_error>(c)) code = static_cast<mpi::transport_error>(c);
                 other = code == mpi::transport_error::none;
                 if (other) BOOST_ERROR(mpi::describe(system, e));
               });
  BOOST_CHECK(!other);
  return code;
}

BOOST_AUTO_TEST_CASE(requests_and_replies_between_all_pairs) {
  rank_of_actors here;
  here.start();
  caf::scoped_actor self{here.system};
  for (int peer = 0; peer < world().size(); ++peer) {
    const auto to = here.transport->resolve<echo_actor>(peer, echo_role);
    for (std::int32_t i = 0; i < 50; ++i) {
      mpi::request(self.ptr(), to, patience, echo_atom_v, parcel{i, {1, 2, i}, "text"})
          .receive(
              [&](const parcel& p) {
                BOOST_CHECK_EQUAL(p.serial, i + 1000 * (peer + 1));
                BOOST_CHECK((p.values == std::vector<std::int32_t>{1, 2, i}));
              },
              [&](const caf::error& e) { BOOST_ERROR(mpi::describe(here.system, e)); });
    }
  }
  here.stop();
}

BOOST_AUTO_TEST_CASE(errors_of_an_actor_come_back) {
  rank_of_actors here;
  here.start();
  caf::scoped_actor self{here.system};
  for (int peer = 0; peer < world().size(); ++peer) {
    mpi::request(self.ptr(), here.transport->resolve<echo_actor>(peer, echo_role), patience, echo_atom_v,
                 parcel{-1, {}, ""})
        .receive([](const parcel&) { BOOST_ERROR("an answer to a bad request"); },
                 [&](const caf::error& e) {
                   BOOST_CHECK(e == test_error::negative);
                   BOOST_CHECK_EQUAL(mpi::context_of(e), "serial -1");
                   BOOST_CHECK(mpi::describe(here.system, e).find("negative") != std::string::npos);
                 });
  }
  here.stop();
}

BOOST_AUTO_TEST_CASE(a_token_goes_round_the_ring) {
  rank_of_actors here;
  here.start();
  std::promise<std::int32_t> done;
  const int next = (world().rank() + 1) % world().size();
  // Resolved before it is published there: the first messages may wait.
  auto ring =
      mpi::spawn<ring_actor, ring_state>(here.system, here.transport->resolve<ring_actor>(next, ring_role),
                                         world().rank() == 0 ? &done : nullptr);
  here.transport->publish(ring_role, ring);
  constexpr std::int32_t hops = 200;
  if (world().rank() == 0) {
    mpi::anon_send(ring, token_atom_v, hops);
    auto future = done.get_future();
    BOOST_REQUIRE(future.wait_for(patience) == std::future_status::ready);
    BOOST_CHECK_LE(future.get(), 0);
  }
  here.everyone.wait();
  caf::anon_send_exit(ring, caf::exit_reason::user_shutdown);
  here.stop();
}

BOOST_AUTO_TEST_CASE(everybody_asks_everybody_at_once) {
  rank_of_actors here;
  here.start();
  // Several askers a rank, each with many requests in flight.
  std::vector<std::future<int>> answers;
  for (int asker = 0; asker < 4; ++asker) {
    auto result = std::make_shared<std::promise<int>>();
    answers.push_back(result->get_future());
    std::vector<echo_actor> all;
    for (int peer = 0; peer < world().size(); ++peer)
      all.push_back(here.transport->resolve<echo_actor>(peer, echo_role));
    spawn_script(here.system, [all, result](caf::event_based_actor* self) -> caf::behavior {
      constexpr int each = 100;
      auto left = std::make_shared<int>(each * static_cast<int>(all.size()));
      auto good = std::make_shared<int>(0);
      const auto finish = [left, good, result] {
        if (--*left == 0) result->set_value(*good);
      };
      std::mt19937 random{17};
      for (int i = 0; i < each; ++i)
        for (const auto& to : all)
          mpi::request(self, to, patience, echo_atom_v,
                       parcel{i, std::vector<std::int32_t>(random() % 2000, i), "x"})
              .then(
                  [=](const parcel& p) {
                    if (p.serial % 1000 == i) ++*good;
                    finish();
                  },
                  [=](const caf::error&) { finish(); });
      return {};
    });
  }
  for (auto& answer : answers) {
    BOOST_REQUIRE(answer.wait_for(patience) == std::future_status::ready);
    BOOST_CHECK_EQUAL(answer.get(), 100 * world().size());
  }
  BOOST_CHECK_EQUAL(here.transport->stats().malformed, 0U);
  BOOST_CHECK_EQUAL(here.transport->stats().stale, 0U);
  here.stop();
}

BOOST_AUTO_TEST_CASE(a_role_is_the_same_actor_wherever_it_is_named) {
  rank_of_actors here;
  here.start();
  const int next = (world().rank() + 1) % world().size();
  const auto one = here.transport->resolve<echo_actor>(next, echo_role);
  BOOST_CHECK(one == here.transport->resolve<echo_actor>(next, echo_role));
  BOOST_CHECK(here.transport->resolve<echo_actor>(world().rank(), echo_role) == here.echo);
  BOOST_CHECK_THROW(here.transport->resolve<echo_actor>(world().size(), echo_role), std::runtime_error);
  here.stop();
}

BOOST_AUTO_TEST_CASE(a_delegated_request_is_answered_by_the_delegate) {
  rank_of_actors here;
  here.start();
  const int next = (world().rank() + 1) % world().size();
  // Our own relay is reached from the rank before us and passes on to the rank after us.
  auto relay =
      mpi::spawn<echo_actor, relay_state>(here.system, here.transport->resolve<echo_actor>(next, echo_role));
  here.transport->publish(late_role, relay);
  const int previous = (world().rank() + world().size() - 1) % world().size();
  caf::scoped_actor self{here.system};
  const auto answerer = (previous + 1) % world().size();
  mpi::request(self.ptr(), here.transport->resolve<echo_actor>(previous, late_role), patience, echo_atom_v,
               parcel{5, {}, ""})
      .receive([&](const parcel& p) { BOOST_CHECK_EQUAL(p.serial, 5 + 1000 * (answerer + 1)); },
               [&](const caf::error& e) { BOOST_ERROR(mpi::describe(here.system, e)); });
  here.everyone.wait();
  caf::anon_send_exit(relay, caf::exit_reason::user_shutdown);
  here.stop();
}

BOOST_AUTO_TEST_CASE(messages_wait_for_a_role_and_keep_their_order) {
  rank_of_actors here;
  here.start();
  const int next = (world().rank() + 1) % world().size();
  caf::scoped_actor self{here.system};
  const auto to = here.transport->resolve<log_actor>(next, late_role);
  for (std::int32_t i = 0; i < 20; ++i) mpi::send(self.ptr(), to, note_atom_v, i);
  here.everyone.wait();
  auto log = mpi::spawn<log_actor, log_state>(here.system);
  here.transport->publish(late_role, log);
  for (std::int32_t i = 20; i < 40; ++i) mpi::send(self.ptr(), to, note_atom_v, i);
  // Nothing is an answer, too.
  mpi::request(self.ptr(), to, patience, note_atom_v, 40)
      .receive([] {}, [&](const caf::error& e) { BOOST_ERROR(mpi::describe(here.system, e)); });
  mpi::request(self.ptr(), to, patience, report_atom_v)
      .receive(
          [](const parcel& report) {
            const auto& notes = report.values;
            BOOST_REQUIRE_EQUAL(notes.size(), 41U);
            for (std::int32_t i = 0; i <= 40; ++i) BOOST_CHECK_EQUAL(notes[static_cast<std::size_t>(i)], i);
          },
          [&](const caf::error& e) { BOOST_ERROR(mpi::describe(here.system, e)); });
  here.everyone.wait();
  caf::anon_send_exit(log, caf::exit_reason::user_shutdown);
  here.stop();
}

BOOST_AUTO_TEST_CASE(unknown_roles_are_answered_once_all_are_published) {
  rank_of_actors here;
  here.start();
  const int next = (world().rank() + 1) % world().size();
  const auto nobody = here.transport->resolve<echo_actor>(next, nobodys_role);
  // One request waits for the seal, one comes after it.
  auto early = std::async(std::launch::async,
                          [&] { return error_of(here.system, nobody, patience, echo_atom_v, parcel{}); });
  std::this_thread::sleep_for(20ms);
  BOOST_CHECK(early.wait_for(0s) == std::future_status::timeout);
  here.everyone.wait();
  here.transport->seal();
  BOOST_CHECK(early.get() == mpi::transport_error::unknown_role);
  BOOST_CHECK(error_of(here.system, nobody, patience, echo_atom_v, parcel{}) ==
              mpi::transport_error::unknown_role);
  here.stop();
}

BOOST_AUTO_TEST_CASE(withdrawn_roles_and_ended_actors_are_answered) {
  rank_of_actors here;
  here.start();
  const int next = (world().rank() + 1) % world().size();
  const auto to = here.transport->resolve<echo_actor>(next, late_role);
  auto actor = mpi::spawn<echo_actor, echo_state>(here.system, 0);
  here.transport->publish(late_role, actor);
  BOOST_CHECK(error_of(here.system, to, patience, echo_atom_v, parcel{}) == mpi::transport_error::none);
  here.everyone.wait();
  here.transport->unpublish(late_role);
  here.everyone.wait();
  if (world().size() > 1)
    BOOST_CHECK(error_of(here.system, to, patience, echo_atom_v, parcel{}) ==
                mpi::transport_error::unknown_role);
  here.everyone.wait();
  // Published, but dead: CAF's own answer comes back.
  here.transport->publish(late_role, actor);
  caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
  caf::scoped_actor self{here.system};
  self->wait_for(actor);
  here.everyone.wait();
  bool failed = false;
  mpi::request(self.ptr(), to, patience, echo_atom_v, parcel{})
      .receive([](const parcel&) {},
               [&](const caf::error& e) { failed = !(e == caf::sec::request_timeout); });
  BOOST_CHECK(failed);
  here.everyone.wait();
  here.stop();
}

BOOST_AUTO_TEST_CASE(what_waits_for_a_role_is_bounded) {
  mpi::transport_options options;
  options.max_parked_frames = 10;
  rank_of_actors here{options};
  here.start();
  const int next = (world().rank() + 1) % world().size();
  const auto nobody = here.transport->resolve<echo_actor>(next, nobodys_role);
  for (int i = 0; i < 10; ++i) mpi::anon_send(caf::actor_cast<caf::actor>(nobody), echo_atom_v, parcel{});
  BOOST_CHECK(error_of(here.system, nobody, patience, echo_atom_v, parcel{}) ==
              mpi::transport_error::queue_full);
  here.stop();
}

BOOST_AUTO_TEST_CASE(a_dead_peer_fails_what_is_pending_and_what_comes) {
  if (world().size() < 2) return;
  rank_of_actors here;
  here.start();
  const int dead = world().size() - 1;
  if (world().rank() != dead) {
    const auto nobody = here.transport->resolve<echo_actor>(dead, nobodys_role);
    std::promise<bool> down;
    // A role that never comes: the request stays open until the peer is declared dead.
    auto pending = std::async(std::launch::async,
                              [&] { return error_of(here.system, nobody, patience, echo_atom_v, parcel{}); });
    auto guard = spawn_script(here.system, [&](caf::event_based_actor* self) -> caf::behavior {
      auto watch = std::make_shared<mpi::down_watch<caf::event_based_actor>>(self);
      watch->watch(caf::actor_cast<caf::actor>(nobody), [&down, self, watch](const caf::error& why) {
        down.set_value(why == mpi::transport_error::peer_down);
        self->quit();
      });
      return {[](ping_atom) {}};
    });
    caf::scoped_actor self{here.system};
    mpi::request(self.ptr(), guard, patience, ping_atom_v)
        .receive([] {}, [](const caf::error&) { BOOST_ERROR("no guard"); });
    std::this_thread::sleep_for(20ms);
    here.everyone.wait();
    here.transport->on_peer_down(dead);
    BOOST_CHECK(pending.get() == mpi::transport_error::peer_down);
    auto fired = down.get_future();
    BOOST_REQUIRE(fired.wait_for(patience) == std::future_status::ready);
    BOOST_CHECK(fired.get());
    BOOST_CHECK(error_of(here.system, nobody, patience, echo_atom_v, parcel{}) ==
                mpi::transport_error::peer_down);
    // The living go on talking.
    for (int peer = 0; peer < dead; ++peer)
      BOOST_CHECK(error_of(here.system, here.transport->resolve<echo_actor>(peer, echo_role), patience,
                           echo_atom_v, parcel{}) == mpi::transport_error::none);
  } else {
    here.everyone.wait();
    for (int peer = 0; peer < dead; ++peer) here.transport->on_peer_down(peer);
  }
  here.stop();
  world().barrier();
}

BOOST_AUTO_TEST_CASE(stopping_fails_what_is_pending) {
  rank_of_actors here;
  here.start();
  const int next = (world().rank() + 1) % world().size();
  auto nobody = here.transport->resolve<echo_actor>(next, nobodys_role);
  auto pending = std::async(std::launch::async,
                            [&] { return error_of(here.system, nobody, patience, echo_atom_v, parcel{}); });
  std::this_thread::sleep_for(20ms);
  here.stop();
  BOOST_CHECK(pending.get() == mpi::transport_error::shutting_down);
  BOOST_CHECK(error_of(here.system, nobody, patience, echo_atom_v, parcel{}) ==
              mpi::transport_error::shutting_down);
  here.transport.reset();  // handles may outlive the transport
  BOOST_CHECK(error_of(here.system, nobody, patience, echo_atom_v, parcel{}) ==
              mpi::transport_error::shutting_down);
}

BOOST_AUTO_TEST_CASE(a_message_that_cannot_be_written_fails_at_once) {
  rank_of_actors here;
  here.start();
  const int next = (world().rank() + 1) % world().size();
  if (world().size() > 1) {
    const auto to = here.transport->resolve<echo_actor>(next, echo_role);
    caf::scoped_actor self{here.system};
    bool failed = false;
    // A type that was never registered cannot cross.
    mpi::request(self.ptr(), caf::actor_cast<caf::actor>(to), patience, unregistered{})
        .receive([] {},
                 [&](const caf::error& e) {
                   failed = e == mpi::transport_error::not_serializable;
                   if (!failed) BOOST_ERROR(mpi::describe(here.system, e));
                 });
    BOOST_CHECK(failed);
  }
  here.stop();
}

BOOST_AUTO_TEST_CASE(malformed_messages_are_counted_and_answered) {
  rank_of_actors here;
  here.start();
  const int next = (world().rank() + 1) % world().size();
  // A good message as a start, then every kind of damage to its bytes.
  mpi::message_bytes body;
  BOOST_REQUIRE(mpi::write(here.system, caf::make_message(echo_atom_v, parcel{7, {1, 2, 3}, "hello"}),
                           body) == caf::error{});
  const std::uint64_t head[4] = {0, (std::uint64_t{1} << 63) | 1, 0, 0};
  std::mt19937_64 random{static_cast<std::uint64_t>(world().rank())};
  constexpr int tries = 3000;
  for (int i = 0; i < tries; ++i) {
    std::vector<char> bytes(sizeof head);
    std::memcpy(bytes.data(), head, sizeof head);
    bytes.insert(bytes.end(), reinterpret_cast<const char*>(body.data()),
                 reinterpret_cast<const char*>(body.data()) + body.size());
    const auto damage = random() % 4;
    if (damage == 0) bytes.resize(random() % bytes.size());
    if (damage == 1) bytes.insert(bytes.end(), random() % 64 + 1, static_cast<char>(random()));
    if (damage >= 2)
      for (auto n = random() % 8 + 1; n > 0; --n)
        bytes[sizeof head + random() % body.size()] = static_cast<char>(random());
    if (damage == 3 && i % 3 == 0) bytes[random() % sizeof head] = static_cast<char>(random());
    auto out = here.pump.make_frame(mpi::channel::actors, 0, mpi::any_epoch, bytes.size());
    if (!bytes.empty()) std::memcpy(out.payload().data(), bytes.data(), bytes.size());
    here.pump.push(next, std::move(out));
  }
  here.everyone.wait();
  // Still there. (On stderr CAF has named what was well formed, but no message of this actor.)
  BOOST_CHECK(error_of(here.system, here.transport->resolve<echo_actor>(next, echo_role), patience,
                       echo_atom_v, parcel{}) == mpi::transport_error::none);
  here.everyone.wait();
  BOOST_CHECK_GT(here.transport->stats().malformed, tries / 4);
  BOOST_CHECK_EQUAL(here.pump.stats().handler_errors, 0U);
  here.stop();
}

}  // namespace
}  // namespace fastserve::tests
