#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fastserve::launch {

/// What a rank of the job does.
struct rank_row {
  int rank = 0;
  std::string host;
  std::string device;  ///< kernels::device_info::name
  std::int32_t first_layer = 0;
  std::int32_t layers = 0;  ///< 0 = a spare
  bool embeds = false;      ///< has the embedding, begins the pipeline
  bool samples = false;     ///< has the head, ends the pipeline
  std::uint64_t weight_bytes = 0;
  std::int64_t kv_tokens = 0;
  std::string channel;  ///< to the next stage: "mpi", "nccl", "local"; empty = none
  int pipeline = -1;    ///< -1 = none
};

/// An aligned table in plain text, a row a rank, for stderr. Names the pipelines where there are several.
/// Ends in a newline.
std::string format_startup_table(const std::vector<rank_row>& rows);

}  // namespace fastserve::launch
