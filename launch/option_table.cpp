#include "launch/option_table.hpp"

#include <algorithm>
#include <utility>

#include "launch/option_rows.hpp"

namespace fastserve::launch {

bool option_spec::belongs_to(command which) const {
  return std::find(commands.begin(), commands.end(), which) != commands.end();
}

std::string option_spec::flag() const {
  std::string name{"--"};
  for (const char c : key) name += c == '_' ? '-' : c;
  return name;
}

const std::vector<option_spec>& option_table() {
  static const std::vector<option_spec> table = [] {
    std::vector<option_spec> all;
    for (auto rows : {general_rows(), engine_rows(), failover_rows(), sampling_rows(), console_rows(),
                      batch_rows(), bench_rows(), load_rows(), simulate_rows(), plan_rows(), compress_rows()})
      for (option_spec& spec : rows) all.push_back(std::move(spec));
    return all;
  }();
  return table;
}

std::vector<const option_spec*> live_options() {
  std::vector<const option_spec*> live;
  for (const option_spec& spec : option_table())
    if (spec.live) live.push_back(&spec);
  return live;
}

}  // namespace fastserve::launch
