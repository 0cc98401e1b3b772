#include "launch/option_rows.hpp"

namespace fastserve::launch {

std::vector<option_spec> general_rows() {
  const commands all{command::console, command::batch,    command::bench,  command::bench_serve,
                     command::plan,    command::compress, command::inspect};
  const commands runs{command::console, command::batch, command::bench, command::bench_serve,
                      command::simulate};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"", "model", "DIR", "folder with config.json, weights and tokenizer, or a GGUF file"}, all,
      [](auto& o) -> auto& { return o.model; }));
  rows.push_back(text(
      {"", "config", "FILE.yaml", "read settings from here; flags win over it"}, runs,
      [](auto& o) -> auto& { return o.config; }));
  rows.back().in_yaml = false;
  rows.push_back(flag(
      {"", "print_config", "", "print the settings in force as YAML and end"}, runs,
      [](auto& o) -> auto& { return o.print_config; }));
  rows.back().in_yaml = false;
  rows.push_back(choice(
      {"", "log_level", "LEVEL", "trace, debug, info, warn, error or off"}, runs,
      {"trace", "debug", "info", "warn", "error", "off"}, [](auto& o) -> auto& { return o.log_level; }));
  return rows;
}

}  // namespace fastserve::launch
