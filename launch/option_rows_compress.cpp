#include "launch/option_rows.hpp"

#include <stdexcept>

#include "compress/pruning.hpp"

namespace fastserve::launch {

std::vector<option_spec> compress_rows() {
  const commands who{command::compress};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"compress", "output", "OUT", "folder to write; the same as the second argument"}, who,
      [](auto& o) -> auto& { return o.compress.output; }));
  option_spec format = begin({"compress", "format", "NAME", "int8, int4, or none: weights are left out only"},
                             shape::value, who);
  format.empty_is_unset = true;
  format.set = [](options& o, std::string_view value) {
    o.compress.format = parse_choice(value, {"int8", "int4", "none"});
  };
  format.get = [](const options& o) { return std::vector<std::string>{o.compress.format}; };
  rows.push_back(std::move(format));
  option_spec group =
      begin({"compress", "group", "N", "weights that share a scale: 16, 32, 64, 128, or 0 for a whole row",
             "128 for int8, 32 for int4"},
            shape::value, who);
  group.numeric = true;
  group.set = [](options& o, std::string_view value) {
    const auto n = static_cast<std::int32_t>(parse_integer(value, -1, 128));
    if (n != -1 && n != 0 && n != 16 && n != 32 && n != 64 && n != 128)
      throw std::invalid_argument{"expected 16, 32, 64, 128 or 0, found " + in_quotes(value)};
    o.compress.group = n;
  };
  group.get = [](const options& o) { return std::vector<std::string>{std::to_string(o.compress.group)}; };
  rows.push_back(std::move(group));
  rows.push_back(flag(
      {"compress", "symmetric", "", "int4 without zero points (int8 never has any)"}, who,
      [](auto& o) -> auto& { return o.compress.symmetric; }));
  rows.push_back(text(
      {"compress", "calibrate", "TEXT", "file of text to choose by", "round to nearest"}, who,
      [](auto& o) -> auto& { return o.compress.calibrate; }));
  rows.push_back(text(
      {"compress", "evaluate", "TEXT", "file of text to judge by", "the last tenth of --calibrate"}, who,
      [](auto& o) -> auto& { return o.compress.evaluate; }));
  option_spec prune =
      begin({"compress", "prune", "HOW",
             "leave out a share of each row, such as 0.5, or all but 2 of every 4: 2:4", "none"},
            shape::value, who);
  prune.empty_is_unset = true;
  prune.set = [](options& o, std::string_view value) {
    compress::parse_pruning(value);
    o.compress.prune = std::string{value};
  };
  prune.get = [](const options& o) { return std::vector<std::string>{o.compress.prune}; };
  rows.push_back(std::move(prune));
  return rows;
}

}  // namespace fastserve::launch
