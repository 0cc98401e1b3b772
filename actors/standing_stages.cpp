#include "actors/standing_stages.hpp"

#include <algorithm>

namespace fastserve::actors {

std::vector<planner::stage_place> standing_stages(std::int32_t layers,
                                                  std::vector<planner::stage_place> said) {
  std::erase_if(said, [](const auto& s) { return s.first_layer >= s.last_layer; });
  if (said.empty()) return {};
  std::sort(said.begin(), said.end(),
            [](const auto& a, const auto& b) { return a.first_layer < b.first_layer; });
  std::vector<planner::stage_place> out;
  std::int32_t at = 0;
  for (const auto& s : said) {
    if (s.first_layer < at || s.last_layer > layers) return {};
    if (s.first_layer > at) out.push_back({-1, at, s.first_layer});
    out.push_back(s);
    at = s.last_layer;
  }
  if (at < layers) out.push_back({-1, at, layers});
  return out;
}

}  // namespace fastserve::actors
