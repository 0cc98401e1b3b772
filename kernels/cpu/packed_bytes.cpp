#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/integer_weight.hpp"

namespace fastserve::kernels::cpu {
namespace {

/// To be raised whenever the bytes of a packed weight come out otherwise: another order, another rounding.
/// tests/kernels/packed_test.cpp notices.
constexpr int layout_version = 1;

/// Numbers of a scale's width at `i`.
float number_at(const char* from, std::int64_t i, bool wide) {
  if (wide) {
    float x;
    std::memcpy(&x, from + i * 4, sizeof x);
    return x;
  }
  std::uint16_t h;
  std::memcpy(&h, from + i * 2, sizeof h);
  return half_to_float(h);
}

/// Code `k` of a fold for the output feature in `lane` of `columns`.
int code_at(const integer_panels& p, const char* fold, int k, std::int64_t lane, std::int64_t columns) {
  if (p.bits == 8) {
    const auto stored = static_cast<std::uint8_t>(fold[k / 4 * 4 * columns + 4 * lane + k % 4]);
    const auto code = static_cast<std::uint8_t>(stored - p.shift);
    return p.zero == zeros_none ? static_cast<std::int8_t>(code) : code;
  }
  const auto pair = static_cast<std::uint8_t>(fold[k / 8 * 4 * columns + 4 * lane + k % 4]);
  return (k % 8 < 4 ? pair & 15 : pair >> 4) - p.shift;
}

}  // namespace

void look_up_row(float* out, const integer_weight& from, std::int64_t row, const kernel_table& table) {
  const auto* section = from.sections().data();
  while (row >= section->first_row + section->rows) ++section;
  const auto& p = section->panels;
  const std::int64_t columns = table.integer_tiles.panel_columns;
  const std::int64_t local = row - section->first_row;
  const std::int64_t lane = local % columns;
  const char* panel = from.panel(*section, local / columns);
  for (std::int64_t fold = 0; fold < p.folds; ++fold) {
    const char* codes = panel + fold * p.fold_bytes;
    const char* scales = panel + p.scales_at + fold * p.scales_step;
    const char* behind = scales + columns * (p.wide_scales ? 4 : 2);
    const float scale = number_at(scales, lane, p.wide_scales);
    const float zero = p.zero == zeros_integer ? number_at(behind, lane, false) : 0.0F;
    const float offset = p.zero == zeros_offset ? number_at(behind, lane, p.wide_scales) : 0.0F;
    const auto count = static_cast<int>(std::min<std::int64_t>(p.columns, from.cols() - fold * p.columns));
    for (int k = 0; k < count; ++k)
      *out++ = scale * (static_cast<float>(code_at(p, codes, k, lane, columns)) - zero) + offset;
  }
}

std::string cpu_backend::packed_layout() const {
  return "cpu " + std::to_string(layout_version) + ", panels of " +
         std::to_string(table_.gemm_tiles.panel_columns) + (table_.bf16_products ? ", bf16 in pairs" : "") +
         ", integers of " + std::to_string(table_.integer_tiles.panel_columns) +
         (table_.stored_unsigned ? " unsigned" : " signed");
}

weight_room cpu_backend::room_for(const packed_form& form) {
  if (form.cols <= 0 || form.rows.empty()) throw std::invalid_argument("room_for: no matrix given");
  for (const auto rows : form.rows)
    if (rows <= 0) throw std::invalid_argument("room_for: a matrix without rows");
  weight_room out;
  if (form.formats.empty()) {
    if (!is_float(form.compute))
      throw std::invalid_argument("room_for: " + std::string{name_of(form.compute)} + " is no weight type");
    out.made =
        std::make_unique<packed_weight>(std::accumulate(form.rows.begin(), form.rows.end(), std::int64_t{0}),
                                        form.cols, form.compute, table_);
  } else {
    if (form.formats.size() != form.rows.size())
      throw std::invalid_argument("room_for: " + std::to_string(form.formats.size()) + " formats for " +
                                  std::to_string(form.rows.size()) + " matrices");
    for (const auto& format : form.formats) check(format);
    out.made = std::make_unique<integer_weight>(form.formats, form.rows, form.cols, table_);
  }
  const auto bytes = out.made->storage();
  out.bytes = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  return out;
}

}  // namespace fastserve::kernels::cpu
