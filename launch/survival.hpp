#pragma once

#include <string>

namespace fastserve::launch {

/// What the launcher of this job was not told, so that it would end the job when a rank dies; empty when it
/// was told, or when nothing is known about the launcher.
std::string missing_launcher_flag();

}  // namespace fastserve::launch
