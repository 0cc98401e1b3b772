#pragma once

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "mpi/buffer_pool.hpp"
#include "mpi/doorbells.hpp"
#include "mpi/environment.hpp"
#include "mpi/frame.hpp"
#include "mpi/pump_transfers.hpp"

namespace fastserve::mpi {

/// How a pump divides its time and what it refuses.
struct pump_options {
  /// While traffic was seen this recently, poll without sleeping (yielding the core between polls).
  std::chrono::microseconds hot{200};
  /// The same while a transfer is under way: large messages move only when both ends poll.
  std::chrono::microseconds hot_transfer{20000};
  /// After that, sleep idle time / sleep_divisor between polls, within these bounds: a message after a pause
  /// of t is seen about t / (2 * sleep_divisor) late, and a rank idle for long wakes once a millisecond.
  std::chrono::microseconds shortest_sleep{20};
  std::chrono::microseconds longest_sleep{1000};
  int sleep_divisor = 32;
  /// Instead of that, while all living peers ring this rank when they have sent something (mpi/doorbells).
  /// 0: rings are not relied on.
  std::chrono::microseconds rung_sleep{20000};

  std::size_t max_frame_bytes = std::size_t{1} << 30;   ///< header included; at most 2 GiB - 1 (an MPI count)
  std::size_t max_queued_bytes = std::size_t{4} << 30;  ///< not yet sent, all peers together
  int max_sends_per_peer = 64;                          ///< handed to MPI at a time; the rest waits here
  int max_receives = 64;                                ///< being received at a time
  std::size_t max_idle_bytes = std::size_t{256} << 20;  ///< kept for reuse

  /// What is wrong with the values, or an empty text.
  std::string validate() const;
};

/// Counters since the start.
struct pump_stats {
  std::uint64_t frames_sent = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t frames_received = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t stale_frames = 0;      ///< of an epoch that is over
  std::uint64_t malformed_frames = 0;  ///< not ours, cut short, too large, or for a channel nobody serves
  std::uint64_t fenced_frames = 0;     ///< from or to a peer declared dead
  std::uint64_t handler_errors = 0;    ///< exceptions out of handlers
  std::uint64_t polls = 0;
  std::uint64_t sleeps = 0;
};

/// How a pump ended.
struct stop_report {
  bool clean = true;
  std::string reason;  ///< what did not end in time
};

/// The MPI thread of a rank: between start() and stop() all MPI calls of the process happen there, and none
/// of them blocks. Others hand it frames; frames that arrive go to the handler of their channel, on this
/// thread, in the order in which their sender pushed them (per peer and channel).
class message_pump {
 public:
  /// Must not block. Exceptions are counted and swallowed.
  using frame_handler = std::function<void(frame&&)>;

  /// Collective over `env`, which must outlive the pump. Throws std::runtime_error on bad options.
  explicit message_pump(environment& env, pump_options options = {});
  message_pump(const message_pump&) = delete;
  message_pump& operator=(const message_pump&) = delete;
  /// Stops, with a short deadline, unless that was done.
  ~message_pump();

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Before start(), on every rank: a frame for a channel without a handler is dropped.
  void set_handler(channel on, frame_handler handler);
  /// Called on the MPI thread when MPI itself fails; the pump is of no use afterwards. Before start().
  void set_failure_handler(std::function<void(const std::string&)> handler) {
    on_failure_ = std::move(handler);
  }

  /// Called on the MPI thread when peer `by`, having declared this rank dead, hears from it nevertheless:
  /// this rank was only silent, and its part in the job is over. Before start().
  void set_fence_handler(std::function<void(int by)> handler) { on_fenced_ = std::move(handler); }

  void start();

  /// A frame with room for `payload_bytes`. Throws std::runtime_error when that is over max_frame_bytes.
  frame make_frame(channel to, std::uint32_t kind, std::uint32_t epoch, std::size_t payload_bytes);

  /// Queues a frame for `peer` (possibly this rank) and returns at once. False when the peer was declared
  /// dead or the pump has stopped. Throws std::runtime_error when max_queued_bytes are waiting, for a peer
  /// that does not exist, or when MPI has failed. Any thread.
  bool push(int peer, frame&& what);

  /// Frames of an older epoch are dropped from now on, on arrival and before they leave. Any thread.
  void set_epoch(std::uint32_t epoch) { epoch_.store(epoch, std::memory_order_release); }
  std::uint32_t epoch() const { return epoch_.load(std::memory_order_acquire); }

  /// Declares a peer dead: nothing is sent to it or taken from it any more, transfers under way are
  /// abandoned. When a frame of it arrives all the same, it is told once that it is fenced. Any thread;
  /// complete when it returns.
  void drop_peer(int peer);
  bool dropped(int peer) const;

  /// Runs `f` on the MPI thread, after the frames pushed so far have been given to MPI, and returns when it
  /// is done; rethrows what it throws. `f` may call MPI on communicators of its own; messages wait meanwhile.
  /// Runs it at once when called on that thread, before start() or after stop().
  void run(const std::function<void()>& f);

  /// Ends in good order: waits until every living rank calls stop() (frames flow meanwhile, in both
  /// directions), then until all frames are delivered. Leaves without hanging when `deadline` passes and says
  /// what was missing; environment::skip_finalize is called then. Main thread; later calls return the first
  /// report.
  stop_report stop(std::chrono::milliseconds deadline);

  /// Since the MPI thread last looked at the network: long when MPI itself does not return, and then what
  /// others have sent waits unread.
  std::chrono::nanoseconds stalled_for() const {
    return clock::now().time_since_epoch() - std::chrono::nanoseconds{last_poll_.load()};
  }

  pump_stats stats() const;
  buffer_pool& pool() { return pool_; }

 private:
  using clock = std::chrono::steady_clock;
  enum class phase { running, announced, closed, barrier, done };
  struct command {
    std::function<void()> call;
    std::promise<void>* done;
  };
  struct counters {
    std::atomic<std::uint64_t> stale{0}, malformed{0}, fenced{0}, handler_errors{0}, polls{0}, sleeps{0},
        frames_sent{0}, bytes_sent{0}, frames_received{0}, bytes_received{0};
  };

  void loop();
  bool poll();
  void idle();
  bool rung_by_all() const;
  bool take_queue();
  void submit(frame&& what);
  bool poll_receives();
  void dispatch(frame&& what);
  void on_control(const frame& what);
  void send_control(std::uint32_t kind);
  void tell_fenced(int peer);
  bool advance_stop();
  std::string missing() const;
  void fail(const std::string& why);
  void finish(stop_report report);
  bool on_pump_thread() const { return std::this_thread::get_id() == thread_.get_id(); }

  environment& env_;
  pump_options options_;
  int rank_;
  int size_;
  doorbells bells_;
  buffer_pool pool_;
  MPI_Comm frames_comm_ = MPI_COMM_NULL;
  MPI_Comm closing_comm_ = MPI_COMM_NULL;
  std::vector<frame_handler> handlers_;
  std::function<void(const std::string&)> on_failure_;
  std::function<void(int)> on_fenced_;
  std::atomic<std::uint32_t> epoch_{0};
  std::vector<std::atomic<bool>> dropped_;
  counters counters_;
  std::atomic<std::int64_t> last_poll_{0};  // ns of the clock

  // Between threads.
  mutable std::mutex mutex_;
  std::vector<frame> queue_;
  std::vector<command> commands_;
  std::atomic<std::size_t> queued_bytes_{0};
  std::atomic<bool> has_work_{false};
  bool closed_ = false;  // no more frames are taken
  bool stop_wanted_ = false;
  clock::time_point stop_deadline_;
  std::string failure_;
  stop_report report_;

  // The MPI thread's own.
  std::vector<frame> taken_;
  std::vector<command> taken_commands_;
  send_set sends_;
  receive_set receives_;
  clock::time_point last_traffic_;
  std::uint32_t heard_ = 0;  // rings before the last poll
  phase phase_ = phase::running;
  std::vector<bool> peer_closing_;
  std::vector<bool> peer_finished_;
  std::vector<bool> told_fenced_;
  MPI_Request barrier_ = MPI_REQUEST_NULL;

  bool started_ = false;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace fastserve::mpi
