#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.hpp"
#include "mpi/device_link.hpp"

namespace fastserve::launch {

/// What one rank sees of its host's GPUs. A launcher may show every rank all of them, or to each its own.
struct visible_gpus {
  std::string host;
  std::vector<std::string> ids;  ///< UUIDs, in the order of the ordinals
};

/// The device that a rank computes on.
struct device_choice {
  int gpu = -1;             ///< ordinal among those that the rank sees; -1: the processors
  int sharers = 1;          ///< ranks of the job on the same GPU
  std::string gpu_id = {};  ///< host and UUID: no two GPUs have the same
};

/// The devices of all ranks. `wish`: "cpu", or "auto" and "gpu", under which the ranks that see the same GPUs
/// take them in turn; with "auto" a rank that sees none takes its processors.
std::vector<device_choice> choose_devices(std::string_view wish, const std::vector<visible_gpus>& ranks);

/// What rank `rank` cannot have of its wish, as a line for the user; empty: nothing. `built` tells whether
/// this program can use GPUs at all.
std::string device_objection(std::string_view wish, const std::vector<visible_gpus>& ranks, std::size_t rank,
                             bool built);

/// Whether this program can use GPUs: it was built with CUDA and NCCL.
bool built_for_gpus() noexcept;
/// Those that this process sees; none where there is no driver, or none that works (with a warning).
std::vector<std::string> find_gpus();
/// What they are called, for people.
std::vector<std::string> gpu_names();
/// A GPU's back end, and the link between GPUs. Throw std::runtime_error; not to be called where
/// built_for_gpus() is false.
std::unique_ptr<kernels::backend> open_gpu(int ordinal);
std::unique_ptr<mpi::device_link> open_gpu_link(int ordinal);

/// As one text for an allgather, and back. Throws std::runtime_error.
std::string to_text(const visible_gpus& gpus);
visible_gpus gpus_of(std::string_view text);

}  // namespace fastserve::launch
