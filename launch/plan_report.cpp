#include "launch/plan_report.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "launch/units.hpp"
#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

constexpr std::size_t most_rows = 64;
constexpr std::size_t columns = 10;
using cells = std::array<std::string, columns>;
constexpr std::array<bool, columns> right_aligned{true, true, false, false, true,
                                                  true, true, true,  true,  true};

std::string layers_text(const planner::planned_stage& s, bool first, bool last) {
  std::string out = first ? "embed, " : "";
  out += std::to_string(s.first_layer);
  if (s.last_layer - s.first_layer > 1) out += '-' + std::to_string(s.last_layer - 1);
  return last ? out + ", head" : out;
}

std::string ms(double seconds) { return format_measure(1e3 * seconds) + " ms"; }

std::string aligned(const std::vector<cells>& table) {
  std::array<std::size_t, columns> widths{};
  for (const auto& line : table)
    for (std::size_t i = 0; i < columns; ++i)
      widths[i] = std::max(widths[i], static_cast<std::size_t>(text_columns(line[i])));
  std::string out;
  for (const auto& line : table) {
    std::string text;
    for (std::size_t i = 0; i < columns; ++i) {
      const std::string padding(widths[i] - static_cast<std::size_t>(text_columns(line[i])), ' ');
      if (i > 0) text += "  ";
      text += right_aligned[i] ? padding + line[i] : line[i] + padding;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + '\n';
  }
  return out;
}

}  // namespace

std::string format_plan(const planner::cluster_plan& plan, const planner::cluster& on,
                        const planner::plan_wishes& w) {
  std::vector<cells> table{{"pipeline", "rank", "group", "layers", "weights", "KV room", "KV tokens",
                            "decode step", "prompt", "to next"}};
  std::size_t hidden = 0;
  for (std::size_t p = 0; p < plan.pipelines.size(); ++p) {
    const auto& line = plan.pipelines[p];
    for (std::size_t i = 0; i < line.stages.size(); ++i) {
      if (table.size() > most_rows) {
        ++hidden;
        continue;
      }
      const auto& s = line.stages[i];
      const bool last = i + 1 == line.stages.size();
      table.push_back({i == 0 ? std::to_string(p) : "", std::to_string(s.rank), on.profile(s.rank).name,
                       layers_text(s, i == 0, last), format_bytes(static_cast<std::uint64_t>(s.weight_bytes)),
                       format_bytes(static_cast<std::uint64_t>(s.kv_bytes)),
                       i == 0 ? format_count(static_cast<std::int64_t>(std::min(line.kv_tokens, 1e15))) : "",
                       ms(s.decode_s), ms(s.prefill_s), last ? "-" : ms(s.hop_s)});
    }
  }
  const auto idle = [&](const std::vector<int>& ranks, const char* what) {
    for (const auto r : ranks) {
      if (table.size() > most_rows) {
        ++hidden;
        continue;
      }
      table.push_back({"-", std::to_string(r), on.profile(r).name, what, "-", "-", "", "-", "-", "-"});
    }
  };
  idle(plan.spares, "spare");
  idle(plan.left_out, "left out");
  auto out = aligned(table);
  if (hidden > 0) out += "... and " + format_count(static_cast<std::int64_t>(hidden)) + " ranks more\n";

  double sequences = 0;
  for (const auto& p : plan.pipelines) sequences += p.sequences;
  const auto& e = plan.expected;
  out += "\nexpected of " + format_count(static_cast<std::int64_t>(sequences)) + " sequences of " +
         format_measure(w.prompt_tokens) + " prompt and " + format_measure(w.answer_tokens) +
         " answer tokens\n";
  out += "  first token   " + ms(e.ttft_s) + " for a prompt alone\n";
  out += "  next tokens   " + ms(e.tpot_s) + " each, all sequences decoding\n";
  out += "  prefill       " + format_measure(e.prefill_tokens_per_s) + " tokens/s\n";
  out += "  decode        " + format_measure(e.decode_tokens_per_s) + " tokens/s\n";
  out += "  throughput    " + format_measure(e.answer_tokens_per_s) +
         " answer tokens/s of requests without end\n\n";
  for (const auto& r : plan.reasons) out += "- " + r + '\n';
  return out;
}

nlohmann::ordered_json plan_json(const planner::cluster_plan& plan, const planner::cluster& on) {
  const auto figures = [](const planner::prediction& e) {
    return nlohmann::ordered_json{{"ttft_s", e.ttft_s},
                                  {"tpot_s", e.tpot_s},
                                  {"prefill_tokens_per_s", e.prefill_tokens_per_s},
                                  {"decode_tokens_per_s", e.decode_tokens_per_s},
                                  {"answer_tokens_per_s", e.answer_tokens_per_s}};
  };
  nlohmann::ordered_json pipelines = nlohmann::ordered_json::array();
  for (const auto& p : plan.pipelines) {
    nlohmann::ordered_json stages = nlohmann::ordered_json::array();
    for (const auto& s : p.stages)
      stages.push_back({{"rank", s.rank},
                        {"group", on.profile(s.rank).name},
                        {"first_layer", s.first_layer},
                        {"last_layer", s.last_layer},
                        {"weight_bytes", s.weight_bytes},
                        {"kv_bytes", s.kv_bytes},
                        {"decode_s", s.decode_s},
                        {"prefill_s", s.prefill_s},
                        {"hop_s", s.hop_s}});
    pipelines.push_back({{"stages", std::move(stages)},
                         {"kv_tokens", std::min(p.kv_tokens, 1e15)},
                         {"sequences", p.sequences},
                         {"micro_batches", p.micro_batches},
                         {"expected", figures(p.expected)}});
  }
  return {{"pipelines", std::move(pipelines)},
          {"spares", plan.spares},
          {"left_out", plan.left_out},
          {"expected", figures(plan.expected)},
          {"reasons", plan.reasons}};
}

}  // namespace fastserve::launch
