#pragma once

#include <mpi.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <vector>

#include "mpi/frame.hpp"

namespace fastserve::mpi {

/// The sends of a message_pump: some under way in MPI, the rest waiting in order of their coming. Not
/// thread-safe: the MPI thread's own.
class send_set {
 public:
  send_set(int peers, int max_per_peer);
  send_set(send_set&&) = default;
  ~send_set() { abandon_all(); }

  /// Called with the bytes of each frame that left or was abandoned.
  void on_gone(std::function<void(std::size_t)> f) { gone_ = std::move(f); }

  /// Called with the peer when MPI was given a frame for it, and when MPI is done with one.
  void on_moved(std::function<void(int)> f) { moved_ = std::move(f); }

  void submit(MPI_Comm comm, frame&& what);
  /// Finishes what has gone out and starts what waits. True when something moved.
  bool progress(MPI_Comm comm);
  /// Forgets all that goes to a dead peer.
  void drop(int peer);
  /// Leaves everything under way to MPI for ever.
  void abandon_all();

  bool idle() const { return requests_.empty() && waiting_count_ == 0; }
  std::size_t under_way(int peer) const;

 private:
  void start(MPI_Comm comm, frame&& what);

  int max_per_peer_;
  std::vector<MPI_Request> requests_;  // parallel to frames_
  std::vector<frame> frames_;
  std::vector<int> finished_;
  std::vector<int> started_;                // per peer
  std::vector<std::deque<frame>> waiting_;  // per peer
  std::size_t waiting_count_ = 0;
  std::function<void(std::size_t)> gone_;
  std::function<void(int)> moved_ = [](int) {};
};

/// The receives of a message_pump, in the order in which MPI matched them. Not thread-safe.
class receive_set {
 public:
  receive_set(int max_under_way, std::size_t max_bytes);
  receive_set(receive_set&&) = default;
  ~receive_set() { abandon_all(); }

  /// Takes what has arrived and hands over what is complete, in the order sent per peer and tag. `malformed`
  /// is called for messages over the size limit. True when something moved.
  bool progress(MPI_Comm comm, buffer_pool& pool, const std::function<void(frame&&, int tag)>& complete,
                const std::function<void()>& malformed);
  void drop(int peer);
  void abandon_all();
  bool idle() const { return pending_.empty(); }

 private:
  struct incoming {
    MPI_Request request = MPI_REQUEST_NULL;
    frame what;
    int tag = 0;
    bool done = false;
    bool refused = false;
  };
  bool match(MPI_Comm comm, buffer_pool& pool);

  std::size_t max_under_way_;
  std::size_t max_bytes_;
  std::vector<incoming> pending_;
  std::vector<incoming> ready_;  // kept for their capacity
  std::vector<incoming> rest_;
};

}  // namespace fastserve::mpi
