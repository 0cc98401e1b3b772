#include "launch/option_rows.hpp"

namespace fastserve::launch {

std::vector<option_spec> bench_rows() {
  const commands who{command::bench};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"bench", "random_weights", "CONFIG.json", "measure a model of this shape, made up in memory"},
      {command::bench, command::bench_serve, command::plan},
      [](auto& o) -> auto& { return o.bench.random_weights; }));
  rows.push_back(integer(
      {"bench", "prompt_tokens", "N", "length of each prompt"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.bench.prompt_tokens; }));
  rows.push_back(integer(
      {"bench", "decode_tokens", "N", "tokens generated after each prompt"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.bench.decode_tokens; }));
  rows.push_back(integer(
      {"bench", "batch", "N", "sequences at once"}, who, 1, 65536,
      [](auto& o) -> auto& { return o.bench.batch; }));
  rows.push_back(integer(
      {"bench", "repeat", "N", "measure this often and print the best"}, who, 1, 10000,
      [](auto& o) -> auto& { return o.bench.repeat; }));
  rows.push_back(flag(
      {"bench", "json", "", "print one line of JSON instead of a table"}, who,
      [](auto& o) -> auto& { return o.bench.json; }));
  rows.push_back(flag(
      {"bench", "profile", "", "tell where the time of a step goes, op by op, on the first rank"},
      {command::bench}, [](auto& o) -> auto& { return o.bench.profile; }));
  return rows;
}

}  // namespace fastserve::launch
