#include "mpi/environment.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "mpi/check.hpp"
#include "mpi/pmix_client.hpp"
#include "mpi/process_mark.hpp"

namespace fastserve::mpi {
namespace {

/// Variables that one of the launchers MPI libraries know sets for each process.
constexpr std::array launcher_variables{
    "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMIX_NAMESPACE", "PMI_RANK", "PMI_SIZE", "PMI_FD", "PMI_ID"};

/// Sets variables for the length of a scope, where the user has not set them.
class scoped_defaults {
 public:
  explicit scoped_defaults(bool alone) {
    // When Open MPI 4.1 cannot write to the socket of a rank that has just died, it closes the socket, and
    // then waits for it to be writable. A second message opens another one and links the event that is still
    // waiting once more: the list of events becomes a ring that MPI goes round for ever. poll() waits for a
    // closed socket without complaint; epoll refuses, and the event is never linked.
    set("OMPI_MCA_opal_event_include", "epoll");
    if (started_by_slurm_pmix()) {
      // All ranks' addresses at once, not when they are first spoken to: see environment::begun().
      set("OMPI_MCA_mpi_add_procs_cutoff", "1000000");
      // MPI_Init has two fences, and Slurm 22.05 gives them to two kinds of collective: a ring for the one
      // that carries addresses, a tree for the empty one. The tree then lets some ranks go while another is
      // still in the ring; their first message finds it half made, and kills it (address nil; one start of 70
      // on a busy machine). Without addresses both are trees, in order; ranks ask for addresses one by one.
      if (std::getenv("SLURM_PMIX_FENCE") == nullptr) set("OMPI_MCA_pmix_base_collect_data", "0");
    }
    if (!alone) return;
    // A lone process starts a daemon and opens every network unless told that it stays alone: 300 ms and a
    // warning or two.
    set("OMPI_MCA_ess_singleton_isolated", "1");
    set("OMPI_MCA_pml", "ob1");
    set("OMPI_MCA_btl", "self");
  }
  ~scoped_defaults() {
    for (const auto* name : set_) unsetenv(name);
  }
  scoped_defaults(const scoped_defaults&) = delete;
  scoped_defaults& operator=(const scoped_defaults&) = delete;

 private:
  void set(const char* name, const char* value) {
    if (std::getenv(name) != nullptr) return;
    setenv(name, value, 0);
    set_.push_back(name);
  }

  std::vector<const char*> set_;
};

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

/// Tells machines of the same name apart (containers often share one).
std::string boot_id() {
  std::ifstream in{"/proc/sys/kernel/random/boot_id"};
  std::string id;
  std::getline(in, id);
  return id.substr(0, 64);
}

/// srun without --mpi=pmix starts N processes that each believe to be alone.
void refuse_strangers() {
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  if (tasks == nullptr || std::getenv("SLURM_PROCID") == nullptr || std::atoi(tasks) < 2) return;
  throw std::runtime_error(
      "srun started " + std::string{tasks} +
      " processes, but MPI sees only one: use srun --mpi=pmix (srun --mpi=list tells what "
      "this cluster has) or mpirun");
}

/// Open MPI writes to the sockets of its peers without MSG_NOSIGNAL: who has something for a rank that just
/// died gets SIGPIPE, and would die of the death of another. A handler that somebody has set stays.
void outlive_broken_pipes() {
  struct sigaction now {};
  ::sigaction(SIGPIPE, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_DFL) ::signal(SIGPIPE, SIG_IGN);
}

}  // namespace

bool environment::launched() {
  return std::any_of(launcher_variables.begin(), launcher_variables.end(),
                     [](const char* name) { return std::getenv(name) != nullptr; });
}

environment::environment(int* argc, char*** argv, std::chrono::seconds start) {
  const bool alone = !launched();
  if (!alone) outlive_broken_pipes();
  if (!alone && start.count() > 0)
    limit_ = std::make_unique<start_limit>(start, [start] {
      std::fprintf(
          stderr,
          "fastserve: the ranks have not started within %lld s (--start-timeout): one may have died; "
          "run it again\n",
          static_cast<long long>(start.count()));
      ::_exit(1);
    });
  if (alone) refuse_strangers();
  int level = MPI_THREAD_SINGLE;
  {
    const scoped_defaults defaults{alone};
    check(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &level), "MPI_Init_thread");
  }
  if (level < MPI_THREAD_SERIALIZED) {
    MPI_Finalize();
    throw std::runtime_error(
        "MPI gives thread level " + std::to_string(level) +
        ", MPI_THREAD_SERIALIZED is needed: use an MPI library built with thread support");
  }
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  leads_ = rank_ == 0;
  find_neighbours();
  if (limit_) limit_->watch([this] { look_for_the_dead(); });
}

environment::~environment() {
  if (limit_) limit_->watch({});  // who leaves MPI_Finalize first has not died
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalize_ || finalized != 0) return;
  MPI_Comm_free(&comm_);
  MPI_Finalize();
}

void environment::begun() {
  limit_ = nullptr;
  if (!ends_with_neighbours_ || !leave_pmix()) return;
  ends_with_neighbours_ = false;
  skip_finalize();
}

void environment::find_neighbours() {
  host_ = host_name();
  const auto machines = allgather(host_ + '\0' + boot_id());
  const auto& mine = machines[static_cast<std::size_t>(rank_)];
  for (const auto& machine : machines) local_.push_back(machine == mine);
  local_size_ = static_cast<int>(std::count(machines.begin(), machines.end(), mine));
  local_rank_ = static_cast<int>(std::count(machines.begin(), machines.begin() + rank_, mine));
  processes_ = allgather(own_process());
  ends_with_neighbours_ =
      started_by_slurm_pmix() && std::set(machines.begin(), machines.end()).size() < machines.size();
}

// Of this machine. On the thread of the limit.
void environment::look_for_the_dead() const {
  const auto is_gone = [this](int rank) {
    return process_is_gone(processes_[static_cast<std::size_t>(rank)]);
  };
  int dead = 0;
  while (dead < size_ && !is_gone(dead)) ++dead;
  if (dead == size_) return;
  // The lowest one that lives speaks. The others have looked before it ends, and it has spoken before they
  // do: a launcher may end it for the end of another.
  int first = 0;
  while (first < rank_ && (is_gone(first) || !is_local(first))) ++first;
  if (first == rank_)
    std::fprintf(stderr, "fastserve: rank %d (%s) died while the ranks started; run it again\n", dead,
                 host_.c_str());
  std::this_thread::sleep_for((first == rank_ ? 4 : 2) * start_limit::period);
  ::_exit(1);
}

std::vector<std::string> environment::allgather(std::string_view mine, std::size_t max_bytes) {
  const auto ranks = static_cast<std::size_t>(size_);
  // A text that is too long must fail everywhere, so its length travels and its bytes do not.
  const auto limit = std::min(max_bytes, static_cast<std::size_t>(INT_MAX) / ranks);
  const int length = mine.size() > limit ? -1 : static_cast<int>(mine.size());
  std::vector<int> lengths(ranks);
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, comm_, &request), "MPI_Iallgather");
  wait(request, "MPI_Iallgather");

  std::vector<int> offsets(ranks);
  int total = 0;
  for (std::size_t r = 0; r < ranks; ++r) {
    if (lengths[r] < 0)
      throw std::runtime_error("rank " + std::to_string(r) + " gave a text larger than " +
                               std::to_string(limit) + " bytes to allgather");
    offsets[r] = total;
    total += lengths[r];
  }
  std::string all(static_cast<std::size_t>(total), '\0');
  check(MPI_Iallgatherv(mine.data(), length, MPI_CHAR, all.data(), lengths.data(), offsets.data(), MPI_CHAR,
                        comm_, &request),
        "MPI_Iallgatherv");
  wait(request, "MPI_Iallgatherv");

  std::vector<std::string> texts;
  texts.reserve(ranks);
  for (std::size_t r = 0; r < ranks; ++r)
    texts.push_back(all.substr(static_cast<std::size_t>(offsets[r]), static_cast<std::size_t>(lengths[r])));
  return texts;
}

std::optional<rank_failure> environment::agree(std::string_view error) {
  constexpr std::size_t max_text_bytes = 4096;
  const int mine = error.empty() ? size_ : rank_;
  int lowest = size_;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallreduce(&mine, &lowest, 1, MPI_INT, MPI_MIN, comm_, &request), "MPI_Iallreduce");
  wait(request, "MPI_Iallreduce");
  if (lowest >= size_) return std::nullopt;

  std::string text{lowest == rank_ ? error.substr(0, max_text_bytes) : std::string_view{}};
  int length = static_cast<int>(text.size());
  check(MPI_Ibcast(&length, 1, MPI_INT, lowest, comm_, &request), "MPI_Ibcast");
  wait(request, "MPI_Ibcast");
  text.resize(static_cast<std::size_t>(length));
  check(MPI_Ibcast(text.data(), length, MPI_CHAR, lowest, comm_, &request), "MPI_Ibcast");
  wait(request, "MPI_Ibcast");
  return rank_failure{lowest, std::move(text)};
}

void environment::barrier() {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ibarrier(comm_, &request), "MPI_Ibarrier");
  wait(request, "MPI_Ibarrier");
}

void environment::abort(int code) noexcept {
  MPI_Abort(comm_, code);
  std::_Exit(code);
}

std::string environment::library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING + 1> text{};
  int length = 0;
  if (MPI_Get_library_version(text.data(), &length) != MPI_SUCCESS) return "unknown MPI";
  const std::string all(text.data(), static_cast<std::size_t>(std::max(length, 0)));
  return all.substr(0, all.find_first_of(",\n"));
}

}  // namespace fastserve::mpi
