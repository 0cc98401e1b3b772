#include "emulation.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "runtime.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace fastserve::emulation {

thread_index here;

namespace {

constexpr std::size_t stack_bytes = std::size_t{256} << 10;
constexpr unsigned warp_lanes = 32;

[[noreturn]] void fail(const char* kernel, const char* what) {
  std::fprintf(stderr, "CUDA emulation: %s, block (%u, %u), thread %u: %s\n", kernel, here.block_x,
               here.block_y, here.thread, what);
  std::abort();
}

#if defined(__x86_64__)
// Saves the callee's registers on the stack that it leaves and takes them from the one it enters.
asm(R"(
.text
.globl fastserve_emulation_switch
.type fastserve_emulation_switch, @function
fastserve_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fastserve_emulation_switch, .-fastserve_emulation_switch
)");
extern "C" void fastserve_emulation_switch(void** save, void* to);
#endif

enum class waits : std::uint8_t { ready, warp, block, done };

struct pending_copy {
  void* to;
  const void* from;
  unsigned bytes, bytes_from, group;
};

struct fiber {
  void* stack = nullptr;
#if defined(__x86_64__)
  void* at = nullptr;
#else
  ucontext_t context;
#endif
  void* fake_stack = nullptr;
  waits state = waits::done;
  unsigned exchanges = 0;
  unsigned group = 0;
  std::deque<pending_copy> copies;
};

struct warp {
  unsigned arrived = 0;
  const char* what[2] = {nullptr, nullptr};
  alignas(16) unsigned char slots[2][warp_lanes * exchange_bytes];
};

struct block {
  const char* kernel = "";
  const std::function<void()>* body = nullptr;
  unsigned threads = 0;
  unsigned arrived = 0;
  unsigned current = 0;
  std::vector<fiber> fibers;
  std::vector<warp> warps;
  std::unique_ptr<unsigned char[]> shared;
  std::size_t shared_bytes = 0;
#if defined(__x86_64__)
  void* scheduler = nullptr;
#else
  ucontext_t scheduler;
#endif
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_bytes = 0;
};

block now;

void enter(fiber& f) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&now.scheduler_fake_stack, f.stack, stack_bytes);
#endif
#if defined(__x86_64__)
  fastserve_emulation_switch(&now.scheduler, f.at);
#else
  swapcontext(&now.scheduler, &f.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(now.scheduler_fake_stack, nullptr, nullptr);
#endif
}

void leave(bool for_good) {
  fiber& f = now.fibers[now.current];
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &f.fake_stack, now.scheduler_stack,
                                 now.scheduler_stack_bytes);
#endif
  (void)for_good;
#if defined(__x86_64__)
  fastserve_emulation_switch(&f.at, now.scheduler);
#else
  swapcontext(&f.context, &now.scheduler);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(f.fake_stack, nullptr, nullptr);
#endif
}

// Never returns: what a sanitizer marks in its frame would stay marked for the stack's next user.
extern "C" __attribute__((no_sanitize_address)) void fastserve_emulation_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &now.scheduler_stack, &now.scheduler_stack_bytes);
#endif
  (*now.body)();
  if (!now.fibers[now.current].copies.empty()) fail(now.kernel, "a thread ends with copies in flight");
  now.fibers[now.current].state = waits::done;
  leave(true);
  std::abort();
}

void prepare(fiber& f) {
  if (f.stack == nullptr) {
    f.stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (f.stack == MAP_FAILED) fail(now.kernel, "no memory for a stack");
  }
#if defined(__x86_64__)
  auto* top = reinterpret_cast<void**>(static_cast<char*>(f.stack) + stack_bytes);
  *--top = nullptr;  // keeps the alignment that a call would leave
  *--top = reinterpret_cast<void*>(&fastserve_emulation_main);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  f.at = top;
#else
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = stack_bytes;
  f.context.uc_link = nullptr;
  makecontext(&f.context, reinterpret_cast<void (*)()>(&fastserve_emulation_main), 0);
#endif
  f.state = waits::ready;
  f.exchanges = 0;
  f.group = 0;
  f.copies.clear();
}

/// Runs every ready thread of one warp until all of them wait for the block or are done.
void run_warp(unsigned w, bool falling) {
  const unsigned first = w * warp_lanes;
  const unsigned last = std::min(first + warp_lanes, now.threads);
  for (bool moved = true; moved;) {
    moved = false;
    for (unsigned i = first; i < last; ++i) {
      const unsigned t = falling ? first + last - 1 - i : i;
      if (now.fibers[t].state != waits::ready) continue;
      now.current = t;
      here.thread = t;
      enter(now.fibers[t]);
      moved = true;
    }
  }
  for (unsigned t = first; t < last; ++t)
    if (now.fibers[t].state == waits::warp) fail(now.kernel, "a warp operation that not all lanes reach");
}

void run_block(bool falling) {
  for (unsigned t = 0; t < now.threads; ++t) prepare(now.fibers[t]);
  for (auto& w : now.warps) w.arrived = 0;
  now.arrived = 0;
  now.shared = std::make_unique<unsigned char[]>(now.shared_bytes);
  std::memset(now.shared.get(), 0xff, now.shared_bytes);
  const unsigned warps = (now.threads + warp_lanes - 1) / warp_lanes;
  for (;;) {
    for (unsigned w = 0; w < warps; ++w) run_warp(falling ? warps - 1 - w : w, falling);
    unsigned done = 0;
    unsigned ready = 0;
    for (unsigned t = 0; t < now.threads; ++t) {
      done += now.fibers[t].state == waits::done ? 1 : 0;
      ready += now.fibers[t].state == waits::ready ? 1 : 0;
    }
    if (done == now.threads) return;
    if (ready == 0) fail(now.kernel, "a block barrier that not all threads reach");
  }
}

void run(const char* what, unsigned grid_x, unsigned grid_y, unsigned threads, std::size_t shared_bytes,
         const std::function<void()>& body) {
  static bool falling = false;
  falling = !falling;
  now.kernel = what;
  now.body = &body;
  now.threads = threads;
  now.shared_bytes = shared_bytes;
  if (threads == 0 || threads > 1024 || grid_x == 0 || grid_y == 0 || grid_y > 65535 ||
      shared_bytes > 227 * 1024)
    fail(what, "an impossible launch");
  if (now.fibers.size() < threads) now.fibers.resize(threads);
  if (now.warps.size() < (threads + warp_lanes - 1) / warp_lanes)
    now.warps.resize((threads + warp_lanes - 1) / warp_lanes);
  here = {0, 0, 0, grid_x, grid_y, threads};
  for (here.block_y = 0; here.block_y < grid_y; ++here.block_y) {
    for (here.block_x = 0; here.block_x < grid_x; ++here.block_x) run_block(falling);
  }
}

}  // namespace

void launch(const char* what, unsigned grid_x, unsigned grid_y, unsigned threads, std::size_t shared_bytes,
            cudaStream_t on, std::function<void()> body) {
  queue(on, [=, body = std::move(body)] { run(what, grid_x, grid_y, threads, shared_bytes, body); });
}

void* shared() { return now.shared.get(); }

void block_barrier() {
  if (++now.arrived == now.threads) {
    now.arrived = 0;
    for (unsigned t = 0; t < now.threads; ++t) now.fibers[t].state = waits::ready;
    return;
  }
  now.fibers[now.current].state = waits::block;
  leave(false);
}

void warp_barrier() {
  const unsigned w = now.current / warp_lanes;
  const unsigned first = w * warp_lanes;
  if (first + warp_lanes > now.threads)
    fail(now.kernel, "a warp operation in a warp of fewer than 32 threads");
  if (++now.warps[w].arrived == warp_lanes) {
    now.warps[w].arrived = 0;
    for (unsigned t = first; t < first + warp_lanes; ++t) now.fibers[t].state = waits::ready;
    return;
  }
  now.fibers[now.current].state = waits::warp;
  leave(false);
}

// Two sets of slots in turn: who comes to the next but one exchange knows that all have left this one.
lanes::lanes(const char* what, const void* mine, std::size_t bytes) {
  fiber& f = now.fibers[now.current];
  warp& w = now.warps[now.current / warp_lanes];
  const unsigned set = f.exchanges++ % 2;
  const unsigned lane = now.current % warp_lanes;
  if (bytes > exchange_bytes) fail(now.kernel, "too much for an exchange");
  if (w.arrived == 0) w.what[set] = what;
  if (w.what[set] != what) fail(now.kernel, "lanes that do different warp operations");
  std::memcpy(w.slots[set] + lane * exchange_bytes, mine, bytes);
  slots_ = w.slots[set];
  warp_barrier();
}

void copy_later(void* to, const void* from, unsigned bytes, unsigned bytes_from) {
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 ||
      reinterpret_cast<std::uintptr_t>(from) % bytes != 0)
    fail(now.kernel, "cp.async of unaligned memory");
  fiber& f = now.fibers[now.current];
  f.copies.push_back({to, from, bytes, bytes_from, f.group});
}

void copy_commit() { ++now.fibers[now.current].group; }

void copy_wait(unsigned groups_left) {
  fiber& f = now.fibers[now.current];
  while (!f.copies.empty() && f.copies.front().group + groups_left < f.group) {
    const auto& c = f.copies.front();
    if (c.bytes_from > 0) std::memcpy(c.to, c.from, c.bytes_from);
    std::memset(static_cast<char*>(c.to) + c.bytes_from, 0, c.bytes - c.bytes_from);
    f.copies.pop_front();
  }
}

}  // namespace fastserve::emulation
