#include "launch/option_rows.hpp"

#include <limits>
#include <stdexcept>

namespace fastserve::launch {

namespace {

constexpr std::int64_t max_tokens_anywhere = std::int64_t{1} << 40;

template <typename Field>
option_spec element_type(const row& of, commands who, std::vector<kernels::dtype> types, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.set = [field, types = std::move(types)](options& o, std::string_view value) {
    std::vector<std::string_view> names{"auto"};
    for (const auto type : types) names.push_back(kernels::name_of(type));
    const std::string name = parse_choice(value, names);
    field(o).reset();
    for (const auto type : types)
      if (kernels::name_of(type) == name) field(o) = type;
  };
  spec.get = [field](const options& o) {
    return std::vector<std::string>{field(o) ? std::string{kernels::name_of(*field(o))} : "auto"};
  };
  return spec;
}

option_spec quantize_group(commands who) {
  option_spec spec =
      begin({"engine", "quantize_group", "N", "weights to a scale: 16, 32, 64, 128, row or auto",
             "auto: 128 for int8, 32 for int4, row for fp8"},
            shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    const auto name = parse_choice(value, {"auto", "row", "16", "32", "64", "128"});
    o.engine.quantize_group = name == "auto" ? -1 : name == "row" ? 0 : std::stoi(name);
  };
  spec.get = [](const options& o) {
    const auto group = o.engine.quantize_group;
    return std::vector<std::string>{group < 0 ? "auto" : group == 0 ? "row" : std::to_string(group)};
  };
  return spec;
}

option_spec replicas(commands who) {
  option_spec spec = begin({"engine", "replicas", "N",
                            "pipelines of the same model that the ranks form, each for requests of its own; "
                            "auto: as many as are expected to answer most"},
                           shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    o.engine.replicas = value == "auto" ? 0 : static_cast<std::int32_t>(parse_integer(value, 1, 65536));
  };
  spec.get = [](const options& o) {
    return std::vector<std::string>{o.engine.replicas == 0 ? "auto" : std::to_string(o.engine.replicas)};
  };
  return spec;
}

option_spec policy_name(commands who) {
  option_spec spec = begin(
      {"scheduler", "policy", "NAME",
       "who runs next: auto (fcfs for batch, else sj-mlfq), fcfs, sj-mlfq, hrrn, srpt (knows max_tokens)"},
      shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) { o.scheduler.policy = parse_policy(value, true); };
  spec.get = [](const options& o) { return std::vector<std::string>{o.scheduler.policy}; };
  return spec;
}

}  // namespace

std::vector<option_spec> engine_rows() {
  using kernels::dtype;
  const std::vector<dtype> floats{dtype::f32, dtype::bf16, dtype::f16};
  const std::vector<dtype> kv_types{dtype::f32, dtype::bf16, dtype::f16, dtype::i8};
  const commands runs{command::console, command::batch, command::bench, command::bench_serve};
  const commands planned{command::console, command::batch, command::bench, command::bench_serve,
                         command::simulate};
  const commands formed{command::console, command::batch, command::bench, command::bench_serve,
                        command::plan};
  const commands batched{command::console,     command::batch,    command::bench,
                         command::bench_serve, command::simulate, command::plan};
  std::vector<option_spec> rows;
  rows.push_back(choice(
      {"engine", "device", "KIND", "what a rank computes on: auto (a GPU if it sees one), cpu or gpu"}, runs,
      {"auto", "cpu", "gpu"}, [](auto& o) -> auto& { return o.engine.device; }));
  rows.push_back(choice(
      {"engine", "link", "KIND", "between the GPUs of a pipeline: auto (NCCL) or host (through MPI)"}, runs,
      {"auto", "host"}, [](auto& o) -> auto& { return o.engine.link; }));
  rows.push_back(element_type(
      {"engine", "dtype", "TYPE", "of the weights: auto, f32, bf16 or f16", "auto: as stored"}, formed,
      floats, [](auto& o) -> auto& { return o.engine.dtype; }));
  rows.push_back(choice(
      {"engine", "quantize", "TYPE", "round weights while loading: none, int8, int4 or fp8 (Hopper GPUs)"},
      formed, {"none", "int8", "int4", "fp8"}, [](auto& o) -> auto& { return o.engine.quantize; }));
  rows.push_back(quantize_group(formed));
  rows.push_back(text(
      {"engine", "pack_cache", "DIR",
       "folder, of the node or shared, that keeps packed weights for the next start", "none"},
      {command::console, command::batch, command::bench, command::bench_serve},
      [](auto& o) -> auto& { return o.engine.pack_cache; }));
  rows.push_back(integer(
      {"engine", "threads", "N", "OpenMP threads of a rank",
       "0: the granted cores, shared among the ranks of a host"},
      {command::console, command::batch, command::bench, command::bench_serve, command::plan,
       command::compress},
      0, 4096, [](auto& o) -> auto& { return o.engine.threads; }));
  rows.push_back(replicas(runs));
  rows.push_back(choice(
      {"engine", "speeds", "HOW",
       "of the ranks, that layers are divided by: measure, cached (measured once a machine), equal, or auto: "
       "cached "
       "for models from 1 GB on, else equal"},
      runs, {"auto", "measure", "cached", "equal"}, [](auto& o) -> auto& { return o.engine.speeds; }));
  rows.push_back(text(
      {"engine", "speeds_dir", "DIR", "where measured speeds are kept", "the user's cache folder"}, runs,
      [](auto& o) -> auto& { return o.engine.speeds_dir; }));
  rows.push_back(integer(
      {"engine", "max_context", "TOKENS", "longest prompt and answer together",
       "0: the model's own limit; of simulate 8192"},
      planned, 0, max_int32, [](auto& o) -> auto& { return o.engine.max_context; }));
  commands stored = formed;
  stored.push_back(command::compress);
  rows.push_back(element_type(
      {"kv_cache", "kv_dtype", "TYPE", "of keys and values: auto, f32, bf16, f16 or int8",
       "auto: as --dtype; of what compress judges f32"},
      stored, kv_types, [](auto& o) -> auto& { return o.kv_cache.kv_dtype; }));
  rows.push_back(integer(
      {"kv_cache", "kv_tokens", "N", "tokens that the cache holds, over all sequences",
       "0: what full batches need, eight times that where requests take turns (sj-mlfq, srpt), and no more "
       "than fits in free memory"},
      planned, 0, max_tokens_anywhere, [](auto& o) -> auto& { return o.kv_cache.kv_tokens; }));
  rows.push_back(bytes(
      {"kv_cache", "swap_space", "SIZE",
       "of each rank's memory for the KV of preempted requests, such as 8GiB"},
      runs, [](auto& o) -> auto& { return o.kv_cache.swap_space; }));
  rows.push_back(text(
      {"kv_cache", "swap_dir", "DIR", "node-local folder for more of it; the file is gone with the job",
       "none"},
      runs, [](auto& o) -> auto& { return o.kv_cache.swap_dir; }));
  rows.push_back(bytes(
      {"kv_cache", "swap_disk", "SIZE", "of each rank in that folder"}, runs,
      [](auto& o) -> auto& { return o.kv_cache.swap_disk; }));
  rows.push_back(integer(
      {"scheduler", "max_batch", "N", "most sequences in a micro-batch"}, batched, 1, 65536,
      [](auto& o) -> auto& { return o.scheduler.max_batch; }));
  rows.push_back(integer(
      {"scheduler", "token_budget", "N",
       "most tokens in a micro-batch; longer prompts are prefilled in chunks"},
      batched, 1, 1 << 20, [](auto& o) -> auto& { return o.scheduler.token_budget; }));
  rows.push_back(policy_name(planned));
  rows.push_back(integer(
      {"scheduler", "starvation_ms", "MS", "sj-mlfq: a request that waits this long goes first"}, planned, 1,
      86'400'000, [](auto& o) -> auto& { return o.scheduler.starvation_ms; }));
  rows.push_back(flag(
      {"scheduler", "prefix_caching", "", "keep the KV of prompts for those that begin alike"}, planned,
      [](auto& o) -> auto& { return o.scheduler.prefix_caching; }));
  return rows;
}

}  // namespace fastserve::launch
