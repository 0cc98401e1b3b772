#pragma once

#include <cstddef>
#include <filesystem>

namespace fastserve::launch {

/// Removes what jobs left in shared memory whose mpirun was killed: Open MPI's segments
/// (vader_segment.HOST.UID.* and sm_segment.HOST.UID.*) of this host and user in `folder` that no process has
/// open or mapped for writing. The kernel says so, by granting a read lease on the file; each living job maps
/// its own. Returns how many were removed. Never throws: what cannot be looked at stays.
std::size_t remove_stale_segments(const std::filesystem::path& folder = "/dev/shm");

}  // namespace fastserve::launch
