#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "mpi/environment.hpp"

namespace fastserve::mpi {

/// A word of memory for each rank, on which it sleeps, and which the ranks of its machine ring when they have
/// sent it something. MPI itself has no such call: whoever waits for a message polls, and either burns a core
/// or notices late. Nothing is lost if a ring is: ranks look after a while, too.
///
/// The words are anonymous memory that neighbours open through /proc, so a job that is killed leaves nothing
/// behind. Ranks of other machines, and those that cannot be opened, are not rung.
class doorbells {
 public:
  /// Collective over `env`. Does not throw for want of memory or /proc: then nobody is rung.
  explicit doorbells(environment& env);
  doorbells(const doorbells&) = delete;
  doorbells& operator=(const doorbells&) = delete;
  ~doorbells();

  /// Whether `peer` can ring this rank, as it can itself.
  bool rung_by(int peer) const { return rung_by_[static_cast<std::size_t>(peer)]; }

  /// Wakes `peer`, if it can be. This rank, too. Any thread.
  void ring(int peer) noexcept;

  /// How often this rank was rung so far.
  std::uint32_t heard() const noexcept;
  /// Sleeps until this rank was rung more often than that, or for `longest`. One thread at a time.
  void wait(std::uint32_t heard, std::chrono::microseconds longest) noexcept;

 private:
  struct bell {
    std::uint64_t mark = 0;  // of its owner: tells whether the right memory was opened
    std::atomic<std::uint32_t> rings{0};
    std::atomic<std::uint32_t> asleep{0};
  };
  static bell* map(int descriptor) noexcept;
  static bell* open(const std::string& from) noexcept;

  int rank_;
  int descriptor_ = -1;
  bell alone_;  // where no memory can be shared
  bell* own_ = &alone_;
  std::vector<bell*> bells_;  // [ranks], nullptr: cannot be rung
  std::vector<bool> rung_by_;
};

}  // namespace fastserve::mpi
