#include "actors/protocol.hpp"

#include <boost/test/unit_test.hpp>

namespace act = fastserve::actors;
namespace mod = fastserve::model;
namespace mpi = fastserve::mpi;

namespace {

struct with_system {
  with_system() {
    mpi::init_types<caf::id_block::fastserve_mpi, caf::id_block::fastserve>();
    mpi::register_messages<caf::id_block::fastserve_mpi, caf::id_block::fastserve>(config);
    system.emplace(config);
  }
  caf::actor_system_config config;
  std::optional<caf::actor_system> system;
};

// Two messages are equal when they are written alike.
mpi::message_bytes bytes_of(caf::actor_system& sys, const caf::message& m) {
  mpi::message_bytes out;
  const auto err = mpi::write(sys, m, out);
  BOOST_REQUIRE_MESSAGE(err == caf::error{}, mpi::describe(sys, err));
  return out;
}

template <class T>
void round_trip(caf::actor_system& sys, const T& value, const T& other) {
  const auto written = bytes_of(sys, caf::make_message(value));
  caf::message read;
  const auto err = mpi::read(sys, written.data(), written.size(), read);
  BOOST_REQUIRE_MESSAGE(err == caf::error{}, mpi::describe(sys, err));
  BOOST_REQUIRE(read.template match_elements<T>());
  BOOST_TEST((bytes_of(sys, read) == written));
  // That inspect() names every member mpi::fields makes sure of; a member named twice would make these look
  // alike.
  BOOST_TEST((bytes_of(sys, caf::make_message(other)) != written));

  // A message cut short is an error or nothing, never a crash and never a message.
  for (std::size_t n = 0; n < written.size(); ++n) {
    caf::message cut;
    const bool failed = !(mpi::read(sys, written.data(), n, cut) == caf::error{});
    BOOST_TEST((failed || cut.empty()));
  }
}

mod::sampling_params sampling() { return {0.5F, 3, 0.9F, 0.1F, 1.1F, 0.2F, 0.3F, 77, 5}; }
mod::sampled_token token() { return {9, -0.5F, {{9, -0.5F}, {10, -1.5F}}, false}; }
act::sequence_work work() { return {4, 32, 3, 2, 1}; }

}  // namespace

BOOST_FIXTURE_TEST_SUITE(every_message_round_trips, with_system)

#define ROUND_TRIP(type, change, ...)    \
  BOOST_AUTO_TEST_CASE(type##_message) { \
    const act::type value __VA_ARGS__;   \
    auto other = value;                  \
    other.change;                        \
    round_trip(*system, value, other);   \
  }

ROUND_TRIP(profile_request, epoch = 2, {1})
ROUND_TRIP(node_profile, threads = 9, {3, "host", "device", 1ULL << 40, 8, "host GPU-1", 2, 3})
ROUND_TRIP(link_request, epoch = 2, {1})
ROUND_TRIP(link_offer, rank = 2, {1, std::string(128, '\0') + "x", "error"})
ROUND_TRIP(leader_beat, leader = 3, {1, 2})
ROUND_TRIP(heir_call, rank = 2, {1})
ROUND_TRIP(heir_reply, silent = false, {1, true})
ROUND_TRIP(answer_part, details.clear(), {{1}, {token()}})
ROUND_TRIP(journal_entry, part.tokens.pop_back(), {1, 2, 3, {{4, 5}, {}}})
ROUND_TRIP(journal_part, closed.clear(), {1, 2, true, {{1, 2, 3, {{4}, {token()}}}}, {7, 8}})
ROUND_TRIP(journal_ack, next = 9, {1, true, 3})
ROUND_TRIP(rank_lost, rank = 2, {1})
ROUND_TRIP(epoch_change, epoch = 2, {1})
ROUND_TRIP(epoch_ready, rank = 2, {1})
ROUND_TRIP(heartbeat, compute_ns = 0, {1, 2, 3, 4, 5})
ROUND_TRIP(stage_assignment, held_last = 0, {1, 2, 3, 4, 5, 6, 7, 8, 9, "id", {3, 1}})
ROUND_TRIP(stage_ready, error = "no", {1, 2, 3, 4, 5, 6, 7, 8, "NCCL", true, "why"})
ROUND_TRIP(stop_rank, exit_code = 2, {1})
ROUND_TRIP(kv_allotment, disk_slots = 9, {1, 100, 2, 3})
ROUND_TRIP(kv_ready, error = "", {1, 2, 3, 4, "why"})
ROUND_TRIP(block_move, other = 9, {1, 2, 3})
ROUND_TRIP(move_blocks, moves.clear(), {1, 2, {{1, 2, 3}, {2, 3, 4}}})
ROUND_TRIP(draw_order, answer.push_back(1), {5, sampling(), {1, 2}, {3}})
ROUND_TRIP(sequence_work, draws = 0, {work()})
ROUND_TRIP(
    micro_batch, followed = false,
    {1, 2, 3, 4, true, {work(), work()}, {1, 2, 3, 4, 5, 6}, {7, 8, 9}, {{5, sampling(), {1, 2}, {3}}}})
ROUND_TRIP(executor_stats_request, epoch = 2, {1})
ROUND_TRIP(executor_stats, median_turnaround_ns = 0, {1, 2, 3, 4, 5, 6, 7, 8})
ROUND_TRIP(submit, stop.stop.clear(),
           {1, {1, 2, 3}, sampling(), {10, true, {"stop", "it"}, {4, 5}}, 2, 3, "salt", {{{1, 2}, {}}}})
ROUND_TRIP(cancel, request = 2, {1})
ROUND_TRIP(drawn_token, token.valid = true, {1, token()})
ROUND_TRIP(step_result, error = "no", {1, 2, 3, {{1, token()}, {2, token()}}, ""})
ROUND_TRIP(stats_request, epoch = 2, {1})
ROUND_TRIP(scheduler_stats, step_context_ns = 0,
           {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18})
ROUND_TRIP(answer_token, text = "", {1, 2, token(), "text"})
ROUND_TRIP(answer_tokens, tokens.pop_back(), {{{1, 2, token(), "text"}, {3, 4, token(), ""}}})
ROUND_TRIP(answer_done, total_ns = 0, {1, 2, "tail", "stop", "why", 2, 3, 4, 5, 6})
ROUND_TRIP(load_progress, total_bytes = 0, {1, 2, 3})

BOOST_AUTO_TEST_SUITE_END()
