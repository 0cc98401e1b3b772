#include "launch/startup_table.hpp"

#include <algorithm>
#include <array>

#include "launch/units.hpp"
#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

constexpr std::size_t columns = 8;
using cells = std::array<std::string, columns>;

constexpr std::array<bool, columns> right_aligned{true, true, false, false, false, true, true, false};
constexpr std::size_t pipeline_column = 1;

std::string layers_text(const rank_row& row) {
  if (row.layers == 0) return "spare";
  std::string text = row.embeds ? "embed, " : "";
  text += std::to_string(row.first_layer);
  if (row.layers > 1) {
    text += '-';
    text += std::to_string(row.first_layer + row.layers - 1);
  }
  return row.samples ? text + ", head" : text;
}

cells cells_of(const rank_row& row) {
  const bool spare = row.layers == 0;
  return {std::to_string(row.rank),
          row.pipeline < 0 ? "-" : std::to_string(row.pipeline),
          row.host,
          row.device,
          layers_text(row),
          spare ? "-" : format_bytes(row.weight_bytes),
          spare ? "-" : format_count(row.kv_tokens),
          row.channel.empty() ? "-" : row.channel};
}

}  // namespace

std::string format_startup_table(const std::vector<rank_row>& rows) {
  std::vector<cells> table{
      {"rank", "pipeline", "host", "device", "layers", "weights", "KV tokens", "to next"}};
  for (const rank_row& row : rows) table.push_back(cells_of(row));

  const bool several =
      std::any_of(rows.begin(), rows.end(), [](const auto& row) { return row.pipeline > 0; });
  std::array<std::size_t, columns> widths{};
  const auto width = [](const std::string& text) { return static_cast<std::size_t>(text_columns(text)); };
  for (const cells& line : table)
    for (std::size_t i = 0; i < columns; ++i) widths[i] = std::max(widths[i], width(line[i]));

  std::string out;
  for (const cells& line : table) {
    std::string text;
    for (std::size_t i = 0; i < columns; ++i) {
      if (i == pipeline_column && !several) continue;
      const std::string padding(widths[i] - width(line[i]), ' ');
      if (i > 0) text += "  ";
      text += right_aligned[i] ? padding + line[i] : line[i] + padding;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + '\n';
  }
  return out;
}

}  // namespace fastserve::launch
