#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace fastserve::launch {

/// A curve and its name in the legend.
struct plot_series {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< x, y
};

/// What a picture shows. y is logarithmic: latencies span decades.
struct plot_labels {
  std::string title, x, y;
  std::optional<double> line;  ///< a horizontal line, with its name
  std::string line_name;
};

/// A line plot as a self-contained SVG document. Points that are not finite or not above zero are left out;
/// texts may hold anything.
std::string draw_plot(const plot_labels& labels, const std::vector<plot_series>& series);

}  // namespace fastserve::launch
