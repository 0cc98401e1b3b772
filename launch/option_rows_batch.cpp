#include "launch/option_rows.hpp"

namespace fastserve::launch {

std::vector<option_spec> batch_rows() {
  const commands who{command::batch};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"batch", "input", "IN.jsonl", "requests, one a line; the same as the first argument"}, who,
      [](auto& o) -> auto& { return o.batch.input; }));
  rows.push_back(text(
      {"batch", "output", "OUT.jsonl", "answers, one a line; the same as the second argument"}, who,
      [](auto& o) -> auto& { return o.batch.output; }));
  rows.push_back(integer(
      {"batch", "grace", "SECONDS", "after a signal, what runs has this long to finish"}, who, 0, 86400,
      [](auto& o) -> auto& { return o.batch.grace_s; }));
  rows.push_back(flag(
      {"batch", "overwrite", "", "drop an earlier output and its journal instead of going on with them"}, who,
      [](auto& o) -> auto& { return o.batch.overwrite; }));
  return rows;
}

}  // namespace fastserve::launch
