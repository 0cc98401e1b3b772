#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "kernels/cpu/integer_weight.hpp"
#include "kernels/parts.hpp"
#include "kernels/stacked.hpp"

namespace fastserve::kernels::cpu {
namespace {

constexpr std::int64_t parallel_codes = 1 << 16;

std::int64_t padded(std::int64_t count, std::int64_t size) { return parts(count, size) * size; }

integer_panels panels_of(const quantized_format& format, std::int64_t cols, const kernel_table& table) {
  const std::int64_t columns = table.integer_tiles.panel_columns;
  integer_panels p;
  p.columns = format.group == 0 ? record_columns : format.group;
  p.bits = format.bits;
  p.folds = padded(cols, p.columns) / p.columns;
  p.wide_scales = format.scale == dtype::f32;
  p.zero = static_cast<zeros>(format.zero);
  // 4-bit codes are multiplied as 0..15 everywhere.
  const bool is_signed = format.zero == zero_kind::none;
  if (format.bits == 4) {
    p.shift = is_signed ? 8 : 0;
  } else {
    p.shift = (is_signed ? 128 : 0) - (table.stored_unsigned ? 0 : 128);
  }
  const std::int64_t code_bytes = columns * p.columns * format.bits / 8;
  std::int64_t scale_bytes = columns * (p.wide_scales ? 4 : 2);
  if (format.zero == zero_kind::integer) scale_bytes += columns * 2;
  if (format.zero == zero_kind::offset) scale_bytes *= 2;
  if (format.group == 0) {
    p.fold_bytes = code_bytes;
    p.scales_at = p.folds * code_bytes;
    p.panel_bytes = p.scales_at + scale_bytes;
  } else {
    p.fold_bytes = code_bytes + scale_bytes;
    p.scales_at = code_bytes;
    p.scales_step = p.fold_bytes;
    p.panel_bytes = p.folds * p.fold_bytes;
  }
  p.panel_bytes = padded(p.panel_bytes, 64);
  return p;
}

/// One row, unpacked.
struct code_row {
  const std::uint8_t* codes;
  const float* scales;
  const std::uint8_t* zeros;
  const float* offsets;
};

/// Room for the rows of one panel, codes padded with what multiplies as nothing.
struct panel_rows {
  std::vector<std::uint8_t> codes;  // [panel columns][padded cols], as stored
  std::vector<code_row> rows;
};

class packer {
 public:
  packer(const integer_weight& to, const integer_section& section, const kernel_table& table)
      : to_{to},
        section_{section},
        columns_{table.integer_tiles.panel_columns},
        padded_cols_{section.panels.folds * section.panels.columns} {}

  /// rows.rows hold `count` rows of panel `p`.
  void pack_panel(std::int64_t p, int count, panel_rows& rows) const {
    const auto& format = section_.panels;
    rows.codes.assign(static_cast<std::size_t>(columns_ * padded_cols_), 0);
    for (int r = 0; r < count; ++r) {
      auto* to = rows.codes.data() + r * padded_cols_;
      const auto* from = rows.rows[static_cast<std::size_t>(r)].codes;
      const auto shift = static_cast<unsigned>(format.shift);
      for (std::int64_t k = 0; k < to_.cols(); ++k) to[k] = static_cast<std::uint8_t>(from[k] + shift);
    }
    char* out = to_.panel(section_, p);
    // A panel ends at a line's boundary; what lies between its end and that is to be the same always.
    std::memset(out + format.panel_bytes - 64, 0, 64);
    for (std::int64_t f = 0; f < format.folds; ++f) {
      const auto* from = rows.codes.data() + f * format.columns;
      char* codes = out + f * format.fold_bytes;
      if (format.bits == 8) {
        interleave_bytes(codes, from);
      } else {
        interleave_nibbles(codes, from);
      }
      if (f == 0 || format.scales_step != 0)
        store_scales(out + format.scales_at + f * format.scales_step, f, count, rows);
    }
  }

 private:
  void interleave_bytes(char* to, const std::uint8_t* from) const {
    for (int r = 0; r < columns_; ++r, from += padded_cols_) {
      for (int k = 0; k < section_.panels.columns; k += 4)
        std::memcpy(to + k * columns_ + 4 * r, from + k, 4);
    }
  }

  void interleave_nibbles(char* to, const std::uint8_t* from) const {
    for (int r = 0; r < columns_; ++r, from += padded_cols_) {
      for (int k = 0; k < section_.panels.columns; k += 8) {
        std::uint32_t low;
        std::uint32_t high;
        std::memcpy(&low, from + k, 4);
        std::memcpy(&high, from + k + 4, 4);
        low = (low & 0x0f0f0f0fU) | ((high & 0x0f0f0f0fU) << 4);
        std::memcpy(to + k / 2 * columns_ + 4 * r, &low, 4);
      }
    }
  }

  void store_scales(char* to, std::int64_t group, int count, const panel_rows& rows) const {
    const auto& format = section_.panels;
    std::vector<float> scales(static_cast<std::size_t>(columns_));
    std::vector<float> zeros(scales.size());
    for (int r = 0; r < count; ++r) {
      const auto& row = rows.rows[static_cast<std::size_t>(r)];
      const auto i = static_cast<std::size_t>(r);
      scales[i] = row.scales[group];
      if (format.zero == zeros_integer) zeros[i] = row.zeros[group];
      if (format.zero == zeros_offset) zeros[i] = row.offsets[group];
    }
    const auto scale_type = format.wide_scales ? dtype::f32 : dtype::f16;
    from_f32(to, scale_type, scales.data(), scales.size());
    if (format.zero == zeros_none) return;
    from_f32(to + scales.size() * size_of(scale_type), format.zero == zeros_integer ? dtype::f16 : scale_type,
             zeros.data(), zeros.size());
  }

  const integer_weight& to_;
  const integer_section& section_;
  int columns_;
  std::int64_t padded_cols_;
};

/// give(row of the stack, slot, code_row&) names or makes the codes of one row; slots are those of a panel.
template <class MakeRows>
void pack_all(const integer_weight& to, const kernel_table& table, const thread_team& team,
              MakeRows make_rows) {
  for (const auto& section : to.sections()) {
    const packer work{to, section, table};
    const std::int64_t columns = table.integer_tiles.panel_columns;
    team.run(section.rows * to.cols() > parallel_codes, [&](int thread, int threads) {
      panel_rows rows;
      rows.rows.resize(static_cast<std::size_t>(columns));
      auto row_of = make_rows(section);
      const share mine{section.panel_count, thread, threads};
      for (std::int64_t p = mine.first; p < mine.last; ++p) {
        const auto count = static_cast<int>(std::min(columns, section.rows - p * columns));
        for (int r = 0; r < count; ++r)
          rows.rows[static_cast<std::size_t>(r)] = row_of(section.first_row + p * columns + r, r);
        work.pack_panel(p, count, rows);
      }
    });
  }
}

/// Row `row` of stacked matrices.
template <class Matrix>
std::pair<const Matrix*, std::int64_t> find_row(std::span<const Matrix> stacked, std::int64_t row) {
  const Matrix* m = stacked.data();
  for (; row >= m->rows; ++m) row -= m->rows;
  return {m, row};
}

/// Rounds rows of float matrices, one at a time.
class row_rounder {
 public:
  row_rounder(std::span<const host_matrix> stacked, const quantized_format& format, int columns)
      : stacked_{stacked},
        format_{format},
        values_(static_cast<std::size_t>(stacked[0].cols)),
        rows_{format, columns, stacked[0].cols} {}

  code_row operator()(std::int64_t row, int slot) {
    const auto [m, local] = find_row(stacked_, row);
    const auto size = static_cast<std::int64_t>(size_of(m->type));
    const auto* data = static_cast<const char*>(m->data);
    if (m->transposed) {
      for (std::int64_t k = 0; k < m->cols; ++k)
        to_f32(&values_[static_cast<std::size_t>(k)], data + (k * m->rows + local) * size, m->type, 1);
    } else {
      to_f32(values_.data(), data + local * m->cols * size, m->type, values_.size());
    }
    const auto groups = format_.groups(m->cols);
    auto* codes = rows_.codes.data() + slot * m->cols;
    float* scales = rows_.scales.data() + slot * groups;
    auto* zeros = rows_.zeros.empty() ? nullptr : rows_.zeros.data() + slot * groups;
    float* offsets = rows_.offsets.empty() ? nullptr : rows_.offsets.data() + slot * groups;
    quantize_row(format_, values_.data(), m->cols, codes, scales, zeros, offsets);
    return {codes, scales, zeros, offsets};
  }

 private:
  std::span<const host_matrix> stacked_;
  quantized_format format_;
  std::vector<float> values_;
  quantized_tensor rows_;
};

void check_integers(const quantized_format& format) {
  if (is_fp8(format)) throw std::invalid_argument("pack: processors do not multiply fp8");
}

}  // namespace

integer_weight::integer_weight(std::span<const quantized_format> formats, std::span<const std::int64_t> rows,
                               std::int64_t cols, const kernel_table& table)
    : weight{std::accumulate(rows.begin(), rows.end(), std::int64_t{0}), cols, dtype::q8} {
  std::int64_t first_row = 0;
  for (std::size_t i = 0; i < formats.size(); ++i) {
    if (sections_.empty() || !(sections_.back().format == formats[i]))
      sections_.push_back({formats[i], first_row, 0, 0, 0, panels_of(formats[i], cols, table)});
    sections_.back().rows += rows[i];
    first_row += rows[i];
  }
  std::size_t bytes = 0;
  for (auto& s : sections_) {
    const std::int64_t columns = table.integer_tiles.panel_columns;
    s.panel_count = (s.rows + columns - 1) / columns;
    s.offset = bytes;
    bytes += s.bytes();
  }
  memory_ = allocate_memory(bytes);
  for (auto& s : sections_) s.panels.data = panel(s, 0);
}

std::string integer_weight::format() const {
  std::string all;
  for (const auto& s : sections_) all += (all.empty() ? "" : "; ") + to_string(s.format);
  return all;
}

std::unique_ptr<integer_weight> pack_integers(std::span<const quantized_matrix> stacked,
                                              const kernel_table& table, const thread_team& team) {
  check_stack(stacked);
  std::vector<quantized_format> formats;
  std::vector<std::int64_t> rows;
  for (const auto& m : stacked) {
    check(m);
    check_integers(m.format);
    formats.push_back(m.format);
    rows.push_back(m.rows);
  }
  auto packed = std::make_unique<integer_weight>(formats, rows, stacked[0].cols, table);
  pack_all(*packed, table, team, [&](const integer_section&) {
    return [stacked](std::int64_t row, int) -> code_row {
      const auto [m, local] = find_row(stacked, row);
      const auto at = m->row_range(local, 1);
      return {at.codes, at.scales, at.zeros, at.offsets};
    };
  });
  return packed;
}

std::unique_ptr<integer_weight> pack_integers(std::span<const host_matrix> stacked,
                                              const quantized_format& format, const kernel_table& table,
                                              const thread_team& team) {
  check(format);
  check_integers(format);
  check_stack(stacked);
  std::int64_t rows = 0;
  for (const auto& m : stacked) {
    if (m.type != dtype::f32 && m.type != dtype::f16 && m.type != dtype::bf16)
      throw std::invalid_argument("pack: cannot round " + std::string(name_of(m.type)) + " to integers");
    rows += m.rows;
  }
  auto packed =
      std::make_unique<integer_weight>(std::span{&format, 1}, std::span{&rows, 1}, stacked[0].cols, table);
  pack_all(*packed, table, team, [&](const integer_section&) {
    return row_rounder{stacked, format, table.integer_tiles.panel_columns};
  });
  return packed;
}

}  // namespace fastserve::kernels::cpu
