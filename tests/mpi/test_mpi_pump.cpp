#define BOOST_TEST_NO_MAIN
#include "mpi_test.hpp"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "meeting.hpp"
#include "mpi/check.hpp"
#include "mpi/message_pump.hpp"

namespace fastserve::tests {
namespace {

using namespace std::chrono_literals;
using mpi::channel;

/// FNV-1a over words: enough to notice a byte out of place.
std::uint64_t checksum(const std::byte* data, std::size_t bytes) {
  std::uint64_t h = 1469598103934665603ULL;
  for (; bytes >= 8; bytes -= 8, data += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, 8);
    h = (h ^ word) * 1099511628211ULL;
    h ^= h >> 29;
  }
  for (std::size_t i = 0; i < bytes; ++i) h = (h ^ static_cast<std::uint64_t>(data[i])) * 1099511628211ULL;
  return h;
}

struct letter {
  std::uint64_t serial;
  std::uint64_t sum;
};

mpi::frame make_letter(mpi::message_pump& pump, std::uint64_t serial, std::size_t body,
                       std::mt19937_64& random) {
  auto out = pump.make_frame(channel::user, 0, mpi::any_epoch, sizeof(letter) + body);
  auto* text = out.payload().data() + sizeof(letter);
  auto seed = random();
  for (std::size_t i = 0; i < body; ++i)
    text[i] = static_cast<std::byte>((seed = seed * 6364136223846793005ULL + 1) >> 56);
  const letter head{serial, checksum(text, body)};
  std::memcpy(out.payload().data(), &head, sizeof head);
  return out;
}

mpi::frame small(mpi::message_pump& pump, std::uint32_t epoch = mpi::any_epoch, std::uint32_t kind = 0) {
  return pump.make_frame(channel::user, kind, epoch, 8);
}

void stop_cleanly(mpi::message_pump& pump) {
  const auto report = pump.stop(patience);
  BOOST_CHECK_MESSAGE(report.clean, report.reason);
}

BOOST_AUTO_TEST_CASE(starts_and_stops) {
  for (int i = 0; i < 20; ++i) {
    mpi::message_pump pump{world()};
    pump.start();
    stop_cleanly(pump);
    BOOST_CHECK(!pump.push(0, small(pump)));
  }
}

BOOST_AUTO_TEST_CASE(carries_ten_thousand_messages_intact_and_in_order) {
  mpi::message_pump pump{world()};
  const auto size = static_cast<std::size_t>(world().size());
  std::vector<std::uint64_t> next(size);
  std::uint64_t broken = 0;
  std::uint64_t disordered = 0;
  countdown arrived;
  pump.set_handler(channel::user, [&](mpi::frame&& what) {
    letter head{};
    std::memcpy(&head, what.payload().data(), sizeof head);
    const auto body = what.payload().subspan(sizeof head);
    if (checksum(body.data(), body.size()) != head.sum) ++broken;
    if (head.serial != next[static_cast<std::size_t>(what.peer())]++) ++disordered;
    arrived.add();
  });
  pump.start();
  // 10,000 over all ranks and destinations, this rank included; sizes from 0 to 1 MB, mostly small.
  const std::uint64_t each = 10000 / (size * size);
  std::mt19937_64 random{static_cast<std::uint64_t>(7 + world().rank())};
  for (std::uint64_t serial = 0; serial < each; ++serial) {
    for (int peer = 0; peer < world().size(); ++peer) {
      const auto limit = std::size_t{1} << (random() % 21);
      BOOST_REQUIRE(pump.push(peer, make_letter(pump, serial, random() % (limit + 1), random)));
    }
    // Not more in flight than this machine's memory likes.
    while (pump.stats().bytes_sent > pump.stats().bytes_received + (256U << 20))
      std::this_thread::sleep_for(1ms);
  }
  BOOST_CHECK(arrived.wait_for(each * size, 60s));
  stop_cleanly(pump);
  BOOST_CHECK_EQUAL(arrived.count(), each * size);
  BOOST_CHECK_EQUAL(broken, 0U);
  BOOST_CHECK_EQUAL(disordered, 0U);
  BOOST_CHECK_EQUAL(pump.stats().malformed_frames, 0U);
  // Recycled: far fewer allocations than messages.
  BOOST_CHECK_LT(pump.pool().allocations(), each * size);
}

BOOST_AUTO_TEST_CASE(keeps_order_between_large_and_small) {
  mpi::message_pump pump{world()};
  std::map<int, std::vector<std::uint32_t>> seen;
  countdown arrived;
  pump.set_handler(channel::user, [&](mpi::frame&& what) {
    seen[what.peer()].push_back(what.header().kind);
    arrived.add();
  });
  pump.start();
  constexpr std::uint32_t rounds = 40;
  for (std::uint32_t i = 0; i < rounds; ++i)
    for (int peer = 0; peer < world().size(); ++peer)
      pump.push(peer, pump.make_frame(channel::user, i, mpi::any_epoch, i % 2 == 0 ? 3U << 20 : 5));
  BOOST_CHECK(arrived.wait_for(rounds * static_cast<std::uint64_t>(world().size())));
  stop_cleanly(pump);
  for (const auto& [peer, kinds] : seen)
    for (std::uint32_t i = 0; i < kinds.size(); ++i) BOOST_CHECK_EQUAL(kinds[i], i);
}

BOOST_AUTO_TEST_CASE(drops_frames_of_an_old_epoch) {
  mpi::message_pump pump{world()};
  std::atomic<int> old{0};
  countdown current;
  countdown ready;
  pump.set_handler(channel::user, [&](mpi::frame&& what) {
    const auto h = what.header();
    if (h.kind == 9)
      ready.add();
    else if (h.epoch < 3)
      ++old;
    else
      current.add();
  });
  const bool ahead = world().rank() == 0;  // the others lag behind and still send frames of epoch 2
  pump.set_epoch(ahead ? 3 : 2);
  pump.start();
  const auto others = static_cast<std::uint64_t>(world().size()) - 1;
  if (ahead) {
    for (int peer = 1; peer < world().size(); ++peer) pump.push(peer, small(pump, mpi::any_epoch, 9));
    BOOST_CHECK(current.wait_for(8 * others));
    BOOST_CHECK_EQUAL(pump.stats().stale_frames, 5 * others);
  } else {
    BOOST_CHECK(ready.wait_for(1));
    for (int i = 0; i < 5; ++i) pump.push(0, small(pump, 2));
    for (int i = 0; i < 7; ++i) pump.push(0, small(pump, 3));
    pump.push(0, small(pump, 4));
  }
  stop_cleanly(pump);
  BOOST_CHECK_EQUAL(old, 0);
  if (ahead) BOOST_CHECK_EQUAL(current.count(), 8 * others);
}

BOOST_AUTO_TEST_CASE(does_not_send_what_is_stale) {
  mpi::message_pump pump{world()};
  std::atomic<int> arrived{0};
  pump.set_handler(channel::user, [&](mpi::frame&&) { ++arrived; });
  pump.set_epoch(5);
  pump.start();
  for (int i = 0; i < 10; ++i) pump.push((world().rank() + 1) % world().size(), small(pump, 4));
  stop_cleanly(pump);
  BOOST_CHECK_EQUAL(arrived, 0);
  BOOST_CHECK_EQUAL(pump.stats().stale_frames, 10U);
}

BOOST_AUTO_TEST_CASE(survives_bytes_that_are_no_frames) {
  mpi::pump_options options;
  options.max_frame_bytes = 1 << 16;
  mpi::message_pump pump{world(), options};
  countdown good;
  pump.set_handler(channel::user, [&](mpi::frame&&) { good.add(); });
  pump.start();
  const int next = (world().rank() + 1) % world().size();
  // Through the pump, so that they take the ordinary way; the header is spoiled after it was written.
  const auto spoil = [&](auto change) {
    auto what = small(pump);
    auto h = what.header();
    change(h);
    std::memcpy(what.bytes().data(), &h, sizeof h);
    pump.push(next, std::move(what));
  };
  std::uint64_t bad = 0;
  if (world().size() > 1) {  // to itself a pump sends no bytes
    spoil([](mpi::frame_header& h) { h.magic ^= 1; });
    spoil([](mpi::frame_header& h) { h.version += 1; });
    spoil([](mpi::frame_header& h) { h.payload_bytes += 1; });
    spoil([](mpi::frame_header& h) { h.payload_bytes = ~std::uint64_t{0}; });
    bad += 4;
  }
  // A channel that nobody serves, and a control frame of an unknown kind.
  pump.push(next, pump.make_frame(channel::tensors, 0, mpi::any_epoch, 16));
  pump.push(next, pump.make_frame(channel::control, 77, mpi::any_epoch, 0));
  bad += 2;
  pump.push(next, small(pump));
  BOOST_CHECK(good.wait_for(1));
  BOOST_CHECK_EQUAL(pump.stats().malformed_frames, bad);
  BOOST_CHECK_THROW(pump.make_frame(channel::user, 0, mpi::any_epoch, 1 << 16), std::runtime_error);
  BOOST_CHECK_THROW(pump.push(world().size(), small(pump)), std::runtime_error);
  BOOST_CHECK_THROW(pump.push(-1, small(pump)), std::runtime_error);
  stop_cleanly(pump);
}

BOOST_AUTO_TEST_CASE(refuses_a_frame_over_the_receivers_limit) {
  mpi::pump_options options;
  options.max_frame_bytes = world().rank() == 0 ? 4096 : 1 << 20;
  mpi::message_pump pump{world(), options};
  std::atomic<int> large{0};
  countdown good;
  pump.set_handler(channel::user, [&](mpi::frame&& what) {
    if (what.payload().size() > 8) ++large;
    good.add();
  });
  pump.start();
  if (world().rank() != 0) {
    pump.push(0, pump.make_frame(channel::user, 0, mpi::any_epoch, 500000));
    pump.push(0, pump.make_frame(channel::user, 0, mpi::any_epoch, 4096));
    pump.push(0, small(pump));
  } else {
    BOOST_CHECK(good.wait_for(static_cast<std::uint64_t>(world().size()) - 1));
  }
  stop_cleanly(pump);
  BOOST_CHECK_EQUAL(large, 0);
  if (world().rank() == 0)
    BOOST_CHECK_EQUAL(pump.stats().malformed_frames, 2 * (static_cast<std::uint64_t>(world().size()) - 1));
}

BOOST_AUTO_TEST_CASE(counts_exceptions_of_handlers) {
  mpi::message_pump pump{world()};
  countdown arrived;
  pump.set_handler(channel::user, [&](mpi::frame&&) {
    arrived.add();
    throw std::runtime_error("no");
  });
  pump.start();
  for (int i = 0; i < 3; ++i) pump.push((world().rank() + 1) % world().size(), small(pump));
  BOOST_CHECK(arrived.wait_for(3));
  stop_cleanly(pump);
  BOOST_CHECK_EQUAL(pump.stats().handler_errors, 3U);
}

BOOST_AUTO_TEST_CASE(runs_functions_on_its_thread) {
  mpi::message_pump pump{world()};
  std::thread::id before;
  pump.run([&] { before = std::this_thread::get_id(); });
  BOOST_CHECK(before == std::this_thread::get_id());
  pump.start();
  std::thread::id inside;
  std::thread::id nested;
  pump.run([&] {
    inside = std::this_thread::get_id();
    pump.run([&] { nested = std::this_thread::get_id(); });
  });
  BOOST_CHECK(inside != std::this_thread::get_id());
  BOOST_CHECK(inside == nested);
  BOOST_CHECK_THROW(pump.run([] { throw std::runtime_error("inside"); }), std::runtime_error);
  // A collective on a communicator of one's own, as a rebuild after a death does it.
  std::vector<std::string> all;
  pump.run([&] { all = world().allgather(std::to_string(world().rank())); });
  BOOST_CHECK_EQUAL(all.size(), static_cast<std::size_t>(world().size()));
  stop_cleanly(pump);
}

BOOST_AUTO_TEST_CASE(stops_with_messages_in_flight_and_loses_none) {
  for (int round = 0; round < 5; ++round) {
    mpi::message_pump pump{world()};
    std::atomic<std::uint64_t> arrived{0};
    pump.set_handler(channel::user, [&](mpi::frame&&) { ++arrived; });
    pump.start();
    // Ranks stop at different times, all with a full queue; the pushing goes on until stop() closes it.
    std::atomic<bool> over{false};
    std::vector<std::uint64_t> taken(static_cast<std::size_t>(world().size()));
    std::thread writer{[&] {
      for (std::uint64_t i = 0; !over && i < 3000; ++i) {
        const auto peer = i % taken.size();
        if (!pump.push(static_cast<int>(peer),
                       pump.make_frame(channel::user, 0, mpi::any_epoch, i % 50 == 0 ? 200000 : 100)))
          break;
        ++taken[peer];
      }
    }};
    std::this_thread::sleep_for(2ms * world().rank());
    stop_cleanly(pump);
    over = true;
    writer.join();
    // Every frame that was taken arrived.
    std::string mine;
    for (const auto n : taken) mine += std::to_string(n) + " ";
    std::uint64_t expected = 0;
    for (const auto& row : world().allgather(mine)) {
      std::size_t at = 0;
      for (int r = 0; r < world().rank(); ++r) at = row.find(' ', at) + 1;
      expected += std::stoull(row.substr(at));
    }
    BOOST_CHECK_EQUAL(arrived, expected);
  }
}

BOOST_AUTO_TEST_CASE(answers_while_others_still_run) {
  // Rank 0 stops at once, yet goes on serving the others until they stop, too.
  mpi::message_pump pump{world()};
  countdown answers;
  pump.set_handler(channel::user, [&](mpi::frame&& what) {
    if (what.header().kind == 1)
      pump.push(what.peer(), small(pump, mpi::any_epoch, 2));
    else
      answers.add();
  });
  pump.start();
  if (world().rank() != 0) {
    std::this_thread::sleep_for(30ms);
    for (int i = 0; i < 10; ++i) pump.push(0, small(pump, mpi::any_epoch, 1));
    BOOST_CHECK(answers.wait_for(10));
  }
  stop_cleanly(pump);
}

BOOST_AUTO_TEST_CASE(fences_a_peer_declared_dead) {
  if (world().size() < 2) return;
  mpi::message_pump pump{world()};
  countdown arrived;
  std::atomic<int> from_dead{0};
  std::atomic<int> fenced_by{0};
  const int dead = world().size() - 1;
  pump.set_handler(channel::user, [&](mpi::frame&& what) {
    if (what.peer() == dead) ++from_dead;
    arrived.add();
  });
  pump.set_fence_handler([&](int by) {
    BOOST_CHECK_NE(by, dead);
    ++fenced_by;
  });
  pump.start();
  pump.run([] { world().barrier(); });
  const auto survivors = static_cast<std::uint64_t>(world().size()) - 1;
  if (world().rank() != dead) {
    pump.drop_peer(dead);
    BOOST_CHECK(pump.dropped(dead));
    BOOST_CHECK(!pump.push(dead, small(pump)));
  } else {
    // The zombie: it drops everybody else, so that its own stop does not wait for them.
    for (int r = 0; r < dead; ++r) pump.push(r, small(pump));
  }
  pump.run([] { world().barrier(); });
  if (world().rank() == dead) {
    for (int r = 0; r < dead; ++r) pump.push(r, small(pump));
    // Each tells it so, once.
    for (int i = 0; i < 20000 && fenced_by < dead; ++i) std::this_thread::sleep_for(1ms);
    BOOST_CHECK_EQUAL(fenced_by, dead);
    for (int r = 0; r < dead; ++r) pump.drop_peer(r);
  } else {
    for (int r = 0; r < dead; ++r) pump.push(r, small(pump, mpi::any_epoch, 5));
    BOOST_CHECK(arrived.wait_for(survivors));
  }
  stop_cleanly(pump);
  BOOST_CHECK_LE(from_dead, 1);  // sent before the declaration, at most
  world().barrier();
}

BOOST_AUTO_TEST_CASE(leaves_in_time_when_a_peer_never_stops) {
  if (world().size() < 2) return;
  mpi::message_pump pump{world()};
  pump.start();
  const int last = world().size() - 1;
  if (world().rank() == last) {
    // A rank that is stuck: its thread stays away from the pump until the others have given up.
    pump.run([] { world().barrier(); });
    const auto report = pump.stop(300ms);
    BOOST_CHECK(!report.clean);
    world().skip_finalize(false);  // all ranks are alive and will finalise
    return;
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto report = pump.stop(3s);  // long enough for the others to come, on a busy machine too
  const auto took = std::chrono::steady_clock::now() - begin;
  BOOST_CHECK(!report.clean);
  BOOST_CHECK_EQUAL(report.reason, "rank " + std::to_string(last) + " did not stop");
  BOOST_CHECK(took < patience);
  BOOST_CHECK_EQUAL(pump.stop(1s).reason, report.reason);
  world().skip_finalize(false);
  world().barrier();
}

BOOST_AUTO_TEST_CASE(checks_its_options) {
  mpi::pump_options options;
  BOOST_CHECK_EQUAL(options.validate(), "");
  options.max_frame_bytes = std::size_t{1} << 31;
  BOOST_CHECK(options.validate().find("max_frame_bytes") != std::string::npos);
  BOOST_CHECK_THROW((mpi::message_pump{world(), options}), std::runtime_error);
  options = {};
  options.sleep_divisor = 0;
  BOOST_CHECK(!options.validate().empty());
  options = {};
  options.rung_sleep = options.shortest_sleep / 2;
  BOOST_CHECK(options.validate().find("rung_sleep") != std::string::npos);
}

}  // namespace
}  // namespace fastserve::tests
