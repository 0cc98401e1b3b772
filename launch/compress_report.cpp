#include "launch/compress_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "launch/svg_plot.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

std::string line(std::string_view name, const std::string& value) {
  std::string out{name};
  out.append(16 - std::min<std::size_t>(16, out.size()), ' ');
  return out + value + '\n';
}

std::string fixed(const char* format, double value) {
  char out[32];
  std::snprintf(out, sizeof out, format, value);
  return out;
}

std::string percent(double share) { return fixed("%.2f%%", 100 * share); }

struct layer_error {
  double nearest = 0, compressed = 0;
  int matrices = 0;
};

/// Root mean square over the matrices of each layer.
std::map<std::int32_t, layer_error> by_layer(const std::vector<compress::matrix_report>& matrices) {
  std::map<std::int32_t, layer_error> out;
  for (const auto& m : matrices) {
    auto& layer = out[m.layer];
    layer.nearest += m.nearest * m.nearest;
    layer.compressed += m.compressed * m.compressed;
    ++layer.matrices;
  }
  for (auto& [number, layer] : out) {
    layer.nearest = std::sqrt(layer.nearest / layer.matrices);
    layer.compressed = std::sqrt(layer.compressed / layer.matrices);
  }
  return out;
}

/// Names of a layer's matrices, in order.
std::vector<std::string> names_of(const std::vector<compress::matrix_report>& matrices) {
  std::vector<std::string> out;
  for (const auto& m : matrices)
    if (std::find(out.begin(), out.end(), m.name) == out.end()) out.push_back(m.name);
  return out;
}

std::string short_name(const std::string& name) { return name.substr(name.find('.') + 1); }

}  // namespace

std::string format_report(const compress_report& r) {
  std::int64_t matrix_weights = 0;
  const auto layer_bytes = r.after.layer_bytes * static_cast<std::size_t>(r.after.layers);
  matrix_weights = r.after.layer_parameters * r.after.layers;
  std::string out = line("format", r.format + (r.pruned.empty() ? "" : ", " + r.pruned + " left out") +
                                       (r.calibrated ? ", calibrated" : ", rounded to nearest"));
  out += line(
      "size",
      format_bytes(r.before.weight_file_bytes) + " -> " + format_bytes(r.after.weight_file_bytes) + " (" +
          percent(static_cast<double>(r.after.weight_file_bytes) /
                  static_cast<double>(r.before.weight_file_bytes)) +
          "), layers " + format_bytes(r.before.layer_bytes * static_cast<std::size_t>(r.before.layers)) +
          " -> " + format_bytes(layer_bytes) + ", " +
          fixed("%.2f", 8.0 * static_cast<double>(layer_bytes) / static_cast<double>(matrix_weights)) +
          " bits a weight");
  if (r.score) {
    const auto& s = *r.score;
    out += line("perplexity", fixed("%.4f", s.perplexity) + " -> " + fixed("%.4f", s.other_perplexity) +
                                  " (" + fixed("%+.2f%%", 100 * (s.other_perplexity / s.perplexity - 1)) +
                                  ") on " + format_count(s.tokens) + " tokens" +
                                  (r.kv == kernels::dtype::f32
                                       ? ""
                                       : ", keys and values in " + std::string(kernels::name_of(r.kv))));
    out += line("divergence", fixed("%.5f", s.divergence) + " nats a token, the same likeliest token in " +
                                  percent(s.agreement));
  }
  const auto names = names_of(r.matrices);
  out += r.calibrated ? "\nerror of each product, rounded to nearest -> as written\n"
                      : "\nerror of each matrix\n";
  constexpr std::size_t width = 17;
  std::string head = "layer";
  for (const auto& name : names) {
    const auto text = short_name(name);
    head.append(width - std::min(width - 1, text.size()), ' ');
    head += text;
  }
  out += head + '\n';
  std::int32_t layer = -1;
  for (const auto& m : r.matrices) {
    if (m.layer != layer) {
      if (layer >= 0) out += '\n';
      layer = m.layer;
      out += fixed("%5.0f", layer);
    }
    const auto text =
        r.calibrated ? percent(m.nearest) + "->" + percent(m.compressed) : percent(m.compressed);
    out.append(width - std::min(width - 1, text.size()), ' ');
    out += text;
  }
  return out + (r.matrices.empty() ? "" : "\n");
}

std::string draw_report(const compress_report& r) {
  plot_labels labels;
  labels.title = r.format + (r.pruned.empty() ? "" : ", " + r.pruned + " left out");
  labels.x = "layer";
  labels.y =
      r.calibrated ? "relative error of the layer's products" : "relative error of the layer's weights";
  plot_series nearest{"rounded to nearest", {}};
  plot_series compressed{"calibrated", {}};
  for (const auto& [number, layer] : by_layer(r.matrices)) {
    nearest.points.emplace_back(number, layer.nearest);
    compressed.points.emplace_back(number, layer.compressed);
  }
  std::vector<plot_series> all{nearest};
  if (r.calibrated) all.push_back(compressed);
  return draw_plot(labels, all);
}

}  // namespace fastserve::launch
