#include "launch/svg_plot.hpp"

#include <algorithm>
#include <cmath>

#include "launch/formatted.hpp"
#include "launch/svg_text.hpp"

namespace fastserve::launch {

namespace {

constexpr double width = 760, height = 460;
constexpr double left = 80, right = 170, top = 44, bottom = 56;

struct frame {
  double x_most = 1, y_least = 1, y_most = 10;
  double x(double v) const { return left + (width - left - right) * v / x_most; }
  double y(double v) const {
    const double part = std::log(v / y_least) / std::log(y_most / y_least);
    return height - bottom - (height - top - bottom) * part;
  }
};

bool drawable(const std::pair<double, double>& p) {
  return std::isfinite(p.first) && std::isfinite(p.second) && p.first >= 0 && p.second > 0;
}

// Around all points: x from zero, y between powers of ten.
frame frame_of(const std::vector<plot_series>& series, const std::optional<double>& line) {
  double least = 1e300, most = 0, x = 0;
  const auto see = [&](double y) {
    least = std::min(least, y);
    most = std::max(most, y);
  };
  for (const auto& s : series)
    for (const auto& p : s.points)
      if (drawable(p)) {
        x = std::max(x, p.first);
        see(p.second);
      }
  if (line && std::isfinite(*line) && *line > 0) see(*line);
  if (most <= 0) return {};
  frame f{x > 0 ? x * 1.03 : 1, std::pow(10, std::floor(std::log10(least))),
          std::pow(10, std::ceil(std::log10(most)))};
  if (f.y_most <= f.y_least) f.y_most = f.y_least * 10;
  return f;
}

// 1, 2 or 5 times a power of ten, five to ten of them on the axis.
double tick_of(double most) {
  const double power = std::pow(10, std::floor(std::log10(most / 5)));
  for (const double step : {1.0, 2.0, 5.0})
    if (most / (step * power) <= 10) return step * power;
  return 10 * power;
}

std::string axes(const frame& f, const plot_labels& labels) {
  std::string out;
  const char* grid = "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n";
  for (double v = f.y_least; v <= f.y_most * 1.001; v *= 10) {
    out += formatted(grid, left, f.y(v), width - right, f.y(v));
    out += formatted("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", left - 8, f.y(v) + 4, v);
  }
  const double step = tick_of(f.x_most);
  for (int i = 0; i * step <= f.x_most; ++i) {
    out += formatted(grid, f.x(i * step), top, f.x(i * step), height - bottom);
    out += formatted("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n", f.x(i * step),
                     height - bottom + 18, i * step);
  }
  out += formatted(
      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#333\"/>\n", left,
      top, width - left - right, height - top - bottom);
  out += formatted("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (left + width - right) / 2,
                   height - 14) +
         svg_escape(labels.x) + "</text>\n";
  out += formatted("<text transform=\"translate(20 %.1f) rotate(-90)\" text-anchor=\"middle\">",
                   (top + height - bottom) / 2) +
         svg_escape(labels.y) + "</text>\n";
  out +=
      formatted("<text x=\"%.1f\" y=\"26\" font-size=\"15\">", left) + svg_escape(labels.title) + "</text>\n";
  return out;
}

}  // namespace

std::string draw_plot(const plot_labels& labels, const std::vector<plot_series>& series) {
  const auto f = frame_of(series, labels.line);
  std::string out = formatted(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" "
      "font-size=\"13\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      width, height);
  out += axes(f, labels);
  double legend = top + 12;
  if (labels.line && std::isfinite(*labels.line) && *labels.line > 0) {
    out += formatted(
        "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#333\" stroke-dasharray=\"6 4\"/>\n",
        left, f.y(*labels.line), width - right, f.y(*labels.line));
    out += formatted("<text x=\"%.1f\" y=\"%.1f\">", width - right + 8, f.y(*labels.line) + 4) +
           svg_escape(labels.line_name) + "</text>\n";
  }
  for (std::size_t i = 0; i < series.size(); ++i) {
    const char* colour = svg_colours[i % svg_colours.size()];
    std::string line, dots;
    for (const auto& p : series[i].points) {
      if (!drawable(p)) continue;
      line += formatted("%.1f,%.1f ", f.x(p.first), f.y(p.second));
      dots += formatted("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", f.x(p.first),
                        f.y(p.second), colour);
    }
    out += "<polyline points=\"" + line +
           formatted("\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", colour) + dots;
    out += formatted("<rect x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"4\" fill=\"%s\"/>\n",
                     width - right + 10, legend - 6, colour);
    out += formatted("<text x=\"%.1f\" y=\"%.1f\">", width - right + 30, legend) +
           svg_escape(series[i].name) + "</text>\n";
    legend += 20;
  }
  return out + "</svg>\n";
}

}  // namespace fastserve::launch
