#pragma once

#include <string>
#include <string_view>

#include "planner/cluster.hpp"

namespace fastserve::launch {

/// Reads a description of a cluster, see configs/cluster-example.yaml. Ranks are numbered in the order of
/// their groups. Throws std::runtime_error "NAME:LINE: ..." for what is not known, not there, out of range,
/// given twice, and for more than 100,000 ranks in 256 groups.
planner::cluster read_cluster_text(std::string_view text, const std::string& name);
/// The same of a file of at most 1 MiB.
planner::cluster read_cluster_file(const std::string& path);

/// The text that reads back as the same cluster, to the digits shown. Ranks of a group are neighbours and
/// alike.
std::string format_cluster(const planner::cluster& of);

}  // namespace fastserve::launch
