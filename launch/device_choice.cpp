#include "launch/device_choice.hpp"

#include <map>
#include <stdexcept>

namespace fastserve::launch {

namespace {

// Neither host names nor UUIDs have it.
constexpr char separator = '\n';

}  // namespace

std::vector<device_choice> choose_devices(std::string_view wish, const std::vector<visible_gpus>& ranks) {
  std::vector<device_choice> out(ranks.size());
  if (wish == "cpu") return out;
  std::map<std::string, int> taken;       // by ranks that see the same GPUs
  std::map<std::string, int> sharers_of;  // a GPU
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const auto& sees = ranks[r];
    if (sees.ids.empty()) continue;
    const int turn = taken[to_text(sees)]++;
    const auto ordinal = static_cast<std::size_t>(turn) % sees.ids.size();
    out[r].gpu = static_cast<int>(ordinal);
    out[r].gpu_id = sees.host + " " + sees.ids[ordinal];
    ++sharers_of[out[r].gpu_id];
  }
  for (auto& choice : out)
    if (choice.gpu >= 0) choice.sharers = sharers_of[choice.gpu_id];
  return out;
}

std::string device_objection(std::string_view wish, const std::vector<visible_gpus>& ranks, std::size_t rank,
                             bool built) {
  if (wish != "gpu") return {};
  if (!built)
    return "--device gpu: this program was built without CUDA and NCCL; build it with -DFASTSERVE_CUDA=ON";
  if (ranks[rank].ids.empty())
    return "--device gpu: rank " + std::to_string(rank) + " (" + ranks[rank].host +
           ") sees no GPU; ask the launcher for one a rank (srun --gpus-per-task=1), or take --device auto";
  return {};
}

std::string to_text(const visible_gpus& gpus) {
  std::string out = gpus.host;
  for (const auto& id : gpus.ids) out += separator + id;
  return out;
}

visible_gpus gpus_of(std::string_view text) {
  visible_gpus out;
  auto end = text.find(separator);
  out.host = text.substr(0, end);
  while (end != std::string_view::npos) {
    text.remove_prefix(end + 1);
    end = text.find(separator);
    out.ids.emplace_back(text.substr(0, end));
    if (out.ids.back().empty()) throw std::runtime_error("a GPU without a name");
  }
  return out;
}

}  // namespace fastserve::launch
