// What the standby's journal costs a leader and its standby in processor time, without the network: every
// token drawn is added, a part is made, written as a message, read and taken 20 times a second, and answers
// end and begin.
//   build/tests/bench_journal [TOKENS A SECOND] [OPEN ANSWERS]
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "actors/journal_feed.hpp"
#include "actors/journal_replica.hpp"
#include "actors/protocol.hpp"

namespace act = fastserve::actors;
namespace mpi = fastserve::mpi;

namespace {

using clock_type = std::chrono::steady_clock;

struct stopwatch {
  double seconds = 0;
  template <class Work>
  void operator()(Work work) {
    const auto begin = clock_type::now();
    work();
    seconds += std::chrono::duration<double>(clock_type::now() - begin).count();
  }
};

}  // namespace

int main(int argc, char** argv) {
  const int rate = argc > 1 ? std::atoi(argv[1]) : 7000;
  const int open = argc > 2 ? std::atoi(argv[2]) : 64;
  constexpr int parts_a_second = 20;
  constexpr int seconds = 50;
  constexpr int answer_tokens = 200;
  if (rate < parts_a_second || open < 1) {
    std::fprintf(stderr, "usage: bench_journal [TOKENS A SECOND, 20 or more] [OPEN ANSWERS, 1 or more]\n");
    return 2;
  }

  caf::actor_system_config config;
  mpi::init_types<caf::id_block::fastserve_mpi, caf::id_block::fastserve>();
  mpi::register_messages<caf::id_block::fastserve_mpi, caf::id_block::fastserve>(config);
  caf::actor_system system{config};

  act::journal_feed feed{0};
  act::journal_replica replica{1};
  stopwatch leader;
  stopwatch standby;
  std::uint64_t bytes = 0;
  std::uint64_t drawn = 0;
  for (int part = 0; part < seconds * parts_a_second; ++part) {
    mpi::message_bytes out;
    leader([&] {
      for (int i = 0; i < rate / parts_a_second; ++i, ++drawn) {
        const auto slot = drawn % static_cast<std::uint64_t>(open);
        const auto turn = drawn / static_cast<std::uint64_t>(open);
        const auto request = turn / answer_tokens * static_cast<std::uint64_t>(open) + slot;
        fastserve::model::sampled_token token;
        token.token = static_cast<std::int32_t>(drawn % 32000);
        feed.add(request, 0, token, false);
        if (turn % answer_tokens == answer_tokens - 1) feed.close(request);
      }
      if (mpi::write(system, caf::make_message(feed.next()), out)) std::abort();
    });
    bytes += out.size();
    act::journal_ack ack;
    standby([&] {
      caf::message read;
      if (mpi::read(system, out.data(), out.size(), read)) std::abort();
      ack = replica.take(read.get_as<act::journal_part>(0));
    });
    leader([&] {
      if (!feed.acknowledged(ack)) std::abort();
    });
  }
  std::printf("%d tokens/s of %d answers, %d parts/s of %.0f bytes\n", rate, open, parts_a_second,
              static_cast<double>(bytes) / (seconds * parts_a_second));
  const auto line = [&](const char* who, const stopwatch& s) {
    std::printf("%s: %.0f ns a token, %.3f %% of a core\n", who, s.seconds * 1e9 / static_cast<double>(drawn),
                s.seconds / seconds * 100);
  };
  line("leader", leader);
  line("standby", standby);
}
