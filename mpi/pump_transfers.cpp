#include "mpi/pump_transfers.hpp"

#include <algorithm>
#include <functional>
#include <utility>

#include "mpi/check.hpp"

namespace fastserve::mpi {
namespace {

/// A transfer whose partner is gone never completes and cannot be cancelled: MPI keeps the memory.
void abandon(MPI_Request& request, frame& what) {
  if (request == MPI_REQUEST_NULL) return;
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0) MPI_Request_free(&request);
  what.bytes().leak();
}

}  // namespace

// -- send_set -----------------------------------------------------------------

send_set::send_set(int peers, int max_per_peer)
    : max_per_peer_{max_per_peer},
      started_(static_cast<std::size_t>(peers)),
      waiting_(static_cast<std::size_t>(peers)) {}

void send_set::submit(MPI_Comm comm, frame&& what) {
  const auto peer = static_cast<std::size_t>(what.peer());
  if (started_[peer] < max_per_peer_ && waiting_[peer].empty()) {
    start(comm, std::move(what));
  } else {
    waiting_[peer].push_back(std::move(what));
    ++waiting_count_;
  }
}

void send_set::start(MPI_Comm comm, frame&& what) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = MPI_Isend(what.bytes().data(), static_cast<int>(what.bytes().size()), MPI_BYTE,
                             what.peer(), static_cast<int>(what.header().to), comm, &request);
  if (code != MPI_SUCCESS) {  // like a send to a silent peer: only heartbeats tell whether it lives
    gone_(what.bytes().size());
    what.bytes().leak();
    return;
  }
  ++started_[static_cast<std::size_t>(what.peer())];
  moved_(what.peer());
  requests_.push_back(request);
  frames_.push_back(std::move(what));
}

bool send_set::progress(MPI_Comm comm) {
  if (requests_.empty()) return false;
  finished_.resize(requests_.size());
  int count = 0;
  const int code = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                finished_.data(), MPI_STATUSES_IGNORE);
  // A send that fails is like one to a silent peer: only heartbeats tell whether it lives.
  if (code != MPI_ERR_IN_STATUS) check(code, "MPI_Testsome");
  if (count <= 0) return false;  // MPI_UNDEFINED is negative
  // From the back, so that the swap below never moves an index still to come.
  std::sort(finished_.begin(), finished_.begin() + count, std::greater<>{});
  for (int i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(finished_[static_cast<std::size_t>(i)]);
    const auto peer = static_cast<std::size_t>(frames_[at].peer());
    gone_(frames_[at].bytes().size());
    --started_[peer];
    moved_(frames_[at].peer());
    std::swap(requests_[at], requests_.back());
    std::swap(frames_[at], frames_.back());
    requests_.pop_back();
    frames_.pop_back();
    while (started_[peer] < max_per_peer_ && !waiting_[peer].empty()) {  // one that cannot be started is gone
      auto next = std::move(waiting_[peer].front());
      waiting_[peer].pop_front();
      --waiting_count_;
      start(comm, std::move(next));
    }
  }
  return true;
}

void send_set::drop(int peer) {
  for (std::size_t i = requests_.size(); i-- > 0;) {
    if (frames_[i].peer() != peer) continue;
    gone_(frames_[i].bytes().size());
    abandon(requests_[i], frames_[i]);
    std::swap(requests_[i], requests_.back());
    std::swap(frames_[i], frames_.back());
    requests_.pop_back();
    frames_.pop_back();
  }
  const auto p = static_cast<std::size_t>(peer);
  started_[p] = 0;
  for (const auto& what : waiting_[p]) gone_(what.bytes().size());
  waiting_count_ -= waiting_[p].size();
  waiting_[p].clear();
}

void send_set::abandon_all() {
  for (std::size_t i = 0; i < requests_.size(); ++i) abandon(requests_[i], frames_[i]);
  requests_.clear();
  frames_.clear();
  for (auto& queue : waiting_) queue.clear();
  waiting_count_ = 0;
}

std::size_t send_set::under_way(int peer) const {
  const auto p = static_cast<std::size_t>(peer);
  return static_cast<std::size_t>(started_[p]) + waiting_[p].size();
}

// -- receive_set --------------------------------------------------------------

receive_set::receive_set(int max_under_way, std::size_t max_bytes)
    : max_under_way_{static_cast<std::size_t>(max_under_way)}, max_bytes_{max_bytes} {}

bool receive_set::match(MPI_Comm comm, buffer_pool& pool) {
  int found = 0;
  MPI_Message message = MPI_MESSAGE_NULL;
  MPI_Status status;
  check(MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm, &found, &message, &status), "MPI_Improbe");
  if (found == 0) return false;
  int count = 0;
  check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
  incoming in;
  in.tag = status.MPI_TAG;
  in.refused = count == MPI_UNDEFINED || static_cast<std::size_t>(count) > max_bytes_;
  // A message that is too large is received into nothing, which MPI reports as truncation.
  const auto wanted = in.refused ? std::size_t{0} : static_cast<std::size_t>(count);
  in.what = frame{status.MPI_SOURCE, pool.acquire(wanted)};
  const int code =
      MPI_Imrecv(in.what.bytes().data(), static_cast<int>(wanted), MPI_BYTE, &message, &in.request);
  // Cut off in the middle: the sender is silent from here on, and heartbeats will tell.
  in.refused = in.refused || code != MPI_SUCCESS;
  pending_.push_back(std::move(in));
  return true;
}

bool receive_set::progress(MPI_Comm comm, buffer_pool& pool,
                           const std::function<void(frame&&, int tag)>& complete,
                           const std::function<void()>& malformed) {
  constexpr int batch = 16;  // then sends get their turn
  bool moved = false;
  for (int i = 0; i < batch && pending_.size() < max_under_way_; ++i) {
    // Twice: Open MPI looks into its queue first and at the network after, so that what a first probe misses
    // may have come in through it; without the second it would wait for the next round, a sleep away.
    if (!match(comm, pool) && !match(comm, pool)) break;
    moved = true;
  }
  if (pending_.empty()) return moved;

  bool any_done = false;
  for (auto& in : pending_) {
    if (in.done) continue;
    int done = 0;
    const int code = MPI_Test(&in.request, &done, MPI_STATUS_IGNORE);
    in.refused = in.refused || code != MPI_SUCCESS;
    in.done = done != 0 || code != MPI_SUCCESS;
    any_done |= in.done;
  }
  if (!any_done) return moved;

  // Handlers may drop peers, which changes pending_: take the finished ones out first.
  const auto blocked = [this](const incoming& in) {
    return std::any_of(rest_.begin(), rest_.end(), [&](const incoming& earlier) {
      return earlier.what.peer() == in.what.peer() && earlier.tag == in.tag;
    });
  };
  for (auto& in : pending_) (!in.done || blocked(in) ? rest_ : ready_).push_back(std::move(in));
  pending_.clear();
  pending_.swap(rest_);
  for (auto& in : ready_) {
    if (in.refused)
      malformed();
    else
      complete(std::move(in.what), in.tag);
  }
  ready_.clear();
  return true;
}

void receive_set::drop(int peer) {
  std::erase_if(pending_, [peer](incoming& in) {
    if (in.what.peer() != peer) return false;
    if (!in.done) abandon(in.request, in.what);
    return true;
  });
}

void receive_set::abandon_all() {
  for (auto& in : pending_)
    if (!in.done) abandon(in.request, in.what);
  pending_.clear();
}

}  // namespace fastserve::mpi
