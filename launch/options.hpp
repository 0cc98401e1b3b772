#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/dtype.hpp"
#include "model/sampling.hpp"

namespace fastserve::launch {

/// What the program is asked to do.
enum class command : std::uint8_t {
  console,
  batch,
  bench,
  bench_serve,
  simulate,
  plan,
  compress,
  inspect,
  version
};

std::string_view name_of(command which) noexcept;
std::optional<command> command_named(std::string_view name) noexcept;

/// Arithmetic and memory of every rank.
struct engine_options {
  std::string device = "auto";          ///< auto, cpu or gpu, see choose_devices
  std::string link = "auto";            ///< between GPUs: auto (NCCL) or host (MPI and host memory)
  std::optional<kernels::dtype> dtype;  ///< weights and products; unset = as stored in the model
  std::string quantize = "none";        ///< what weights are rounded to while loading: none, int8, int4, fp8
  std::int32_t quantize_group = -1;     ///< input features to a scale; 0 = the whole row, -1 = by the type
  std::string pack_cache;               ///< folder that keeps packed weights for the next start; empty = none
  std::int32_t threads = 0;             ///< of each rank; 0 = the granted cores, shared among the local ranks
  std::string speeds = "auto";          ///< speeds that layers are divided by: measure, cached, equal, auto
  std::string speeds_dir;               ///< where they are kept; empty = the user's cache folder
  std::int32_t replicas = 1;            ///< pipelines of the same model that the ranks form; 0 = chosen
  std::int32_t max_context = 0;         ///< tokens of prompt and answer together; 0 = the model's own limit
};

struct kv_cache_options {
  std::optional<kernels::dtype> kv_dtype;  ///< unset = the type of the arithmetic
  std::int64_t kv_tokens = 0;              ///< over all sequences; 0 = from free memory
  std::uint64_t swap_space = 0;            ///< bytes of each rank's memory for the KV of preempted requests
  std::uint64_t swap_disk = 0;             ///< the same in a file in swap_dir
  std::string swap_dir;                    ///< folder of each node
};

struct scheduler_options {
  std::int32_t max_batch = 64;       ///< sequences in a micro-batch
  std::int32_t token_budget = 256;   ///< tokens in a micro-batch; a longer prompt is prefilled in chunks
  std::string policy = "auto";       ///< who runs next, see chosen_policy
  std::int32_t starvation_ms = 300;  ///< sj-mlfq: who waits this long is promoted
  bool prefix_caching = true;
};

/// What happens when a rank dies, see docs/reliability.md.
struct failover_options {
  std::int32_t heartbeat_ms = 100;  ///< between two signs of life of a rank
  std::int32_t deadline_ms = 1000;  ///< a rank that is silent for this long is dead
  std::int32_t fence_ms = 5000;     ///< a rank that hears no leader for this long ends itself
  std::int32_t stall_ms = 30000;    ///< silence over MPI of a rank whose datagrams arrive; 0: none are sent
  std::int32_t start_timeout_s = 300;  ///< all ranks must have started in this time; 0: for ever
  std::int32_t spare_ranks = 0;        ///< kept without layers, to take over those of a dead rank
  std::string standby = "on";          ///< of the leader of a batch: on or off
  std::string spares = "hot";          ///< hot: they hold weights ready; cold: they load when needed
};

/// A prompt as text, or as token ids that are used as they are.
using prompt = std::variant<std::string, std::vector<std::int32_t>>;

struct console_options {
  std::vector<prompt> prompts;  ///< in the order given; none = read them from stdin
  bool json = false;            ///< a line of JSON for each finished answer instead of its text
  bool history = true;          ///< keep typed prompts in the user's history file
};

struct batch_options {
  std::string input;          ///< file of requests, one a line
  std::string output;         ///< file of answers; its journal is beside it
  std::int32_t grace_s = 30;  ///< seconds that open requests get after a signal
  bool overwrite = false;     ///< drop an earlier output and journal
};

struct bench_options {
  std::string random_weights;  ///< config.json of a model to make up in memory, instead of a folder
  std::vector<std::int32_t> prompt_tokens{512};  ///< each is measured with each batch
  std::int32_t decode_tokens = 128;
  bool prompts_given = false;          ///< else prompt_tokens shrink to what the context holds
  bool decode_given = false;           ///< the same of decode_tokens
  std::vector<std::int32_t> batch{1};  ///< sequences at once
  std::int32_t repeat = 3;             ///< measurements of each; the median is printed
  bool json = false;
  bool profile = false;  ///< tell where the time of steps goes, too
};

/// Requests to serve, and what to tell of it; of bench serve and simulate.
struct load_options {
  std::string trace;                 ///< file of lengths; empty = prompt_tokens and decode_tokens
  std::string arrivals = "poisson";  ///< poisson, gamma or trace
  std::vector<float> rates{1.0F};    ///< requests a second; one run for each
  float cv = 1;                      ///< of gamma gaps: standard deviation over mean
  std::int32_t requests = 100;       ///< in each run
  std::int32_t prompt_tokens = 512;
  std::int32_t decode_tokens = 128;
  bool prompts_given = false;       ///< as in bench_options
  bool decode_given = false;        ///< as in bench_options
  std::int32_t longest_prompt = 0;  ///< of the trace; requests with longer ones are left out. 0 = any
  float scale = 1;                  ///< of all lengths
  float prompt_scale = 1;           ///< of prompts, on top of it
  std::uint64_t seed = 1;
  std::int32_t seeds = 1;            ///< each run is made with so many seeds, from `seed` on
  std::vector<std::string> compare;  ///< policies; empty = scheduler.policy alone
  float slo_ms = 0;                  ///< bound of the mean normalized latency; 0 = none
  std::string goodput;               ///< bounds of a good request, as parse_goal reads them
  std::string save;                  ///< SAVE.json and SAVE.svg are written
  bool simulate = false;             ///< the same arrivals in the simulation, beside what was measured
  bool json = false;
};

/// The cluster that simulate makes up.
struct simulate_options {
  std::int32_t replicas = 0;  ///< 0 = one, or those of the calibration
  std::int32_t stages = 1;
  float fixed_us = 20000;             ///< of a step, on each stage
  float row_us = 100;                 ///< of a token computed
  float draw_us = 0;                  ///< of a token drawn
  float context_us = 0;               ///< of a position attended to
  float link_us = 0;                  ///< of each hop
  float front_us = 0;                 ///< of a request's way to the scheduler and a token's way back
  std::int64_t swap_tokens = 0;       ///< room for the KV of preempted requests
  std::int64_t swap_disk_tokens = 0;  ///< and behind it
  float swap_us = 0;                  ///< a KV block one way
  float swap_disk_us = 0;
  std::string calibrate;  ///< JSON of bench serve: its costs and limits instead
};

/// What `fastserve plan` plans for.
struct plan_options {
  std::string cluster;   ///< file that describes the ranks, see cluster_file.hpp
  bool measure = false;  ///< measure the ranks of this job and print such a file instead
  std::string goal = "throughput";
  std::int32_t batch = 0;  ///< sequences at once, over all pipelines; 0 = full micro-batches
  std::int32_t prompt_tokens = 512;
  std::int32_t decode_tokens = 128;
  std::int32_t context = 0;  ///< tokens that there must be KV for; 0 = prompt and answer
  std::int32_t spares = 0;
  std::int32_t replicas = 0;  ///< pipelines; 0 = chosen
  std::string svg;            ///< file for the picture
  bool json = false;
};

/// How a model is made smaller.
struct compress_wishes {
  std::string output;       ///< folder to write
  std::string format;       ///< int8, int4 or none
  std::int32_t group = -1;  ///< input features that share a scale; 0 = the row; -1 = 128 or 32 by format
  bool symmetric = false;   ///< no zero points
  std::string calibrate;    ///< text; empty = round to nearest
  std::string evaluate;     ///< text; empty = the last tenth of the calibration text
  std::string prune;        ///< "0.5", "2:4"
};

/// Everything that the command line and the YAML file can say, with its default.
/// Each field is described once, in option_rows_*.cpp; both readers work from that description.
struct options {
  command what = command::console;
  std::string model;   ///< folder
  std::string config;  ///< YAML file that was read, empty = none
  std::string log_level = "info";
  bool print_config = false;  ///< print the effective configuration as YAML and stop

  engine_options engine;
  kv_cache_options kv_cache;
  scheduler_options scheduler;
  failover_options failover;
  model::sampling_params sampling;  ///< seed 0 unless given: the same prompt gives the same answer
  model::stop_params stopping;
  console_options console;
  batch_options batch;
  bench_options bench;
  load_options load;
  simulate_options simulate;
  plan_options plan;
  compress_wishes compress;

  /// Empty when usable, else one line that says what is wrong and what to do.
  std::string validate() const;
};

/// The scheduling policy by its name in scheduler/policy.hpp: that of the options, and for "auto" sj-mlfq
/// where someone waits for answers, fcfs for a batch, where only the end counts and preemption is work for
/// nothing.
std::string chosen_policy(const options& settings);

}  // namespace fastserve::launch
