#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>

// The emulated runtime (cuda_runtime_api.h). It is as late as the real one may be: what is queued on a stream
// is done when somebody waits for it, or asks for memory back, and not before. So a host that changes pinned
// memory too soon, or a stream that does not wait for another, gives wrong numbers here. Copies to and from
// memory that is not pinned are complete, or have read their source, on return.
//
// Graphs keep what the real ones keep: kernels with the values of their arguments, copies with their
// addresses. A thread that captures may not allocate, free, wait or ask whether an event has passed: the call
// fails and so does the capture. Other threads may.
//
// Device memory is filled with a pattern that is no number. Larger pieces end at a page that nobody may
// touch, and are such pages themselves once they were freed: who still has their address ends the program.
// Wrong uses that the real runtime leaves undefined (destroying a graph in flight) end it, too.

namespace fastserve::emulation {

/// Queues `work` on a stream, or records it.
void queue(cudaStream_t on, std::function<void()> work);

/// Calls of a function of the runtime so far: "cudaMalloc".
std::uint64_t calls(const std::string& function);
/// The next call of this function fails with cudaErrorMemoryAllocation.
void refuse(const std::string& function);

}  // namespace fastserve::emulation
