#include "mpi/message_pump.hpp"

#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>
#include <climits>
#include <stdexcept>
#include <utility>

#include "mpi/check.hpp"

namespace fastserve::mpi {
namespace {

// Kinds of frames on the control channel.
constexpr std::uint32_t closing = 1;   // "I want to stop"
constexpr std::uint32_t finished = 2;  // "this is my last frame to you"
constexpr std::uint32_t fenced = 3;    // "you were declared dead"

using std::chrono::duration_cast;
using std::chrono::microseconds;

void append_ranks(std::string& text, const std::vector<int>& ranks) {
  constexpr std::size_t shown = 8;
  text += ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < std::min(ranks.size(), shown); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  if (ranks.size() > shown) text += " and " + std::to_string(ranks.size() - shown) + " more";
}

}  // namespace

std::string pump_options::validate() const {
  if (shortest_sleep.count() < 1 || longest_sleep < shortest_sleep)
    return "pump sleeps must be at least 1 us, the longest not below the shortest";
  if (rung_sleep.count() != 0 && rung_sleep < shortest_sleep)
    return "rung_sleep must be 0 or at least shortest_sleep";
  if (sleep_divisor < 1) return "sleep_divisor must be at least 1";
  if (max_frame_bytes < 4096 || max_frame_bytes > static_cast<std::size_t>(INT_MAX))
    return "max_frame_bytes must be 4096 to 2147483647, is " + std::to_string(max_frame_bytes);
  if (max_queued_bytes < max_frame_bytes) return "max_queued_bytes must not be below max_frame_bytes";
  if (max_sends_per_peer < 1 || max_receives < 1)
    return "max_sends_per_peer and max_receives must be positive";
  return {};
}

message_pump::message_pump(environment& env, pump_options options)
    : env_{env},
      options_{options},
      rank_{env.rank()},
      size_{env.size()},
      bells_{env},
      pool_{options.max_idle_bytes},
      handlers_(channel_count),
      dropped_(static_cast<std::size_t>(env.size())),
      sends_{env.size(), options.max_sends_per_peer},
      receives_{options.max_receives, options.max_frame_bytes},
      peer_closing_(static_cast<std::size_t>(env.size())),
      peer_finished_(static_cast<std::size_t>(env.size())),
      told_fenced_(static_cast<std::size_t>(env.size())) {
  if (auto wrong = options_.validate(); !wrong.empty()) throw std::runtime_error(wrong);
  check(MPI_Comm_dup(env.comm(), &frames_comm_), "MPI_Comm_dup");
  check(MPI_Comm_dup(env.comm(), &closing_comm_), "MPI_Comm_dup");
  sends_.on_gone([this](std::size_t bytes) { queued_bytes_ -= bytes; });
  sends_.on_moved([this](int peer) { bells_.ring(peer); });
}

message_pump::~message_pump() {
  if (started_ && !stopped_) stop(std::chrono::seconds{2});
  const bool losses = std::any_of(dropped_.begin(), dropped_.end(), [](const auto& d) { return d.load(); });
  if (!report_.clean || losses) return;  // MPI may still use them
  MPI_Comm_free(&frames_comm_);
  MPI_Comm_free(&closing_comm_);
}

void message_pump::set_handler(channel on, frame_handler handler) {
  if (started_) throw std::logic_error("message_pump::set_handler after start()");
  handlers_.at(static_cast<std::size_t>(on)) = std::move(handler);
}

void message_pump::start() {
  if (started_) throw std::logic_error("message_pump::start called twice");
  started_ = true;
  last_traffic_ = clock::now();
  last_poll_ = last_traffic_.time_since_epoch().count();
  // The lock keeps the thread from looking at thread_ before it is assigned.
  const std::lock_guard lock{mutex_};
  thread_ = std::thread{[this] {
    { const std::lock_guard assigned{mutex_}; }
    loop();
  }};
}

// -- from any thread ----------------------------------------------------------

frame message_pump::make_frame(channel to, std::uint32_t kind, std::uint32_t epoch,
                               std::size_t payload_bytes) {
  if (payload_bytes > options_.max_frame_bytes - sizeof(frame_header))
    throw std::runtime_error("a message of " + std::to_string(payload_bytes) +
                             " bytes is over the limit of " +
                             std::to_string(options_.max_frame_bytes - sizeof(frame_header)));
  return {pool_, to, kind, epoch, payload_bytes};
}

bool message_pump::push(int peer, frame&& what) {
  if (peer < 0 || peer >= size_)
    throw std::runtime_error("no rank " + std::to_string(peer) + " among " + std::to_string(size_));
  if (dropped_[static_cast<std::size_t>(peer)].load(std::memory_order_acquire)) {
    ++counters_.fenced;
    return false;
  }
  const auto bytes = what.bytes().size();
  what.set_peer(peer);
  {
    const std::lock_guard lock{mutex_};
    if (!failure_.empty()) throw std::runtime_error(failure_);
    if (closed_) return false;
    if (queued_bytes_ + bytes > options_.max_queued_bytes)
      throw std::runtime_error("rank " + std::to_string(peer) + " takes no more messages: " +
                               std::to_string(queued_bytes_) + " bytes wait to be sent");
    queued_bytes_ += bytes;
    queue_.push_back(std::move(what));
    has_work_.store(true, std::memory_order_release);
  }
  bells_.ring(rank_);
  return true;
}

void message_pump::run(const std::function<void()>& f) {
  std::promise<void> done;
  {
    std::unique_lock lock{mutex_};
    if (!started_ || stopped_ || !failure_.empty() || on_pump_thread()) {
      lock.unlock();
      f();
      return;
    }
    commands_.push_back({f, &done});
    has_work_.store(true, std::memory_order_release);
  }
  bells_.ring(rank_);
  done.get_future().get();
}

void message_pump::drop_peer(int peer) {
  const auto p = static_cast<std::size_t>(peer);
  if (peer == rank_ || dropped_.at(p).exchange(true)) return;
  run([this, peer] {
    sends_.drop(peer);
    receives_.drop(peer);
  });
}

bool message_pump::dropped(int peer) const {
  return dropped_.at(static_cast<std::size_t>(peer)).load(std::memory_order_acquire);
}

stop_report message_pump::stop(std::chrono::milliseconds deadline) {
  if (!started_ || !thread_.joinable()) {
    stopped_ = true;
    return report_;
  }
  {
    const std::lock_guard lock{mutex_};
    stop_wanted_ = true;
    stop_deadline_ = clock::now() + deadline;
    has_work_.store(true, std::memory_order_release);
  }
  bells_.ring(rank_);
  thread_.join();
  stopped_ = true;
  if (!report_.clean) env_.skip_finalize();
  return report_;
}

pump_stats message_pump::stats() const {
  pump_stats out;
  out.frames_sent = counters_.frames_sent;
  out.bytes_sent = counters_.bytes_sent;
  out.frames_received = counters_.frames_received;
  out.bytes_received = counters_.bytes_received;
  out.stale_frames = counters_.stale;
  out.malformed_frames = counters_.malformed;
  out.fenced_frames = counters_.fenced;
  out.handler_errors = counters_.handler_errors;
  out.polls = counters_.polls;
  out.sleeps = counters_.sleeps;
  return out;
}

// -- the MPI thread -----------------------------------------------------------

void message_pump::loop() {
  prctl(PR_SET_NAME, "fastserve-mpi");
  prctl(PR_SET_TIMERSLACK, 1000UL);  // ns; the default of 50 us would double every short sleep
  try {
    while (phase_ != phase::done) {
      heard_ = bells_.heard();
      const bool moved = poll();
      const auto now = clock::now();
      last_poll_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
      if (moved)
        last_traffic_ = now;
      else if (phase_ != phase::done)
        idle();
    }
  } catch (const std::exception& e) {
    fail(e.what());
  }
}

bool message_pump::poll() {
  ++counters_.polls;
  bool moved = false;
  if (has_work_.load(std::memory_order_acquire)) moved |= take_queue();
  moved |= sends_.progress(frames_comm_);
  moved |= poll_receives();
  moved |= advance_stop();
  return moved;
}

void message_pump::idle() {
  const auto now = clock::now();
  const bool transfers = !sends_.idle() || !receives_.idle();
  const auto hot = transfers ? options_.hot_transfer : options_.hot;
  const auto since = duration_cast<microseconds>(now - last_traffic_);
  if (since < hot && size_ > 1) {
    sched_yield();
    return;
  }
  auto pause = std::clamp((since - (transfers ? hot : microseconds{0})) / options_.sleep_divisor,
                          options_.shortest_sleep, options_.longest_sleep);
  // Alone there is nothing to poll for.
  if (size_ == 1)
    pause = std::chrono::seconds{1};
  else if (options_.rung_sleep.count() > 0 && !transfers && phase_ == phase::running && rung_by_all())
    pause = options_.rung_sleep;
  ++counters_.sleeps;
  bells_.wait(heard_, pause);
}

bool message_pump::rung_by_all() const {
  for (int peer = 0; peer < size_; ++peer)
    if (!bells_.rung_by(peer) && !dropped(peer)) return false;
  return true;
}

bool message_pump::take_queue() {
  {
    const std::lock_guard lock{mutex_};
    has_work_.store(false, std::memory_order_relaxed);
    taken_.swap(queue_);
    taken_commands_.swap(commands_);
  }
  const bool moved = !taken_.empty() || !taken_commands_.empty();
  for (auto& what : taken_) submit(std::move(what));
  taken_.clear();
  for (auto& [call, done] : taken_commands_) {
    try {
      call();
      done->set_value();
    } catch (...) {
      done->set_exception(std::current_exception());
    }
  }
  taken_commands_.clear();
  return moved;
}

void message_pump::submit(frame&& what) {
  const auto bytes = what.bytes().size();
  const auto header = what.header();
  const bool gone = dropped(what.peer());
  const bool stale = header.epoch != any_epoch && header.epoch < epoch();
  if (gone || stale || what.peer() == rank_) queued_bytes_ -= bytes;
  if (gone) {
    ++counters_.fenced;
    return;
  }
  if (stale) {
    ++counters_.stale;
    return;
  }
  ++counters_.frames_sent;
  counters_.bytes_sent += bytes;
  if (what.peer() != rank_) {
    sends_.submit(frames_comm_, std::move(what));
    return;
  }
  ++counters_.frames_received;
  counters_.bytes_received += bytes;
  dispatch(std::move(what));
}

bool message_pump::poll_receives() {
  return receives_.progress(
      frames_comm_, pool_,
      [this](frame&& what, int tag) {
        ++counters_.frames_received;
        counters_.bytes_received += what.bytes().size();
        if (what.valid() && static_cast<int>(what.header().to) == tag)
          dispatch(std::move(what));
        else
          ++counters_.malformed;
      },
      [this] { ++counters_.malformed; });
}

void message_pump::dispatch(frame&& what) {
  const auto header = what.header();
  if (dropped(what.peer())) {
    ++counters_.fenced;
    tell_fenced(what.peer());
    return;
  }
  if (header.epoch != any_epoch && header.epoch < epoch()) {
    ++counters_.stale;
    return;
  }
  if (header.to == channel::control) {
    on_control(what);
    return;
  }
  const auto& handler = handlers_[static_cast<std::size_t>(header.to)];
  if (!handler) {
    ++counters_.malformed;
    return;
  }
  try {
    handler(std::move(what));
  } catch (...) {
    ++counters_.handler_errors;
  }
}

// -- the end ------------------------------------------------------------------

void message_pump::on_control(const frame& what) {
  const auto peer = static_cast<std::size_t>(what.peer());
  switch (what.header().kind) {
    case closing:
      peer_closing_[peer] = true;
      break;
    case finished:
      peer_finished_[peer] = true;
      break;
    case fenced:
      if (on_fenced_) on_fenced_(what.peer());
      break;
    default:
      ++counters_.malformed;
  }
}

void message_pump::send_control(std::uint32_t kind) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_ || dropped(peer)) continue;
    auto what = make_frame(channel::control, kind, any_epoch, 0);
    what.set_peer(peer);
    queued_bytes_ += what.bytes().size();
    submit(std::move(what));
  }
}

void message_pump::tell_fenced(int peer) {
  if (told_fenced_[static_cast<std::size_t>(peer)] || phase_ != phase::running) return;
  told_fenced_[static_cast<std::size_t>(peer)] = true;
  auto what = make_frame(channel::control, fenced, any_epoch, 0);
  what.set_peer(peer);
  queued_bytes_ += what.bytes().size();
  sends_.submit(frames_comm_, std::move(what));
}

bool message_pump::advance_stop() {
  const auto all = [this](const std::vector<bool>& seen) {
    for (int peer = 0; peer < size_; ++peer)
      if (peer != rank_ && !dropped(peer) && !seen[static_cast<std::size_t>(peer)]) return false;
    return true;
  };
  if (phase_ == phase::running) {
    const std::lock_guard lock{mutex_};
    if (!stop_wanted_) return false;
    phase_ = phase::announced;
    for (int peer = 0; peer < size_; ++peer)  // what it was told may never arrive
      if (dropped(peer)) sends_.drop(peer);
  } else if (clock::now() > stop_deadline_) {
    finish({false, missing()});
    return true;
  } else if (phase_ == phase::announced) {
    if (!all(peer_closing_)) return false;
    {
      const std::lock_guard lock{mutex_};
      closed_ = true;
    }
    take_queue();
    send_control(finished);
    phase_ = phase::closed;
    return true;
  } else if (phase_ == phase::closed) {
    if (!sends_.idle() || !receives_.idle() || !all(peer_finished_)) return false;
    const bool losses = std::any_of(dropped_.begin(), dropped_.end(), [](const auto& d) { return d.load(); });
    if (losses) {
      finish({});  // the finished frames are all the barrier there can be
      return true;
    }
    check(MPI_Ibarrier(closing_comm_, &barrier_), "MPI_Ibarrier");
    phase_ = phase::barrier;
    return true;
  } else {
    int over = 0;
    check(MPI_Test(&barrier_, &over, MPI_STATUS_IGNORE), "MPI_Test");
    if (over == 0) return false;
    finish({});
    return true;
  }
  send_control(closing);
  return true;
}

std::string message_pump::missing() const {
  std::vector<int> late;
  std::string text;
  const auto& seen = phase_ == phase::announced ? peer_closing_ : peer_finished_;
  for (int peer = 0; peer < size_; ++peer)
    if (peer != rank_ && !dropped(peer) && !seen[static_cast<std::size_t>(peer)]) late.push_back(peer);
  if (phase_ == phase::barrier) return "closing barrier not reached by all";
  if (!late.empty()) {
    append_ranks(text, late);
    return text + (phase_ == phase::announced ? " did not stop" : " did not send all");
  }
  for (int peer = 0; peer < size_; ++peer)
    if (sends_.under_way(peer) > 0) late.push_back(peer);
  if (late.empty()) return "a message did not arrive in full";
  append_ranks(text, late);
  return text + " did not take all messages";
}

void message_pump::finish(stop_report report) {
  std::vector<command> left;
  {
    const std::lock_guard lock{mutex_};
    closed_ = true;
    stopped_ = true;
    left.swap(commands_);
    report_ = std::move(report);
  }
  left.insert(left.end(), taken_commands_.begin(),
              taken_commands_.end());  // of a queue that was not got through
  taken_commands_.clear();
  for (auto& [call, done] : left)
    done->set_exception(std::make_exception_ptr(std::runtime_error("the message pump has stopped")));
  if (!report_.clean) {
    sends_.abandon_all();
    receives_.abandon_all();
  }
  phase_ = phase::done;
}

void message_pump::fail(const std::string& why) {
  {
    const std::lock_guard lock{mutex_};
    failure_ = why;
  }
  finish({false, why});
  if (on_failure_) on_failure_(why);
}

}  // namespace fastserve::mpi
