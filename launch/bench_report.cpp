#include "launch/bench_report.hpp"

#include <algorithm>

#include "launch/formatted.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

std::string beside(double measured, double expected) {
  return formatted("expected %.1f (measured is %+.0f %%)", expected, 100 * (measured / expected - 1));
}

}  // namespace

double bench_figures::weight_bytes_of_token(const bench_subject& of) const {
  const double busy = std::min<double>(batch, of.pipelines) / of.pipelines;
  return static_cast<double>(of.step_bytes) * busy / batch;
}

std::string bench_heading(const bench_subject& of) {
  return formatted("model            %s, %s, %s in %s of %s, %s each\n", of.model.c_str(), of.weights.c_str(),
                   counted(of.ranks, "rank").c_str(), counted(of.pipelines, "pipeline").c_str(),
                   counted(of.stages, "stage").c_str(), counted(of.threads, "thread").c_str());
}

std::string bench_text(const bench_subject& of, const bench_figures& f) {
  auto out = formatted("workload         %s, %s, %s; median of %d\n", counted(f.batch, "sequence").c_str(),
                       counted(f.prompt_tokens, "prompt token").c_str(),
                       counted(of.decode_tokens, "answer token").c_str(), of.repeat);
  if (f.ops_per_s > 0)
    out +=
        formatted("prefill          %10.1f tokens/s   %5.1f%% of the peak multiply-add rate (%.0f Gop/s)\n",
                  f.prefill_tokens_per_s, 100 * f.prefill_share, f.ops_per_s / 1e9);
  else
    out += formatted("prefill          %10.1f tokens/s   %.0f Gop/s\n", f.prefill_tokens_per_s,
                     f.prefill_tokens_per_s * of.token_ops / 1e9);
  const bool decodes = f.decode_tokens_per_s > 0;
  if (decodes)
    out += formatted(
        "decode           %10.1f tokens/s   %5.1f%% of the read bandwidth (%.1f GB/s), weights alone\n",
        f.decode_tokens_per_s, 100 * f.decode_share, f.read_bytes_per_s / 1e9);
  out += formatted("weights          %10.1f MB\n", static_cast<double>(of.weight_bytes) / 1e6);
  if (f.turnaround_us > 0)
    out += formatted(
        "actor overhead   %10.1f us         from the last stage's token to the first stage's next start\n",
        f.turnaround_us);
  // What a pipeline of several stages hides, a single one does not.
  const double step_us = 1e6 * f.batch / std::max(f.decode_tokens_per_s, 1e-9);
  if (of.stages == 1 && decodes)
    out += formatted(
        "outside kernels  %10.2f %%          of a decode step of %.1f ms: actors, and %.0f us of drawing\n",
        100 * (f.turnaround_us + f.draw_us) / step_us, step_us / 1e3, f.draw_us);
  if (f.hit_first_token_us > 0)
    out += formatted(
        "prefix hit       %10.2f ms         to the first token of a cached prompt: %.2f of a decode step\n",
        f.hit_first_token_us / 1e3, f.hit_first_token_us / f.hit_step_us);
  if (!f.expected) return out;
  std::string cut;
  for (const auto n : of.stage_layers) cut += (cut.empty() ? "" : " + ") + std::to_string(n);
  out += "by measured speeds, " + cut + " layers:\n";
  out += "  prefill        " + beside(f.prefill_tokens_per_s, f.expected->prefill_tokens_per_s) + "\n";
  if (decodes)
    out += "  decode         " + beside(f.decode_tokens_per_s, f.expected->decode_tokens_per_s) + "\n";
  return out;
}

std::string bench_table_head(const bench_subject& of) {
  return formatted("workload         %s; medians of %d\n", counted(of.decode_tokens, "answer token").c_str(),
                   of.repeat) +
         formatted("weights          %.1f MB\n", static_cast<double>(of.weight_bytes) / 1e6) +
         "limits           measured around each round: peak multiply-add rate, read bandwidth (weights "
         "alone)\n" +
         formatted("%9s %8s %18s %9s %18s %9s\n", "sequences", "prompt", "prefill tokens/s", "of peak",
                   "decode tokens/s", "of reads");
}

std::string bench_table_row(const bench_figures& f) {
  const auto share = [](bool known, double part) { return known ? formatted("%.1f%%", 100 * part) : "-"; };
  const bool decodes = f.decode_tokens_per_s > 0;
  return formatted("%9d %8d %18.1f %9s %18s %9s\n", f.batch, f.prompt_tokens, f.prefill_tokens_per_s,
                   share(f.ops_per_s > 0, f.prefill_share).c_str(),
                   decodes ? formatted("%.1f", f.decode_tokens_per_s).c_str() : "-",
                   share(decodes, f.decode_share).c_str());
}

nlohmann::ordered_json bench_json(const bench_subject& of, const bench_figures& f) {
  nlohmann::ordered_json line{
      {"model", of.model},
      {"dtype", of.weights},
      {"ranks", of.ranks},
      {"replicas", of.pipelines},
      {"stages", of.stages},
      {"threads", of.threads},
      {"prompt_tokens", f.prompt_tokens},
      {"decode_tokens", of.decode_tokens},
      {"batch", f.batch},
      {"repeat", of.repeat},
      {"prefill_tokens_per_s", f.prefill_tokens_per_s},
      {"decode_tokens_per_s", f.decode_tokens_per_s},
      {"weight_bytes", of.weight_bytes},
      {"weight_bytes_read_per_s", f.decode_tokens_per_s * f.weight_bytes_of_token(of)},
      {"read_bandwidth_bytes_per_s", f.read_bytes_per_s},
      {"peak_ops_per_s", f.ops_per_s},
      {"prefill_share", f.prefill_share},
      {"decode_share", f.decode_share},
      {"turnaround_us", f.turnaround_us},
      {"draw_us", f.draw_us},
      {"stage_ranks", of.stage_ranks},
      {"stage_layers", of.stage_layers}};
  if (f.expected) {
    line["expected_prefill_tokens_per_s"] = f.expected->prefill_tokens_per_s;
    line["expected_decode_tokens_per_s"] = f.expected->decode_tokens_per_s;
  }
  if (f.hit_first_token_us > 0) {
    line["prefix_hit_ttft_us"] = f.hit_first_token_us;
    line["prefix_hit_step_us"] = f.hit_step_us;
  }
  return line;
}

}  // namespace fastserve::launch
