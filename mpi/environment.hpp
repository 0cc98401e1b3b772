#pragma once

#include <mpi.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mpi/start_limit.hpp"

namespace fastserve::mpi {

/// What the ranks agreed to have gone wrong.
struct rank_failure {
  int rank = 0;      ///< the lowest rank that failed
  std::string text;  ///< its error
};

/// MPI for the life of the object: initialised by the constructor, finalised by the destructor. Works without
/// a launcher, as one rank.
///
/// The member functions that talk to other ranks are collective, wait without spinning, and belong to the
/// main thread while no message_pump runs; while one runs, only to functions given to message_pump::run().
class environment {
 public:
  /// Throws std::runtime_error when MPI cannot be initialised or has no thread support, and when a launcher
  /// started several processes that MPI takes for strangers (srun without an MPI plugin).
  environment() : environment(nullptr, nullptr) {}
  /// Ends the process with 1 and a line on stderr when begun() is not called within `start`, or when a rank
  /// of the same machine dies before that: one that dies in MPI_Init or in a collective leaves the others
  /// there for ever. 0: waits for ever.
  explicit environment(std::chrono::seconds start) : environment(nullptr, nullptr, start) {}
  environment(int* argc, char*** argv, std::chrono::seconds start = {});
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;
  ~environment();

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Whether this rank leads the job: rank 0, or who has taken its place.
  bool leader() const { return leads_; }
  void lead(bool leads) { leads_ = leads; }
  /// All ranks, with errors returned and not fatal. Use a duplicate for traffic of your own.
  MPI_Comm comm() const { return comm_; }

  const std::string& host() const { return host_; }  ///< this machine's name
  int local_rank() const { return local_rank_; }     ///< ranks below this one on the same machine
  int local_size() const { return local_size_; }     ///< ranks on the same machine
  bool is_local(int rank) const { return local_[static_cast<std::size_t>(rank)]; }  ///< on the same machine
  /// [ranks], see mpi/process_mark.hpp.
  const std::vector<std::string>& processes() const { return processes_; }

  /// Every rank's text, in rank order. Throws std::runtime_error, on all ranks alike, when one is larger.
  std::vector<std::string> allgather(std::string_view mine, std::size_t max_bytes = 64 * 1024);

  /// Each rank gives its error, or an empty text; all learn of the same failure, the one of the lowest rank.
  std::optional<rank_failure> agree(std::string_view error);

  void barrier();

  /// All ranks have come so far that nobody waits for another without a deadline. A launcher that would end
  /// the job for the death of a rank is left (mpi/pmix_client.hpp); MPI is not finalised then.
  void begun();
  /// Whether the launcher ends the job when a rank dies that shares its machine with another: Slurm's PMIx
  /// plugin does, unless it could be left.
  bool ends_with_neighbours() const { return ends_with_neighbours_; }

  /// Ends all ranks with `code`. Does not return and does not wait for anyone.
  [[noreturn]] void abort(int code) noexcept;

  /// Leaves MPI un-finalised at the end: MPI_Finalize hangs when a rank is gone.
  void skip_finalize(bool skip = true) noexcept { finalize_ = !skip; }

  /// "Open MPI v4.1.4", ...
  static std::string library_version();
  /// True when a process launcher that MPI understands started this process.
  static bool launched();

 private:
  void find_neighbours();
  void look_for_the_dead() const;

  std::unique_ptr<start_limit> limit_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  bool leads_ = true;
  std::string host_;
  int local_rank_ = 0;
  int local_size_ = 1;
  std::vector<bool> local_;  // [ranks]: on the same machine
  std::vector<std::string> processes_;
  bool finalize_ = true;
  bool ends_with_neighbours_ = false;
};

}  // namespace fastserve::mpi
