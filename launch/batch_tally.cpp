#include "launch/batch_tally.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "launch/batch_progress.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

constexpr double shortest_seconds = 1e-6;
constexpr double step = 1.02;

std::string milliseconds(double seconds) { return format_measure(seconds * 1e3) + " ms"; }

std::string count_of(std::uint64_t n) { return format_count(static_cast<std::int64_t>(n)); }

std::string times(const char* name, const time_histogram& h) {
  return std::string{name} + " mean " + milliseconds(h.mean_seconds()) + ", P99 " +
         milliseconds(h.quantile_seconds(0.99));
}

}  // namespace

void time_histogram::add(double seconds) {
  if (!(seconds >= 0)) return;
  const double steps =
      std::ceil(std::log(std::max(seconds, shortest_seconds) / shortest_seconds) / std::log(step));
  const auto bucket = std::min(static_cast<std::size_t>(std::max(steps, 0.0)), buckets_.size() - 1);
  ++buckets_[bucket];
  ++count_;
  sum_seconds_ += seconds;
  largest_seconds_ = std::max(largest_seconds_, seconds);
}

double time_histogram::mean_seconds() const {
  return count_ == 0 ? 0 : sum_seconds_ / static_cast<double>(count_);
}

double time_histogram::quantile_seconds(double share) const {
  const auto wanted =
      static_cast<std::uint64_t>(std::ceil(std::clamp(share, 0.0, 1.0) * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (buckets_[i] > 0 && seen >= wanted)
      return std::min(largest_seconds_, shortest_seconds * std::pow(step, static_cast<double>(i)));
  }
  return largest_seconds_;
}

void batch_tally::add_answer(std::int32_t prompt_tokens, std::int32_t completion_tokens, std::int32_t longest,
                             std::int64_t first_token_ns, std::int64_t total_ns) {
  ++answered;
  tokens_in += static_cast<std::uint64_t>(std::max(prompt_tokens, 0));
  tokens_out += static_cast<std::uint64_t>(std::max(completion_tokens, 0));
  first_token.add(static_cast<double>(first_token_ns) / 1e9);
  if (longest > 1) each_token.add(static_cast<double>(total_ns - first_token_ns) / 1e9 / (longest - 1));
}

std::string batch_tally::summary(double seconds) const {
  std::string out = "batch: " + count_of(answered) + " answered, " + count_of(failed) + " failed in " +
                    format_duration(seconds) + "; " + count_of(tokens_in) + " tokens in, " +
                    count_of(tokens_out) + " out";
  if (seconds > 0)
    out += ", " + format_measure(static_cast<double>(tokens_out) / seconds) + " tokens/s, " +
           format_measure(static_cast<double>(answered) / seconds) + " requests/s";
  out += "\n";
  if (first_token.count() > 0) out += "batch: " + times("TTFT", first_token);
  if (each_token.count() > 0) out += "; " + times("TPOT", each_token);
  if (first_token.count() == 0) return out;
  const auto counted_or_no = [](std::uint64_t n, std::string_view what) {
    return n == 0 ? "no " + std::string{what} + "s" : counted(static_cast<std::int64_t>(n), what);
  };
  out += "\nbatch: " + counted_or_no(prefix_hit_tokens, "prompt token") + " from the prefix cache";
  if (prefix_hit_tokens > 0 && tokens_in > 0)
    out += " (" +
           format_measure(100.0 * static_cast<double>(prefix_hit_tokens) / static_cast<double>(tokens_in)) +
           "%)";
  out += ", " + counted_or_no(preemptions, "preemption") + "\n";
  return out;
}

}  // namespace fastserve::launch
