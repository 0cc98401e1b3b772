#include "launch/serve_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "launch/formatted.hpp"
#include "launch/parse_value.hpp"

namespace fastserve::launch {

namespace {

constexpr double bucket_step = 1e-3;  // of the natural logarithm
constexpr double least_value = 1e-6;  // below it, a value is zero
constexpr std::size_t most_buckets = 50'000;

double percentile(const std::vector<double>& sorted, double p) {
  const double at = p * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const auto high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

}  // namespace

double difference(double measured, double simulated) {
  return measured > 0 ? (simulated - measured) / measured : 0;
}

double served_request::tpot_ms() const {
  return output_tokens > 1 ? (latency_ms - ttft_ms) / (output_tokens - 1) : 0;
}

bool service_goal::met_by(const served_request& r) const {
  return (!ttft_ms || r.ttft_ms <= *ttft_ms) && (!tpot_ms || r.tpot_ms() <= *tpot_ms) &&
         (!e2el_ms || r.latency_ms <= *e2el_ms);
}

service_goal parse_goal(std::string_view text) {
  service_goal out;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find_first_of(" ,", at), text.size());
    const auto part = text.substr(at, end - at);
    at = end + 1;
    if (part.empty()) continue;
    const auto colon = part.find(':');
    const auto name = part.substr(0, colon);
    auto* bound = name == "ttft"   ? &out.ttft_ms
                  : name == "tpot" ? &out.tpot_ms
                  : name == "e2el" ? &out.e2el_ms
                                   : nullptr;
    if (bound == nullptr || colon == std::string_view::npos)
      throw std::invalid_argument{
          "expected bounds in milliseconds such as ttft:500,tpot:50,e2el:9000, found " + in_quotes(part)};
    *bound = parse_real(part.substr(colon + 1), 0.0F, 1e12F, true);
  }
  return out;
}

spread spread_of(std::vector<double> values) {
  spread out;
  if (values.empty()) return out;
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  for (const double v : values) out.deviation += (v - out.mean) * (v - out.mean);
  out.deviation = std::sqrt(out.deviation / n);
  out.median = percentile(values, 0.5);
  out.p90 = percentile(values, 0.9);
  out.p99 = percentile(values, 0.99);
  return out;
}

void value_histogram::add(double value) {
  // A batch's tokens come with one gap between them: one logarithm for all.
  if (count_ == 0 || value != last_value_) {
    last_value_ = value;
    last_bucket_ = value > least_value
                       ? std::min(1 + static_cast<std::size_t>(std::log(value / least_value) / bucket_step),
                                  most_buckets - 1)
                       : 0;
    if (last_bucket_ >= buckets_.size()) buckets_.resize(last_bucket_ + 1);
  }
  ++buckets_[last_bucket_];
  ++count_;
  sum_ += value;
  squares_ += value * value;
}

spread value_histogram::summary() const {
  spread out;
  if (count_ == 0) return out;
  const auto n = static_cast<double>(count_);
  out.mean = sum_ / n;
  out.deviation = std::sqrt(std::max(squares_ / n - out.mean * out.mean, 0.0));
  const auto at = [&](double p) {
    const double rank = p * (n - 1);
    double seen = 0;
    for (std::size_t b = 0; b < buckets_.size(); ++b) {
      seen += static_cast<double>(buckets_[b]);
      if (seen > rank)
        return b == 0 ? 0.0 : least_value * std::exp((static_cast<double>(b) - 0.5) * bucket_step);
    }
    return 0.0;
  };
  out.median = at(0.5);
  out.p90 = at(0.9);
  out.p99 = at(0.99);
  return out;
}

serve_report serve_meter::report(double duration_s, const service_goal& goal) const {
  serve_report out;
  out.completed = served_.size();
  out.failed = failed_;
  out.duration_s = duration_s;
  std::vector<double> ttft, tpot, e2el, normalized;
  std::size_t good = 0;
  for (const auto& r : served_) {
    out.input_tokens += static_cast<std::uint64_t>(r.prompt_tokens);
    out.output_tokens += static_cast<std::uint64_t>(r.output_tokens);
    ttft.push_back(r.ttft_ms);
    if (r.output_tokens > 1) tpot.push_back(r.tpot_ms());
    e2el.push_back(r.latency_ms);
    normalized.push_back(r.normalized_ms());
    good += goal.met_by(r) ? 1 : 0;
  }
  out.ttft_ms = spread_of(std::move(ttft));
  out.tpot_ms = spread_of(std::move(tpot));
  out.e2el_ms = spread_of(std::move(e2el));
  out.normalized_ms = spread_of(std::move(normalized));
  out.itl_ms = gaps_.summary();
  if (duration_s > 0) {
    out.request_throughput = static_cast<double>(out.completed) / duration_s;
    out.output_throughput = static_cast<double>(out.output_tokens) / duration_s;
    out.total_token_throughput = static_cast<double>(out.input_tokens + out.output_tokens) / duration_s;
    if (goal.any()) out.request_goodput = static_cast<double>(good) / duration_s;
  }
  return out;
}

nlohmann::ordered_json serve_report::json() const {
  nlohmann::ordered_json out{{"duration", duration_s},
                             {"completed", completed},
                             {"failed", failed},
                             {"total_input_tokens", input_tokens},
                             {"total_output_tokens", output_tokens},
                             {"request_throughput", request_throughput}};
  if (request_goodput) out["request_goodput"] = *request_goodput;
  out["output_throughput"] = output_throughput;
  out["total_token_throughput"] = total_token_throughput;
  const auto add = [&](const std::string& name, const spread& s) {
    out["mean_" + name + "_ms"] = s.mean;
    out["median_" + name + "_ms"] = s.median;
    out["std_" + name + "_ms"] = s.deviation;
    out["p90_" + name + "_ms"] = s.p90;
    out["p99_" + name + "_ms"] = s.p99;
  };
  add("ttft", ttft_ms);
  add("tpot", tpot_ms);
  add("itl", itl_ms);
  add("e2el", e2el_ms);
  add("normalized_latency", normalized_ms);
  out["preemptions"] = preemptions;
  out["prefix_hit_tokens"] = prefix_hit_tokens;
  out["kv_blocks_out"] = blocks_out;
  out["kv_blocks_in"] = blocks_in;
  out["shortened_requests"] = cut.requests;
  if (cut.requests > 0)
    out["shortened"] = {{"context", cut.context},
                        {"mean_prompt_tokens_before", cut.prompt_before},
                        {"mean_prompt_tokens", cut.prompt_after},
                        {"mean_output_tokens_before", cut.output_before},
                        {"mean_output_tokens", cut.output_after}};
  if (simulated) out["simulated"] = simulated->json();
  return out;
}

std::string serve_report::text() const {
  std::string out;
  const auto line = [&](const char* what, double value, int decimals) {
    out += formatted("%-34s %14.*f\n", what, decimals, value);
  };
  line("Completed requests", static_cast<double>(completed), 0);
  if (failed > 0) line("Failed requests", static_cast<double>(failed), 0);
  if (cut.requests > 0)
    line(formatted("Shortened to context of %d", cut.context).c_str(), static_cast<double>(cut.requests), 0);
  line("Duration (s)", duration_s, 2);
  line("Input tokens", static_cast<double>(input_tokens), 0);
  line("Output tokens", static_cast<double>(output_tokens), 0);
  line("Request throughput (req/s)", request_throughput, 3);
  if (request_goodput) line("Request goodput (req/s)", *request_goodput, 3);
  line("Output token throughput (tok/s)", output_throughput, 1);
  line("Total token throughput (tok/s)", total_token_throughput, 1);
  line("Preemptions", static_cast<double>(preemptions), 0);
  line("Prompt tokens found in the cache", static_cast<double>(prefix_hit_tokens), 0);
  if (blocks_out > 0) {
    line("KV blocks swapped out", static_cast<double>(blocks_out), 0);
    line("KV blocks swapped in", static_cast<double>(blocks_in), 0);
  }
  out += formatted("%-26s %10s %10s %10s %10s\n", "milliseconds", "mean", "median", "P90", "P99");
  for (const auto& [name, s] : {std::pair{"Time to first token", &ttft_ms},
                                {"Time per output token", &tpot_ms},
                                {"Between tokens", &itl_ms},
                                {"End to end", &e2el_ms},
                                {"End to end / output token", &normalized_ms}}) {
    out += formatted("%-26s %10.2f %10.2f %10.2f %10.2f\n", name, s->mean, s->median, s->p90, s->p99);
  }
  if (!simulated) return out;
  out += formatted("%-26s %10s %10s %10s\n", "means, against simulation", "measured", "simulated", "off by");
  for (const auto& [name, s, other] :
       {std::tuple{"Time to first token", &ttft_ms, &simulated->ttft_ms},
        {"Time per output token", &tpot_ms, &simulated->tpot_ms},
        {"End to end", &e2el_ms, &simulated->e2el_ms},
        {"End to end / output token", &normalized_ms, &simulated->normalized_ms}}) {
    out += formatted("%-26s %10.2f %10.2f %+9.1f%%\n", name, s->mean, other->mean,
                     100 * difference(s->mean, other->mean));
  }
  return out;
}

}  // namespace fastserve::launch
