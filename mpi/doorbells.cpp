#include "mpi/doorbells.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>
#include <new>
#include <random>
#include <sstream>
#include <string>

namespace fastserve::mpi {

static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "a word that processes share");

doorbells::bell* doorbells::map(int descriptor) noexcept {
  void* at = ::mmap(nullptr, sizeof(bell), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  return at == MAP_FAILED ? nullptr : static_cast<bell*>(at);
}

/// `from`: process, descriptor and mark, as another rank wrote them.
doorbells::bell* doorbells::open(const std::string& from) noexcept try {
  std::istringstream text{from};
  int process = 0;
  int number = -1;
  std::uint64_t mark = 0;
  if (!(text >> process >> number >> mark)) return nullptr;
  const auto path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(number);
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return nullptr;
  // In another namespace the process may be somebody else, and its file too small to be read.
  struct stat about {};
  auto* found = ::fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) &&
                        about.st_size == static_cast<off_t>(sizeof(bell))
                    ? map(descriptor)
                    : nullptr;
  ::close(descriptor);
  if (found == nullptr || found->mark == mark) return found;
  ::munmap(found, sizeof(bell));
  return nullptr;
} catch (const std::exception&) {
  return nullptr;
}

doorbells::doorbells(environment& env)
    : rank_{env.rank()},
      bells_(static_cast<std::size_t>(env.size())),
      rung_by_(static_cast<std::size_t>(env.size())) {
  const auto me = static_cast<std::size_t>(rank_);
  if (env.local_size() > 1) {
    descriptor_ = ::memfd_create("fastserve-bell", MFD_CLOEXEC);
    if (descriptor_ >= 0 && ::ftruncate(descriptor_, sizeof(bell)) == 0)
      if (auto* at = map(descriptor_); at != nullptr) own_ = new (at) bell;
  }
  std::random_device chance;
  own_->mark = std::uint64_t{chance()} << 32U | chance();
  bells_[me] = own_;
  rung_by_[me] = true;
  if (env.size() == 1) return;

  std::string mine;
  if (own_ != &alone_)
    mine = std::to_string(::getpid()) + ' ' + std::to_string(descriptor_) + ' ' + std::to_string(own_->mark);
  const auto theirs = env.allgather(mine);
  std::string opened(theirs.size(), '0');
  opened[me] = '1';
  for (std::size_t r = 0; r < theirs.size(); ++r) {
    if (r == me || !env.is_local(static_cast<int>(r))) continue;
    bells_[r] = open(theirs[r]);
    if (bells_[r] != nullptr) opened[r] = '1';
  }
  const auto by_all = env.allgather(opened);
  for (std::size_t r = 0; r < by_all.size(); ++r) rung_by_[r] = by_all[r].at(me) == '1';
}

doorbells::~doorbells() {
  for (auto* at : bells_)
    if (at != nullptr && at != &alone_) ::munmap(at, sizeof(bell));
  if (descriptor_ >= 0) ::close(descriptor_);
}

void doorbells::ring(int peer) noexcept {
  auto* at = bells_[static_cast<std::size_t>(peer)];
  if (at == nullptr) return;
  // Either the sleeper sees the new count before it sleeps, or this sees that it sleeps.
  at->rings.fetch_add(1, std::memory_order_seq_cst);
  if (at->asleep.load(std::memory_order_seq_cst) == 0) return;
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&at->rings), FUTEX_WAKE, INT_MAX, nullptr, nullptr,
            0);
}

std::uint32_t doorbells::heard() const noexcept { return own_->rings.load(std::memory_order_seq_cst); }

void doorbells::wait(std::uint32_t heard, std::chrono::microseconds longest) noexcept {
  constexpr std::int64_t million = 1'000'000;
  const timespec limit{static_cast<std::time_t>(longest.count() / million),
                       static_cast<long>(longest.count() % million * 1000)};
  own_->asleep.store(1, std::memory_order_seq_cst);
  // Returns at once if the count is another one by now; woken too early does no harm.
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&own_->rings), FUTEX_WAIT, heard, &limit, nullptr, 0);
  own_->asleep.store(0, std::memory_order_seq_cst);
}

}  // namespace fastserve::mpi
