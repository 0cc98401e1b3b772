#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/workload.hpp"

namespace fastserve::launch {

/// How one request was served. Times run from its arrival.
struct served_request {
  std::int32_t prompt_tokens = 0;
  std::int32_t output_tokens = 0;  ///< at least one
  double ttft_ms = 0;
  double latency_ms = 0;  ///< until the last token

  /// Time per output token after the first: (latency - ttft) / (tokens - 1); 0 for a single token.
  double tpot_ms() const;
  double normalized_ms() const { return latency_ms / output_tokens; }
};

/// Bounds a request must keep to count as good. Unset = any.
struct service_goal {
  std::optional<double> ttft_ms, tpot_ms, e2el_ms;
  bool met_by(const served_request& r) const;
  bool any() const { return ttft_ms || tpot_ms || e2el_ms; }
};

/// "ttft:500 tpot:50" (also with commas), milliseconds. Throws std::invalid_argument.
service_goal parse_goal(std::string_view text);

/// A distribution in five numbers; percentiles interpolate between neighbours as numpy does.
struct spread {
  double mean = 0, median = 0, p90 = 0, p99 = 0, deviation = 0;
};
spread spread_of(std::vector<double> values);

/// Many values in little memory: the mean is exact, percentiles to one part in a thousand.
class value_histogram {
 public:
  void add(double value);
  spread summary() const;

 private:
  std::vector<std::uint64_t> buckets_;  // by logarithm
  std::uint64_t count_ = 0;
  double sum_ = 0, squares_ = 0;
  double last_value_ = 0;
  std::size_t last_bucket_ = 0;  // where it is
};

/// The figures of one run, by the names that `vllm bench serve` uses.
struct serve_report {
  std::size_t completed = 0, failed = 0;
  double duration_s = 0;
  std::uint64_t input_tokens = 0, output_tokens = 0;
  double request_throughput = 0, output_throughput = 0, total_token_throughput = 0;
  std::optional<double> request_goodput;
  spread ttft_ms, tpot_ms, itl_ms, e2el_ms, normalized_ms;
  std::uint64_t preemptions = 0, prefix_hit_tokens = 0;
  std::uint64_t blocks_out = 0, blocks_in = 0;  ///< KV blocks swapped
  load_cut cut;                                 ///< what of the load was shortened
  std::shared_ptr<const serve_report>
      simulated;  ///< the same arrivals in the simulation; null: not asked for

  nlohmann::ordered_json json() const;
  std::string text() const;
};

/// How far the simulation is from what was measured, as a part of that; above zero: it was slower.
double difference(double measured, double simulated);

/// Collects a run.
class serve_meter {
 public:
  void token_gap(double ms) { gaps_.add(ms); }
  void done(const served_request& r) { served_.push_back(r); }
  void failed() { ++failed_; }
  serve_report report(double duration_s, const service_goal& goal) const;

 private:
  std::vector<served_request> served_;
  value_histogram gaps_;
  std::size_t failed_ = 0;
};

}  // namespace fastserve::launch
