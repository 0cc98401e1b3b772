#define BOOST_TEST_NO_MAIN
#include "mpi_test.hpp"

#include <chrono>
#include <cstring>
#include <future>
#include <limits>
#include <string>
#include <thread>

#include "meeting.hpp"
#include "mpi/mpi_tensor_channel.hpp"
#include "tensor_cases.hpp"

namespace fastserve::tests {
namespace {

using namespace std::chrono_literals;

struct rank_of_tensors {
  rank_of_tensors() { pump.start(); }
  void stop() {
    everyone.wait();
    const auto report = pump.stop(patience);
    BOOST_CHECK_MESSAGE(report.clean, report.reason);
  }
  int next() const { return (world().rank() + 1) % world().size(); }
  int previous() const { return (world().rank() + world().size() - 1) % world().size(); }
  test_tensor make(kernels::dtype type, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
    return {device, *stream, type, rows, cols, seed};
  }

  mpi::message_pump pump{world()};
  meeting everyone{pump};
  mpi::mpi_tensor_channel channel{pump};
  far_backend device;
  std::unique_ptr<kernels::stream> stream = device.make_stream();
};

BOOST_AUTO_TEST_CASE(carries_every_type_and_shape_round_the_ring) {
  rank_of_tensors here;
  BOOST_CHECK_EQUAL(here.channel.name(), "MPI");
  std::uint64_t step = 0;
  for (const auto type : all_dtypes) {
    for (const auto& [rows, cols] : {std::pair{1, 1}, {0, 64}, {1, 4096}, {7, 129}, {512, 2048}}) {
      auto out = here.make(type, rows, cols, step * 100 + static_cast<std::uint64_t>(world().rank()));
      auto in = here.make(type, rows, cols, step * 100 + static_cast<std::uint64_t>(here.previous()));
      in.clear();
      here.channel.send(here.next(), {1, step}, out.view, here.device, *here.stream);
      out.clear();  // the sender may reuse its buffer at once
      BOOST_REQUIRE(
          here.channel.receive(here.previous(), {1, step}, in.view, here.device, *here.stream, patience));
      BOOST_CHECK(in.intact());
      ++step;
    }
  }
  BOOST_CHECK_EQUAL(here.channel.waiting(), 0U);
  BOOST_CHECK_EQUAL(here.channel.malformed(), 0U);
  here.stop();
}

BOOST_AUTO_TEST_CASE(finds_tensors_by_key_whatever_their_order) {
  rank_of_tensors here;
  constexpr std::uint64_t steps = 20;
  for (std::uint64_t step = 0; step < steps; ++step)
    for (int peer = 0; peer < world().size(); ++peer) {
      auto out =
          here.make(kernels::dtype::bf16, 3, 64, step * 1000 + static_cast<std::uint64_t>(world().rank()));
      here.channel.send(peer, {0, step}, out.view, here.device, *here.stream);
    }
  for (std::uint64_t step = steps; step-- > 0;)
    for (int peer = 0; peer < world().size(); ++peer) {
      auto in = here.make(kernels::dtype::bf16, 3, 64, step * 1000 + static_cast<std::uint64_t>(peer));
      in.clear();
      BOOST_REQUIRE(here.channel.receive(peer, {0, step}, in.view, here.device, *here.stream, patience));
      BOOST_CHECK(in.intact());
    }
  here.stop();
}

BOOST_AUTO_TEST_CASE(allocates_nothing_in_the_steady_state) {
  rank_of_tensors here;
  auto out = here.make(kernels::dtype::f32, 16, 512, 1);
  auto in = here.make(kernels::dtype::f32, 16, 512, 1);
  const auto lap = [&](std::uint64_t step) {
    here.channel.send(here.next(), {0, step}, out.view, here.device, *here.stream);
    BOOST_REQUIRE(
        here.channel.receive(here.previous(), {0, step}, in.view, here.device, *here.stream, patience));
  };
  std::uint64_t step = 0;
  while (step < 100) lap(step++);
  const auto before = here.pump.pool().allocations();
  while (step < 600) lap(step++);
  // A neighbour may run ahead now and then, which takes a buffer more; never one a message.
  BOOST_CHECK_LE(here.pump.pool().allocations() - before, 10U);
  here.stop();
}

BOOST_AUTO_TEST_CASE(refuses_another_shape_or_type_with_one_clear_line) {
  rank_of_tensors here;
  auto out = here.make(kernels::dtype::f32, 4, 8, 1);
  const auto expect_refusal = [&](std::uint64_t step, kernels::tensor_view wanted, const std::string& text) {
    here.channel.send(here.next(), {0, step}, out.view, here.device, *here.stream);
    BOOST_CHECK_EXCEPTION(
        here.channel.receive(here.previous(), {0, step}, wanted, here.device, *here.stream, patience),
        std::runtime_error, [&](const std::runtime_error& e) {
          const std::string what = e.what();
          BOOST_TEST_MESSAGE(what);
          return what.find(text) != std::string::npos && what.find("found [4, 8] f32") != std::string::npos;
        });
  };
  auto rows = here.make(kernels::dtype::f32, 5, 8, 1);
  expect_refusal(0, rows.view, "expected [5, 8] f32");
  auto cols = here.make(kernels::dtype::f32, 8, 4, 1);
  expect_refusal(1, cols.view, "expected [8, 4] f32");
  auto type = here.make(kernels::dtype::i32, 4, 8, 1);
  expect_refusal(2, type.view, "expected [4, 8] i32");
  auto wide = here.make(kernels::dtype::f32, 4, 16, 1);
  BOOST_CHECK_THROW(
      here.channel.send(here.next(), {0, 3}, wide.view.col_range(0, 8), here.device, *here.stream),
      std::runtime_error);
  here.stop();
}

BOOST_AUTO_TEST_CASE(gives_up_at_the_deadline) {
  rank_of_tensors here;
  auto in = here.make(kernels::dtype::f32, 1, 8, 1);
  const auto begin = std::chrono::steady_clock::now();
  BOOST_CHECK(!here.channel.receive(here.previous(), {0, 0}, in.view, here.device, *here.stream, 50ms));
  const auto took = std::chrono::steady_clock::now() - begin;
  BOOST_CHECK(took >= 50ms);
  BOOST_CHECK(took < 5s);
  BOOST_CHECK(!here.channel.receive(here.previous(), {0, 0}, in.view, here.device, *here.stream, 0ns));
  here.stop();
}

BOOST_AUTO_TEST_CASE(the_end_of_an_epoch_frees_receivers_and_drops_tensors) {
  rank_of_tensors here;
  auto old = here.make(kernels::dtype::f32, 2, 8, 1);
  auto fresh = here.make(kernels::dtype::f32, 2, 8, 2);
  // A tensor of epoch 4 that nobody takes, and one that comes after its epoch has ended.
  here.channel.send(here.next(), {4, 1}, old.view, here.device, *here.stream);
  auto in = here.make(kernels::dtype::f32, 2, 8, 2);
  auto waiting = std::async(std::launch::async, [&] {
    return here.channel.receive(here.previous(), {4, 77}, in.view, here.device, *here.stream,
                                std::chrono::hours{1});
  });
  std::this_thread::sleep_for(20ms);
  here.everyone.wait();
  here.channel.end_epoch(4);
  BOOST_REQUIRE(waiting.wait_for(patience) == std::future_status::ready);
  BOOST_CHECK(!waiting.get());
  BOOST_CHECK(!here.channel.receive(here.previous(), {4, 1}, in.view, here.device, *here.stream, patience));
  BOOST_CHECK(!here.channel.receive(here.previous(), {3, 1}, in.view, here.device, *here.stream, patience));
  here.channel.send(here.next(), {4, 2}, old.view, here.device, *here.stream);
  here.channel.end_epoch(2);  // going back changes nothing
  here.channel.send(here.next(), {5, 1}, fresh.view, here.device, *here.stream);
  in.clear();
  BOOST_REQUIRE(here.channel.receive(here.previous(), {5, 1}, in.view, here.device, *here.stream, patience));
  BOOST_CHECK(in.intact());
  here.everyone.wait();
  BOOST_CHECK_EQUAL(here.channel.waiting(), 0U);
  here.channel.end_epoch(mpi::all_epochs);
  BOOST_CHECK(!here.channel.receive(here.previous(), {mpi::all_epochs - 1, 1}, in.view, here.device,
                                    *here.stream, patience));
  here.stop();
}

BOOST_AUTO_TEST_CASE(frames_that_are_no_tensors_are_counted) {
  rank_of_tensors here;
  struct {
    std::uint64_t step;
    std::int64_t rows;
    std::int64_t cols;
    std::uint64_t type;
  } head{};
  std::uint64_t sent = 0;
  const auto send = [&](std::size_t bytes) {
    auto out = here.pump.make_frame(mpi::channel::tensors, 0, 0, bytes);
    std::memset(out.payload().data(), 0, bytes);
    std::memcpy(out.payload().data(), &head, std::min(bytes, sizeof head));
    here.pump.push(here.next(), std::move(out));
    ++sent;
  };
  send(0);
  send(31);
  head = {1, 4, 4, 0};
  send(sizeof head + 63);
  send(sizeof head + 65);
  head.type = 5;  // none that travels
  send(sizeof head + 64);
  head = {1, -1, -64, 0};
  send(sizeof head + 64 * 4);
  constexpr auto huge = std::numeric_limits<std::int64_t>::max();
  head = {1, huge, huge, 0};
  send(sizeof head + 4);
  head = {1, std::int64_t{1} << 62, 4, 0};  // 2^64 elements: nothing, modulo 2^64
  send(sizeof head);
  head = {1, std::int64_t{1} << 62, 1, 0};  // 2^64 bytes
  send(sizeof head);
  here.everyone.wait();
  BOOST_CHECK_EQUAL(here.channel.malformed(), sent);
  BOOST_CHECK_EQUAL(here.channel.waiting(), 0U);
  here.stop();
}

}  // namespace
}  // namespace fastserve::tests
