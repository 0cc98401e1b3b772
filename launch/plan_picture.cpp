#include <algorithm>

#include "launch/formatted.hpp"
#include "launch/plan_report.hpp"
#include "launch/svg_text.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

constexpr double margin = 24, box_width = 150, box_height = 104, gap = 76, row_gap = 40, header = 92;
constexpr std::size_t most_pipelines = 24, most_stages = 48, most_idle = 64;

std::string text(double x, double y, const std::string& what, const char* more = "") {
  return formatted("<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, more) + svg_escape(what) + "</text>\n";
}

std::string short_name(const std::string& name) {
  constexpr std::size_t most = 12;
  if (name.size() <= most) return name;
  auto end = most - 1;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0U) == 0x80) --end;  // not within a character
  return name.substr(0, end) + "\u2026";
}

const char* colour_of(const planner::rank_profile& r) {
  return svg_colours[static_cast<std::size_t>(r.group) % svg_colours.size()];
}

std::string bar(double x, double y, double width, double part, double rest, const char* colour) {
  part = std::clamp(part, 0.0, 1.0);
  rest = std::clamp(rest, 0.0, 1.0 - part);
  return formatted("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"9\" fill=\"#eee\"/>\n", x, y, width) +
         formatted("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"9\" fill=\"%s\"/>\n", x, y,
                   width * part, colour) +
         formatted(
             "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"9\" fill=\"%s\" fill-opacity=\"0.35\"/>\n",
             x + width * part, y, width * rest, colour);
}

std::string box(double x, double y, const planner::planned_stage& s, const planner::planned_pipeline& of,
                const planner::rank_profile& r, double slowest) {
  const bool first = &s == &of.stages.front(), last = &s == &of.stages.back();
  const bool paces = of.stages.size() > 1 && s.decode_s >= slowest * 0.999;
  auto out = formatted(
      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"6\" fill=\"white\" stroke=\"%s\" "
      "stroke-width=\"%d\"/>\n",
      x, y, box_width, box_height, colour_of(r), paces ? 3 : 1);
  out += text(x + 10, y + 20, "rank " + std::to_string(s.rank), "font-weight=\"bold\"");
  out += text(x + box_width - 10, y + 20, short_name(r.name), "text-anchor=\"end\" fill=\"#555\"");
  auto layers = std::to_string(s.first_layer);
  if (s.last_layer - s.first_layer > 1) layers += "\u2013" + std::to_string(s.last_layer - 1);
  out += text(x + 10, y + 40, (first ? "embed, " : "") + layers + (last ? ", head" : ""));
  out += text(x + 10, y + 58, format_measure(1e3 * s.decode_s) + " ms a step", "fill=\"#555\"");
  const auto memory = std::max(r.memory_bytes, 1.0);
  out += bar(x + 10, y + 68, box_width - 20, s.weight_bytes / memory, s.kv_bytes / memory, colour_of(r));
  out += text(x + 10, y + 94,
              format_bytes(static_cast<std::uint64_t>(s.weight_bytes)) + " of " +
                  format_bytes(static_cast<std::uint64_t>(memory)),
              "font-size=\"11\" fill=\"#555\"");
  return out;
}

std::string arrow(double x, double y, const planner::link& l) {
  auto out = formatted(
      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#333\" marker-end=\"url(#tip)\"/>\n",
      x + 2, y, x + gap - 8, y);
  out += text(x + gap / 2, y - 8, format_measure(1e6 * l.latency_s) + " \u00b5s",
              "text-anchor=\"middle\" font-size=\"11\" fill=\"#555\"");
  if (l.bytes_per_s > 0)
    out += text(x + gap / 2, y + 16, format_bytes(static_cast<std::uint64_t>(l.bytes_per_s)) + "/s",
                "text-anchor=\"middle\" font-size=\"11\" fill=\"#555\"");
  return out;
}

}  // namespace

std::string draw_plan(const planner::cluster_plan& plan, const planner::cluster& on,
                      const std::string& title) {
  const auto pipelines = std::min(plan.pipelines.size(), most_pipelines);
  std::size_t longest = 3;
  for (std::size_t p = 0; p < pipelines; ++p)
    longest = std::max(longest, std::min(plan.pipelines[p].stages.size(), most_stages));
  const auto width = 2 * margin + static_cast<double>(longest) * (box_width + gap) - gap + 60;
  const auto& e = plan.expected;
  auto body = text(margin, 34, title, "font-size=\"17\" font-weight=\"bold\"");
  body += text(margin, 56,
               "first token " + format_measure(1e3 * e.ttft_s) + " ms, next ones " +
                   format_measure(1e3 * e.tpot_s) + " ms; prefill " + format_measure(e.prefill_tokens_per_s) +
                   ", decode " + format_measure(e.decode_tokens_per_s) + " tokens/s",
               "fill=\"#333\"");
  body += text(margin, 76, "bars: memory, weights dark, room for keys and values light; bold: sets the pace",
               "font-size=\"11\" fill=\"#777\"");
  double y = header;
  for (std::size_t p = 0; p < pipelines; ++p) {
    const auto& of = plan.pipelines[p];
    double slowest = 0;
    for (const auto& s : of.stages) slowest = std::max(slowest, s.decode_s);
    double x = margin;
    for (std::size_t i = 0; i < of.stages.size(); ++i) {
      if (i == most_stages) {
        body += text(x, y + box_height / 2, "+ " + std::to_string(of.stages.size() - i));
        break;
      }
      const auto& r = on.profile(of.stages[i].rank);
      body += box(x, y, of.stages[i], of, r, slowest);
      x += box_width;
      if (i + 1 < of.stages.size())
        body += arrow(x, y + box_height / 2, on.between(r, on.profile(of.stages[i + 1].rank)));
      x += gap;
    }
    y += box_height + row_gap;
  }
  if (plan.pipelines.size() > pipelines) {
    body +=
        text(margin, y - 10, "and " + std::to_string(plan.pipelines.size() - pipelines) + " pipelines more");
    y += 16;
  }
  const auto idle = [&](const std::vector<int>& ranks, const char* what) {
    if (ranks.empty()) return;
    body += text(margin, y + 16, what, "fill=\"#555\"");
    double x = margin + 70;
    for (std::size_t i = 0; i < std::min(ranks.size(), most_idle); ++i) {
      if (x + 116 > width - margin) {
        x = margin + 70;
        y += 32;
      }
      const auto& r = on.profile(ranks[i]);
      body += formatted(
          "<rect x=\"%.1f\" y=\"%.1f\" width=\"112\" height=\"24\" rx=\"5\" fill=\"white\" stroke=\"%s\" "
          "stroke-dasharray=\"4 3\"/>\n",
          x, y, colour_of(r));
      body += text(x + 8, y + 16, std::to_string(ranks[i]) + " " + short_name(r.name), "font-size=\"12\"");
      x += 120;
    }
    if (ranks.size() > most_idle) body += text(x, y + 16, "+ " + std::to_string(ranks.size() - most_idle));
    y += 40;
  };
  idle(plan.spares, "spares");
  idle(plan.left_out, "left out");
  constexpr std::size_t most_reasons = 16;
  for (std::size_t i = 0; i < std::min(plan.reasons.size(), most_reasons); ++i) {
    body += text(margin, y + 12, plan.reasons[i], "font-size=\"12\" fill=\"#333\"");
    y += 18;
  }
  return formatted(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
             "font-family=\"sans-serif\" font-size=\"13\">\n",
             width, y + margin, width) +
         "<defs><marker id=\"tip\" markerWidth=\"8\" markerHeight=\"8\" refX=\"6\" refY=\"3\" "
         "orient=\"auto\">"
         "<path d=\"M0,0 L7,3 L0,6 z\" fill=\"#333\"/></marker></defs>\n"
         "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n" +
         body + "</svg>\n";
}

}  // namespace fastserve::launch
