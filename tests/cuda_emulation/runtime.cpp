#include "runtime.hpp"

#include <sys/mman.h>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

using work_item = std::function<void()>;

struct emulated_graph {
  std::vector<work_item> nodes;
};
struct emulated_stream {
  std::deque<work_item> queued;
  std::uint64_t ever = 0;  // queued since the beginning
  std::unique_ptr<emulated_graph> capture;
  bool capture_broken = false;

  std::uint64_t done() const { return ever - queued.size(); }
};
struct emulated_event {
  emulated_stream* on = nullptr;
  std::uint64_t behind = 0;
};
struct emulated_graph_exec {
  std::shared_ptr<const std::vector<work_item>> nodes;
  emulated_event last;
};

namespace fastserve::emulation {
namespace {

std::recursive_mutex guard;  // kernels run one at a time, whoever launches them
std::map<std::string, std::uint64_t> counted;
std::set<std::string> refused;
std::vector<std::unique_ptr<emulated_stream>> streams;  // for good: events may name them
thread_local emulated_stream* capturing = nullptr;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "CUDA emulation: %s\n", what);
  std::abort();
}

/// Whether a thread that captures may make a call; one that may not breaks the capture.
enum class while_capturing : std::uint8_t { allowed, illegal };

/// One call of the runtime: counted, alone, refused where a test wants that.
struct call {
  explicit call(const char* name, while_capturing made = while_capturing::allowed) : lock{guard} {
    ++counted[name];
    if (refused.erase(name) > 0) error = cudaErrorMemoryAllocation;
    if (made == while_capturing::illegal && capturing != nullptr) {
      capturing->capture_broken = true;
      error = cudaErrorStreamCaptureUnsupported;
    }
  }
  std::lock_guard<std::recursive_mutex> lock;
  cudaError_t error = cudaSuccess;
};

void work_off(emulated_stream& on, std::uint64_t until) {
  while (on.done() < until && !on.queued.empty()) {
    const auto next = std::move(on.queued.front());
    next();
    on.queued.pop_front();
  }
}
void work_off_all() {
  for (const auto& s : streams) work_off(*s, s->ever);
}

// -- memory -------------------------------------------------------------------

constexpr std::size_t page = 4096;
struct piece {
  void* mapped = nullptr;  // null: malloc'ed
  std::size_t mapped_bytes = 0;
  std::size_t bytes = 0;
};
std::map<const char*, piece> pinned;
std::map<const char*, piece> on_device;
std::deque<piece> freed;  // not to be touched

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

cudaError_t take(std::map<const char*, piece>& from, void** to, std::size_t bytes) {
  if (bytes > std::size_t{4} << 30) return cudaErrorMemoryAllocation;
  piece p;
  p.bytes = bytes;
  if (bytes < page) {
    // Exactly as much as was asked for, at the alignment that the real one promises.
    if (posix_memalign(to, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  } else {
    p.mapped_bytes = round_up(bytes, page) + page;
    p.mapped = mmap(nullptr, p.mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p.mapped == MAP_FAILED) return cudaErrorMemoryAllocation;
    auto* end = static_cast<char*>(p.mapped) + p.mapped_bytes - page;
    mprotect(end, page, PROT_NONE);
    *to = end - round_up(bytes, 256);
  }
  std::memset(*to, 0xff, bytes);
  from[static_cast<const char*>(*to)] = p;
  return cudaSuccess;
}

cudaError_t give_back(std::map<const char*, piece>& to, void* data) {
  if (data == nullptr) return cudaSuccess;
  work_off_all();
  const auto found = to.find(static_cast<const char*>(data));
  if (found == to.end()) return cudaErrorInvalidValue;
  const auto p = found->second;
  to.erase(found);
  if (p.mapped == nullptr) {
    std::free(data);
    return cudaSuccess;
  }
  // Fresh pages that nobody may touch, at the same place; the oldest go.
  mmap(p.mapped, p.mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  freed.push_back(p);
  if (freed.size() > 4096) {
    munmap(freed.front().mapped, freed.front().mapped_bytes);
    freed.pop_front();
  }
  return cudaSuccess;
}

bool is_pinned(const void* data) {
  const auto* at = static_cast<const char*>(data);
  auto after = pinned.upper_bound(at);
  return after != pinned.begin() && at < (--after)->first + after->second.bytes;
}

}  // namespace

void queue(cudaStream_t on, work_item work) {
  const std::lock_guard lock{guard};
  if (on == nullptr) {
    work_off_all();
    return work();
  }
  if (on->capture) {
    if (on != capturing) fail("a stream that another thread captures");
    on->capture->nodes.push_back(std::move(work));
    return;
  }
  on->queued.push_back(std::move(work));
  ++on->ever;
}

std::uint64_t calls(const std::string& function) {
  const std::lock_guard lock{guard};
  return counted[function];
}
void refuse(const std::string& function) {
  const std::lock_guard lock{guard};
  refused.insert(function);
}

}  // namespace fastserve::emulation

using namespace fastserve::emulation;

cudaError_t cudaMalloc(void** to, std::size_t bytes) {
  const call c{"cudaMalloc", while_capturing::illegal};
  return c.error != cudaSuccess ? c.error : take(on_device, to, bytes);
}
cudaError_t cudaFree(void* data) {
  const call c{"cudaFree", while_capturing::illegal};
  return c.error != cudaSuccess ? c.error : give_back(on_device, data);
}
cudaError_t cudaMallocHost(void** to, std::size_t bytes) {
  const call c{"cudaMallocHost", while_capturing::illegal};
  return c.error != cudaSuccess ? c.error : take(pinned, to, bytes);
}
cudaError_t cudaFreeHost(void* data) {
  const call c{"cudaFreeHost", while_capturing::illegal};
  return c.error != cudaSuccess ? c.error : give_back(pinned, data);
}
cudaError_t cudaDeviceSynchronize() {
  const call c{"cudaDeviceSynchronize", while_capturing::illegal};
  if (c.error != cudaSuccess) return c.error;
  work_off_all();
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t on) {
  const call c{"cudaMemcpyAsync"};
  if (bytes == 0) return cudaSuccess;
  if (kind == cudaMemcpyHostToDevice && !is_pinned(from) && capturing == nullptr) {
    const auto* begin = static_cast<const char*>(from);
    auto read = std::make_shared<std::vector<char>>(begin, begin + bytes);
    queue(on, [to, read] { std::memcpy(to, read->data(), read->size()); });
    return cudaSuccess;
  }
  queue(on, [to, from, bytes] { std::memcpy(to, from, bytes); });
  if (kind == cudaMemcpyDeviceToHost && !is_pinned(to) && capturing == nullptr && on != nullptr)
    work_off(*on, on->ever);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t on) {
  const call c{"cudaMemcpy2DAsync"};
  if (kind != cudaMemcpyDeviceToDevice) return cudaErrorInvalidValue;
  queue(on, [=] {
    for (std::size_t i = 0; i < height && width > 0; ++i)
      std::memcpy(static_cast<char*>(to) + i * to_pitch, static_cast<const char*>(from) + i * from_pitch,
                  width);
  });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t on) {
  const call c{"cudaMemsetAsync"};
  if (bytes > 0) queue(on, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* to, unsigned) {
  const call c{"cudaStreamCreate"};
  streams.push_back(std::make_unique<emulated_stream>());
  *to = streams.back().get();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t on) {
  const call c{"cudaStreamDestroy"};
  work_off(*on, on->ever);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t on) {
  const call c{"cudaStreamSynchronize", while_capturing::illegal};
  if (c.error != cudaSuccess) return c.error;
  work_off(*on, on->ever);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t on, cudaEvent_t event, unsigned) {
  const call c{"cudaStreamWaitEvent", while_capturing::illegal};
  if (c.error != cudaSuccess) return c.error;
  queue(on, [e = *event] {
    if (e.on != nullptr) work_off(*e.on, e.behind);
  });
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* to, unsigned) {
  const call c{"cudaEventCreate"};
  *to = new emulated_event;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t on) {
  // The real one makes it a part of the graph, which nothing here wants.
  const call c{"cudaEventRecord", while_capturing::illegal};
  if (c.error != cudaSuccess) return c.error;
  *event = {on, on->ever};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const call c{"cudaEventSynchronize", while_capturing::illegal};
  if (c.error != cudaSuccess) return c.error;
  if (event->on != nullptr) work_off(*event->on, event->behind);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const call c{"cudaEventQuery", while_capturing::illegal};
  if (c.error != cudaSuccess) return c.error;
  return event->on == nullptr || event->on->done() >= event->behind ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t on, cudaStreamCaptureMode mode) {
  const call c{"cudaStreamBeginCapture"};
  if (c.error != cudaSuccess) return c.error;
  if (on == nullptr || on->capture || capturing != nullptr || mode != cudaStreamCaptureModeThreadLocal)
    return cudaErrorInvalidValue;
  on->capture = std::make_unique<emulated_graph>();
  on->capture_broken = false;
  capturing = on;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t on, cudaGraph_t* graph) {
  const call c{"cudaStreamEndCapture"};
  *graph = nullptr;
  if (on == nullptr || on != capturing) return cudaErrorInvalidValue;
  capturing = nullptr;
  auto made = std::move(on->capture);
  if (on->capture_broken) return cudaErrorStreamCaptureInvalidated;
  *graph = made.release();
  return c.error;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, std::size_t* count) {
  const call c{"cudaGraphGetNodes"};
  *count = graph->nodes.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const call c{"cudaGraphInstantiate"};
  if (c.error != cudaSuccess) return c.error;
  *exec = new emulated_graph_exec{std::make_shared<std::vector<work_item>>(graph->nodes), {}};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t on) {
  const call c{"cudaGraphLaunch"};
  if (c.error != cudaSuccess) return c.error;
  if (capturing != nullptr) return cudaErrorStreamCaptureUnsupported;
  queue(on, [nodes = exec->nodes] {
    for (const auto& n : *nodes) n();
  });
  exec->last = {on, on->ever};
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const call c{"cudaGraphExecDestroy"};
  if (exec->last.on != nullptr && exec->last.on->done() < exec->last.behind)
    fail("a graph in flight is destroyed");
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const call c{"cudaGraphDestroy"};
  delete graph;
  return cudaSuccess;
}
