#include "mpi/nccl_link.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <utility>

#include "kernels/cuda/memory.hpp"

namespace fastserve::mpi {
namespace {

using clock = std::chrono::steady_clock;

// Transfers that may be on their way out at once: more than a stage has steps in flight.
constexpr std::size_t slot_count = 4;

// A wait asks without sleeping for this long: a hand-over between GPUs of a node takes a few microseconds.
constexpr std::chrono::microseconds busy_wait{200};
constexpr std::chrono::microseconds nap{20};

void check(cudaError_t result, const char* call) {
  if (result != cudaSuccess) throw std::runtime_error(std::string{call} + ": " + cudaGetErrorString(result));
}

[[noreturn]] void fail(const char* call, ncclResult_t result, ncclComm_t comm) {
  std::string text = std::string{call} + ": " + ncclGetErrorString(result);
  if (comm != nullptr)
    if (const char* last = ncclGetLastError(comm); last != nullptr && *last != '\0')
      text += std::string{" ("} + last + ")";
  throw std::runtime_error(text);
}

clock::time_point after(std::chrono::nanoseconds deadline) {
  const auto now = clock::now();
  return deadline > clock::time_point::max() - now ? clock::time_point::max() : now + deadline;
}

class backoff {
 public:
  void pause() {
    if (clock::now() - begin_ < busy_wait)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(nap);
  }

 private:
  clock::time_point begin_ = clock::now();
};

}  // namespace

nccl_link::nccl_link(int ordinal) : ordinal_{ordinal} {
  check(cudaSetDevice(ordinal_), "cudaSetDevice");
  int least = 0;
  int greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  // Before the computing: the next stage waits for it.
  check(cudaStreamCreateWithPriority(&queue_, cudaStreamNonBlocking, greatest), "cudaStreamCreate");
  check(cudaEventCreateWithFlags(&writable_, cudaEventDisableTiming), "cudaEventCreate");
  check(cudaEventCreateWithFlags(&received_, cudaEventDisableTiming), "cudaEventCreate");
  slots_.resize(slot_count);
  for (auto& s : slots_) {
    check(cudaEventCreateWithFlags(&s.filled, cudaEventDisableTiming), "cudaEventCreate");
    check(cudaEventCreateWithFlags(&s.sent, cudaEventDisableTiming), "cudaEventCreate");
  }
}

// Errors while leaving have nobody to hear them.
nccl_link::~nccl_link() {
  cudaSetDevice(ordinal_);
  end_membership();
  if (queue_ != nullptr) cudaStreamSynchronize(queue_);
  for (auto& s : slots_) {
    cudaFree(s.data);
    if (s.filled != nullptr) cudaEventDestroy(s.filled);
    if (s.sent != nullptr) cudaEventDestroy(s.sent);
  }
  if (writable_ != nullptr) cudaEventDestroy(writable_);
  if (received_ != nullptr) cudaEventDestroy(received_);
  if (queue_ != nullptr) cudaStreamDestroy(queue_);
}

std::string nccl_link::make_id() {
  ncclUniqueId id;
  if (const auto result = ncclGetUniqueId(&id); result != ncclSuccess)
    fail("ncclGetUniqueId", result, nullptr);
  return {id.internal, sizeof id.internal};
}

bool nccl_link::join(const std::string& id, int size, int me, std::size_t largest_bytes,
                     std::chrono::nanoseconds deadline, const std::function<bool()>& wanted) {
  ncclUniqueId key;
  if (id.size() != sizeof key.internal)
    throw std::runtime_error("an NCCL id of " + std::to_string(id.size()) + " bytes, expected " +
                             std::to_string(sizeof key.internal));
  std::memcpy(key.internal, id.data(), id.size());
  const auto end = after(deadline);
  check(cudaSetDevice(ordinal_), "cudaSetDevice");
  end_membership();
  reserve(largest_bytes);

  const auto aborts = aborts_.load();
  const auto still = [&] { return aborts == aborts_.load() && wanted(); };
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclResult_t begun = ncclSuccess;
  {
    const std::lock_guard lock{mutex_};
    begun = ncclCommInitRankConfig(&comm_, size, key, me, &config);
  }
  if (settle(begun, "ncclCommInitRankConfig", end, still) && meet_neighbours(size, me, end, still))
    return true;
  end_membership();
  return false;
}

// NCCL connects two members at their first transfer, which must not hold up the first step.
bool nccl_link::meet_neighbours(int size, int me, clock::time_point end,
                                const std::function<bool()>& wanted) {
  void* spare = slots_[0].data;
  ncclResult_t result = ncclSuccess;
  {
    const std::lock_guard lock{mutex_};
    if (comm_ == nullptr) return false;
    const auto also = [&](ncclResult_t next) {
      if (result == ncclSuccess || result == ncclInProgress) result = next;
    };
    also(ncclGroupStart());
    if (me > 0) also(ncclRecv(spare, 1, ncclUint8, me - 1, comm_, queue_));
    if (me + 1 < size) also(ncclSend(spare, 1, ncclUint8, me + 1, comm_, queue_));
    also(ncclGroupEnd());
  }
  if (!settle(result, "the first ncclSend and ncclRecv", end, wanted)) return false;
  check(cudaEventRecord(received_, queue_), "cudaEventRecord");
  return wait_for(received_, end, wanted);
}

// Until the communicator has taken the call in: true; false when it is not wanted any more.
bool nccl_link::settle(ncclResult_t result, const char* call, clock::time_point end,
                       const std::function<bool()>& wanted) {
  backoff wait;
  for (;;) {
    if (result != ncclSuccess && result != ncclInProgress) {
      const std::lock_guard lock{mutex_};
      fail(call, result, comm_);
    }
    if (result == ncclSuccess) return true;
    if (!wanted() || clock::now() >= end) return false;
    wait.pause();
    const std::lock_guard lock{mutex_};
    if (comm_ == nullptr) return false;
    if (const auto asked = ncclCommGetAsyncError(comm_, &result); asked != ncclSuccess) result = asked;
  }
}

bool nccl_link::wait_for(cudaEvent_t event, clock::time_point end, const std::function<bool()>& wanted) {
  backoff wait;
  for (;;) {
    const auto state = cudaEventQuery(event);
    if (state != cudaErrorNotReady) {
      // An aborted transfer is complete, too, for the device.
      if (!wanted()) return false;
      check(state, "cudaEventQuery");
      return true;
    }
    if (!wanted() || clock::now() >= end) return false;
    require_sound();
    wait.pause();
  }
}

// A network that is broken between living members shows nowhere else.
void nccl_link::require_sound() {
  const std::lock_guard lock{mutex_};
  if (comm_ == nullptr) return;
  ncclResult_t state = ncclSuccess;
  const auto asked = ncclCommGetAsyncError(comm_, &state);
  const auto wrong = asked != ncclSuccess ? asked : state;
  if (wrong != ncclSuccess && wrong != ncclInProgress) fail("a transfer", wrong, comm_);
}

void nccl_link::send(int to, const void* data, std::size_t bytes, kernels::stream& on) {
  if (bytes > slot_bytes_)
    throw std::runtime_error("a transfer of " + std::to_string(bytes) + " bytes over a link for " +
                             std::to_string(slot_bytes_));
  check(cudaSetDevice(ordinal_), "cudaSetDevice");
  auto& s = slots_[next_++ % slots_.size()];
  const auto computing = kernels::cuda::handle_of(on);
  // Only on the device: the host goes on.
  check(cudaStreamWaitEvent(computing, s.sent, 0), "cudaStreamWaitEvent");
  check(cudaMemcpyAsync(s.data, data, bytes, cudaMemcpyDeviceToDevice, computing), "cudaMemcpyAsync");
  check(cudaEventRecord(s.filled, computing), "cudaEventRecord");
  check(cudaStreamWaitEvent(queue_, s.filled, 0), "cudaStreamWaitEvent");
  const auto aborts = aborts_.load();
  ncclResult_t result = ncclSuccess;
  {
    const std::lock_guard lock{mutex_};
    if (comm_ == nullptr) return;
    result = ncclSend(s.data, bytes, ncclUint8, to, comm_, queue_);
  }
  settle(result, "ncclSend", clock::time_point::max(), [&] { return aborts == aborts_.load(); });
  check(cudaEventRecord(s.sent, queue_), "cudaEventRecord");
}

bool nccl_link::receive(int from, void* data, std::size_t bytes, kernels::stream& on,
                        std::chrono::nanoseconds deadline) {
  const auto end = after(deadline);
  check(cudaSetDevice(ordinal_), "cudaSetDevice");
  const auto computing = kernels::cuda::handle_of(on);
  check(cudaEventRecord(writable_, computing), "cudaEventRecord");
  check(cudaStreamWaitEvent(queue_, writable_, 0), "cudaStreamWaitEvent");
  const auto aborts = aborts_.load();
  const auto wanted = [&] { return aborts == aborts_.load(); };
  ncclResult_t result = ncclSuccess;
  {
    const std::lock_guard lock{mutex_};
    if (comm_ == nullptr) return false;
    result = ncclRecv(data, bytes, ncclUint8, from, comm_, queue_);
  }
  if (!settle(result, "ncclRecv", end, wanted)) return false;
  check(cudaEventRecord(received_, queue_), "cudaEventRecord");
  check(cudaStreamWaitEvent(computing, received_, 0), "cudaStreamWaitEvent");
  return wait_for(received_, end, wanted);
}

// The caller sends signs of life, and NCCL waits for threads and kernels of its own. A communicator is there
// only after end_membership(), so no earlier reaper is at work.
void nccl_link::abort() {
  ++aborts_;
  const std::lock_guard lock{mutex_};
  if (comm_ == nullptr) return;
  reaper_ = std::thread{[comm = std::exchange(comm_, nullptr), ordinal = ordinal_] {
    cudaSetDevice(ordinal);
    ncclCommAbort(comm);  // never ncclCommDestroy, which waits for members that may be dead
  }};
}

// On the thread of join(), or when nobody calls any more: no abort() makes another reaper meanwhile.
void nccl_link::end_membership() {
  abort();
  std::thread reaper;
  {
    const std::lock_guard lock{mutex_};
    reaper.swap(reaper_);
  }
  if (reaper.joinable()) reaper.join();
}

void nccl_link::reserve(std::size_t bytes) {
  bytes = std::max<std::size_t>(bytes, 16);
  if (bytes <= slot_bytes_) return;
  check(cudaStreamSynchronize(queue_), "cudaStreamSynchronize");
  slot_bytes_ = 0;
  for (auto& s : slots_) {
    check(cudaFree(s.data), "cudaFree");
    s.data = nullptr;
    check(cudaMalloc(&s.data, bytes), "cudaMalloc");
  }
  slot_bytes_ = bytes;
}

}  // namespace fastserve::mpi
