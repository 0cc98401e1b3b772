#include "launch/option_rows.hpp"

namespace fastserve::launch {

std::vector<option_spec> bench_rows() {
  const commands who{command::bench};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"bench", "random_weights", "CONFIG.json",
       "a model of this shape with made-up weights, instead of --model"},
      {command::bench, command::bench_serve, command::plan},
      [](auto& o) -> auto& { return o.bench.random_weights; }));
  const auto lengths = [&](const row& of, std::int64_t high, auto field) {
    return joined(
        of, who,
        [high](std::string_view part) { return static_cast<std::int32_t>(parse_integer(part, 1, high)); },
        [](std::int32_t n) { return std::to_string(n); }, field);
  };
  rows.push_back(or_auto(
      lengths(
          {"bench", "prompt_tokens", "N,...", "length of each prompt; several: each is measured",
           "auto: 512, or what the context holds"},
          1 << 24, [](auto& o) -> auto& { return o.bench.prompt_tokens; }),
      [](auto& o) -> auto& { return o.bench.prompts_given; }));
  rows.push_back(or_auto(
      integer(
          {"bench", "decode_tokens", "N", "tokens generated after each prompt",
           "auto: 128, or what the context holds"},
          who, 1, 1 << 24, [](auto& o) -> auto& { return o.bench.decode_tokens; }),
      [](auto& o) -> auto& { return o.bench.decode_given; }));
  rows.push_back(lengths(
      {"bench", "batch", "N,...", "sequences at once; several: each is measured"}, 65536,
      [](auto& o) -> auto& { return o.bench.batch; }));
  rows.push_back(integer(
      {"bench", "repeat", "N", "measure this often and print the median"}, who, 1, 10000,
      [](auto& o) -> auto& { return o.bench.repeat; }));
  rows.push_back(flag(
      {"bench", "json", "", "print JSON instead of a table: a line for each combination"}, who,
      [](auto& o) -> auto& { return o.bench.json; }));
  rows.push_back(flag(
      {"bench", "profile", "", "tell where the time of a step goes, op by op, on the first rank"},
      {command::bench}, [](auto& o) -> auto& { return o.bench.profile; }));
  return rows;
}

}  // namespace fastserve::launch
