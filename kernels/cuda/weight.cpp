#include "kernels/cuda/weight.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "kernels/cuda/pack.hpp"
#include "kernels/stacked.hpp"

namespace fastserve::kernels::cuda {
namespace {

constexpr std::size_t raw_bytes = std::size_t{64} << 20;  // of a source at a time

std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }
std::size_t count_of(std::int64_t a, std::int64_t b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

bool is_w8a8(const quantized_format& f) {
  return f.bits == 8 && f.group == 0 && f.zero == zero_kind::none && !is_fp8(f);
}
bool is_quantized(weight_form form) { return is_grouped(form) || has_records(form); }

/// Sizes and places of a section's parts, from `at` on.
void lay_out(weight_section& s, std::int64_t cols, std::size_t at) {
  const auto tiles = static_cast<std::size_t>(
      s.panels ? (s.tiles() + panel_tiles - 1) / panel_tiles * panel_tiles : s.tiles());
  s.units = (cols + columns_of(s.form) - 1) / columns_of(s.form);
  s.tiles_at = at;
  if (is_quantized(s.form)) s.groups = s.format.groups(cols);
  if (is_grouped(s.form) && s.panels) {
    s.record = {s.form, s.format};
    s.scales_at = at + code_record::numbers_at(s.form);
    s.zeros_at = s.scales_at + s.record.all_groups_bytes();
    s.bytes = aligned(tiles / panel_tiles * static_cast<std::size_t>(s.records() * s.record.bytes));
    return;
  }
  std::size_t bytes =
      aligned(tiles * static_cast<std::size_t>(s.units) * static_cast<std::size_t>(tile_bytes(s.form)));
  if (is_quantized(s.form)) {
    const std::size_t part = has_records(s.form) ? sizeof(float) : 2 * static_cast<std::size_t>(s.groups);
    s.scales_at = at + bytes;
    bytes += aligned(tiles * tile_features * part);
    if (s.format.zero != zero_kind::none) {
      s.zeros_at = at + bytes;
      bytes += aligned(tiles * tile_features * part);
    }
  }
  s.bytes = bytes;
}

}  // namespace

cuda_weight::cuda_weight(std::int64_t cols, dtype type, std::vector<weight_section> sections, int ordinal,
                         cudaStream_t on)
    : weight{std::accumulate(sections.begin(), sections.end(), std::int64_t{0},
                             [](std::int64_t n, const weight_section& s) { return n + s.rows; }),
             cols, type},
      sections_{std::move(sections)} {
  std::size_t bytes = 0;
  for (auto& s : sections_) {
    lay_out(s, cols, bytes);
    bytes += s.bytes;
  }
  memory_ = allocate_device(bytes, ordinal);
  check(cudaMemsetAsync(memory_.data(), 0, bytes, on), "cudaMemsetAsync");
}

dtype cuda_weight::input_type() const {
  switch (sections_.front().form) {
    case weight_form::f32:
      return dtype::f32;
    case weight_form::f16:
      return dtype::f16;
    case weight_form::w8a8:
      return dtype::q8;
    case weight_form::fp8:
      return dtype::f8;
    default:
      return dtype::bf16;
  }
}

std::string cuda_weight::format() const {
  if (!is_quantized(sections_.front().form)) return std::string(name_of(type()));
  std::string all;
  for (const auto& s : sections_) all += (all.empty() ? "" : "; ") + to_string(s.format);
  return all;
}

std::unique_ptr<weight> weight_packer::pack(std::span<const host_matrix> stacked, dtype compute) {
  check_stack(stacked);
  weight_section all;
  all.form = compute == dtype::f32   ? weight_form::f32
             : compute == dtype::f16 ? weight_form::f16
                                     : weight_form::bf16;
  all.panels = panels_ && all.form != weight_form::f32;
  for (const auto& m : stacked) {
    if (!is_float(m.type) || !is_float(compute))
      throw std::invalid_argument("pack: " + std::string{name_of(is_float(m.type) ? compute : m.type)} +
                                  " is no weight type");
    all.rows += m.rows;
  }
  auto packed =
      std::make_unique<cuda_weight>(stacked[0].cols, compute, std::vector{all}, ordinal_, on_.handle());
  std::int64_t row = 0;
  for (const auto& m : stacked) {
    put(*packed, packed->sections().front(), row, m);
    row += m.rows;
  }
  on_.synchronize();
  return packed;
}

std::unique_ptr<weight> weight_packer::pack_quantized(std::span<const quantized_matrix> stacked) {
  check_stack(stacked);
  for (const auto& m : stacked) kernels::check(m);
  // Rows rounded to 8 bits are for weights that have but one scale a row, all of them.
  const bool rounds =
      std::all_of(stacked.begin(), stacked.end(), [](const auto& m) { return is_w8a8(m.format); });
  const auto fp8 =
      std::count_if(stacked.begin(), stacked.end(), [](const auto& m) { return is_fp8(m.format); });
  if (fp8 > 0 && !panels_) throw std::invalid_argument("pack: this GPU does not multiply fp8");
  if (fp8 > 0 && static_cast<std::size_t>(fp8) < stacked.size())
    throw std::invalid_argument("pack: fp8 beside integers");
  std::vector<weight_section> sections;
  std::vector<std::size_t> section_of;
  std::int64_t row = 0;
  for (const auto& m : stacked) {
    if (sections.empty() || !(sections.back().format == m.format)) {
      weight_section s;
      s.first_row = row;
      s.format = m.format;
      s.form = fp8 > 0              ? weight_form::fp8
               : rounds             ? weight_form::w8a8
               : m.format.bits == 8 ? weight_form::int8
                                    : weight_form::int4;
      s.panels = panels_;
      sections.push_back(s);
    }
    sections.back().rows += m.rows;
    section_of.push_back(sections.size() - 1);
    row += m.rows;
  }
  auto packed = std::make_unique<cuda_weight>(stacked[0].cols, fp8 > 0 ? dtype::f8 : dtype::q8,
                                              std::move(sections), ordinal_, on_.handle());
  row = 0;
  for (std::size_t i = 0; i < stacked.size(); ++i) {
    const auto& section = packed->sections()[section_of[i]];
    put(*packed, section, row - section.first_row, stacked[i]);
    row += stacked[i].rows;
  }
  on_.synchronize();
  return packed;
}

std::unique_ptr<weight> weight_packer::table(const host_matrix& rows) {
  if (rows.transposed) throw std::invalid_argument("table: rows must be stored one after another");
  if (!is_float(rows.type))
    throw std::invalid_argument("table: " + std::string{name_of(rows.type)} + " is no weight type");
  auto out = std::make_unique<cuda_table>(rows, ordinal_);
  upload_(out->view().data, rows.data, out->view().bytes(), on_.handle());
  on_.synchronize();
  return out;
}

/// `row`: of the matrix's first row within the section.
void weight_packer::put(const cuda_weight& to, const weight_section& section, std::int64_t row,
                        const host_matrix& from) {
  const std::int64_t outer = from.transposed ? from.cols : from.rows;
  const std::int64_t inner = from.transposed ? from.rows : from.cols;
  const auto line = count_of(inner, static_cast<std::int64_t>(size_of(from.type)));
  const auto lines = std::max<std::int64_t>(static_cast<std::int64_t>(raw_bytes / line), 1);
  for (std::int64_t first = 0; first < outer; first += lines) {
    const std::int64_t count = std::min(lines, outer - first);
    const auto bytes = static_cast<std::size_t>(count) * line;
    void* raw = raw_.at_least(bytes);
    upload_(raw, static_cast<const char*>(from.data) + static_cast<std::size_t>(first) * line, bytes,
            on_.handle());
    launch_pack_numbers(
        {to.data() + section.tiles_at, section.form, section.panels, section.units, raw, from.type,
         from.transposed, count, inner, row + (from.transposed ? 0 : first), from.transposed ? first : 0},
        on_.handle());
  }
}

void weight_packer::put(const cuda_weight& to, const weight_section& section, std::int64_t row,
                        const quantized_matrix& from) {
  const bool is_signed = from.format.zero == zero_kind::none;
  const std::int32_t shift = has_records(section.form) || !is_signed ? 0 : 1 << (from.format.bits - 1);
  const auto line = static_cast<std::size_t>(from.cols);
  const auto lines = std::max<std::int64_t>(static_cast<std::int64_t>(raw_bytes / line), 1);
  for (std::int64_t first = 0; first < from.rows; first += lines) {
    const std::int64_t count = std::min(lines, from.rows - first);
    const auto part = from.row_range(first, count);
    auto* raw = static_cast<std::uint8_t*>(raw_.at_least(static_cast<std::size_t>(count) * line));
    upload_(raw, part.codes, static_cast<std::size_t>(count) * line, on_.handle());
    launch_pack_codes({to.data() + section.tiles_at, section.form, section.units, raw, count, from.cols,
                       row + first, shift, section.panels, section.record},
                      on_.handle());
    const auto groups = count_of(count, from.groups());
    const auto put_scales = [&](std::size_t at, const void* values, bool bytes) {
      void* raw_values = raw_.at_least(groups * sizeof(float));
      upload_(raw_values, values, groups * (bytes ? 1 : sizeof(float)), on_.handle());
      launch_pack_scales({to.data() + at, from.format.scale == dtype::f32, has_records(section.form),
                          raw_values, bytes, count, from.groups(), row + first, section.panels,
                          section.record, section.records(), from.format.group_columns(from.cols)},
                         on_.handle());
    };
    put_scales(section.scales_at, part.scales, false);
    if (from.format.zero == zero_kind::integer) put_scales(section.zeros_at, part.zeros, true);
    if (from.format.zero == zero_kind::offset) put_scales(section.zeros_at, part.offsets, false);
  }
}

std::vector<quantized_tensor> rounded_on_host(std::span<const host_matrix> from,
                                              const quantized_format& format) {
  kernels::check(format);
  std::vector<quantized_tensor> out;
  std::vector<std::pair<std::size_t, std::int64_t>> rows;  // of which matrix
  for (const auto& m : from) {
    if (!is_float(m.type))
      throw std::invalid_argument("pack: cannot round " + std::string(name_of(m.type)) + " to integers");
    for (std::int64_t r = 0; r < m.rows; ++r) rows.emplace_back(out.size(), r);
    out.emplace_back(format, m.rows, m.cols);
  }
#pragma omp parallel
  {
    std::vector<float> values;
#pragma omp for
    for (const auto& [which, r] : rows) {
      const auto& m = from[which];
      auto& to = out[which];
      const auto size = static_cast<std::int64_t>(size_of(m.type));
      const auto* data = static_cast<const char*>(m.data);
      const std::int64_t groups = format.groups(m.cols);
      values.resize(static_cast<std::size_t>(m.cols));
      if (m.transposed) {
        for (std::int64_t k = 0; k < m.cols; ++k)
          to_f32(&values[static_cast<std::size_t>(k)], data + (k * m.rows + r) * size, m.type, 1);
      } else {
        to_f32(values.data(), data + r * m.cols * size, m.type, values.size());
      }
      quantize_row(format, values.data(), m.cols, to.codes.data() + r * m.cols, to.scales.data() + r * groups,
                   to.zeros.empty() ? nullptr : to.zeros.data() + r * groups,
                   to.offsets.empty() ? nullptr : to.offsets.data() + r * groups);
    }
  }
  return out;
}

}  // namespace fastserve::kernels::cuda
