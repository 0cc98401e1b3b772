/// Prints what the transport costs: mpirun -n 2 bench_latency (any number of ranks; the first two play).
/// Latencies are round trips; idle cost is the processor time of a rank that only waits.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "cpu_seconds.hpp"
#include "mpi/actor_transport.hpp"
#include "mpi/mpi_tensor_channel.hpp"
#include "tensor_cases.hpp"
#include "test_messages.hpp"

namespace {

using namespace fastserve;
using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

struct summary {
  std::vector<double> us;
  void add(clock_type::time_point begin) {
    us.push_back(std::chrono::duration<double, std::micro>(clock_type::now() - begin).count());
  }
  void print(const char* what) {
    std::sort(us.begin(), us.end());
    std::printf("%-58s median %8.1f us   90%% %8.1f us\n", what, us[us.size() / 2], us[us.size() * 9 / 10]);
    std::fflush(stdout);
  }
};

void actor_round_trips(caf::actor_system& system, const tests::echo_actor& to, int n,
                       std::chrono::microseconds pause, const char* what) {
  caf::scoped_actor self{system};
  summary times;
  for (int i = 0; i < n + n / 10; ++i) {
    if (pause.count() > 0) std::this_thread::sleep_for(pause);
    const auto begin = clock_type::now();
    mpi::request(self.ptr(), to, 10s, tests::echo_atom_v, tests::parcel{i, {1, 2, 3, 4}, ""})
        .receive([](const tests::parcel&) {}, [](const caf::error&) { std::abort(); });
    if (i >= n / 10) times.add(begin);
  }
  times.print(what);
}

/// Frames bounced by the other rank's pump: no actor, no second thread.
class bouncer {
 public:
  explicit bouncer(mpi::message_pump& pump) : pump_{pump} {
    pump.set_handler(mpi::channel::user, [this](mpi::frame&& what) {
      if (what.header().kind == 0) {
        pump_.push(what.peer(),
                   pump_.make_frame(mpi::channel::user, 1, mpi::any_epoch, what.payload().size()));
        return;
      }
      {
        const std::lock_guard lock{mutex_};
        back_ = true;
      }
      arrived_.notify_one();
    });
  }
  void round_trips(int peer, int n, std::size_t bytes, std::chrono::microseconds pause, const char* what) {
    summary times;
    for (int i = 0; i < n; ++i) {
      if (pause.count() > 0) std::this_thread::sleep_for(pause);
      const auto begin = clock_type::now();
      pump_.push(peer, pump_.make_frame(mpi::channel::user, 0, mpi::any_epoch, bytes));
      std::unique_lock lock{mutex_};
      arrived_.wait(lock, [this] { return back_; });
      back_ = false;
      lock.unlock();
      times.add(begin);
    }
    times.print(what);
  }

 private:
  mpi::message_pump& pump_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  bool back_ = false;
};

void tensor_round_trips(mpi::tensor_channel& channel, int rank, std::int64_t rows, int n, const char* what) {
  tests::far_backend device;
  auto stream = device.make_stream();
  tests::test_tensor t{device, *stream, kernels::dtype::bf16, rows, 4096, 1};
  summary times;
  static std::uint64_t step = 0;
  for (int i = 0; i < n; ++i, ++step) {
    const auto begin = clock_type::now();
    if (rank == 0) channel.send(1, {0, 2 * step}, t.view, device, *stream);
    if (rank == 1) channel.receive(0, {0, 2 * step}, t.view, device, *stream, 10s);
    if (rank == 1) channel.send(0, {0, 2 * step + 1}, t.view, device, *stream);
    if (rank == 0) channel.receive(1, {0, 2 * step + 1}, t.view, device, *stream, 10s);
    times.add(begin);
  }
  if (rank == 0) times.print(what);
}

}  // namespace

int main(int argc, char** argv) {
  mpi::environment env{&argc, &argv};
  tests::test_config config;
  caf::actor_system system{config};
  mpi::message_pump pump{env};
  bouncer frames{pump};
  mpi::actor_transport transport{system, pump};
  mpi::mpi_tensor_channel tensors{pump};
  auto shared = mpi::spawn<tests::echo_actor, tests::echo_state>(system, env.rank());
  auto detached = mpi::spawn_detached<tests::echo_actor, tests::echo_state>(system, env.rank());
  transport.publish(mpi::role_id{1}, shared);
  transport.publish(mpi::role_id{2}, detached);
  pump.start();

  if (env.leader()) {
    std::printf("%d ranks, %u cores\n", env.size(), std::thread::hardware_concurrency());
    actor_round_trips(system, shared, 3000, 0us, "actor, in process, scheduler");
    actor_round_trips(system, detached, 3000, 0us, "actor, in process, own thread");
  }
  if (env.size() > 1) {
    if (env.leader()) {
      frames.round_trips(1, 3000, 64, 0us, "frame, between ranks, 64 B");
      frames.round_trips(1, 300, 1 << 20, 0us, "frame, between ranks, 1 MiB");
      frames.round_trips(1, 200, 64, 2ms, "frame, between ranks, 64 B, after 2 ms of silence");
      frames.round_trips(1, 100, 64, 20ms, "frame, between ranks, 64 B, after 20 ms of silence");
      actor_round_trips(system, transport.resolve<tests::echo_actor>(1, mpi::role_id{1}), 3000, 0us,
                        "actor, between ranks, scheduler");
      actor_round_trips(system, transport.resolve<tests::echo_actor>(1, mpi::role_id{2}), 3000, 0us,
                        "actor, between ranks, own thread");
    }
    if (env.rank() < 2) {
      tensor_round_trips(tensors, env.rank(), 1, 2000, "tensor, between ranks, bf16 [1, 4096]");
      tensor_round_trips(tensors, env.rank(), 512, 200, "tensor, between ranks, bf16 [512, 4096]");
    }
  }
  // Everybody idle.
  std::this_thread::sleep_for(2s);
  const double before = tests::cpu_seconds();
  std::this_thread::sleep_for(3s);
  const double share = (tests::cpu_seconds() - before) / 3;
  const auto text = std::to_string(share * 100);
  std::vector<std::string> all;
  pump.run([&] { all = env.allgather(text); });
  if (env.leader())
    for (std::size_t r = 0; r < all.size(); ++r)
      std::printf("idle, rank %zu: %.4s%% of a core\n", r, all[r].c_str());

  caf::anon_send_exit(shared, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(detached, caf::exit_reason::user_shutdown);
  const auto report = pump.stop(10s);
  if (!report.clean) std::fprintf(stderr, "rank %d: %s\n", env.rank(), report.reason.c_str());
  transport.stop();
  return report.clean ? EXIT_SUCCESS : EXIT_FAILURE;
}
