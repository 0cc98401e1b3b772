#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "kernels/cpu/weight.hpp"

namespace fastserve::kernels::cpu {
namespace {

constexpr std::int64_t chunk_elements = 256;  // of each row at a time, so that a panel's rows stay in L1

/// Copies units [rows][stride] to [unit][columns], both of unit type U.
template <class U>
void interleave(char* to, const char* from, std::int64_t units, std::int64_t stride_bytes, int rows,
                int columns) {
  for (int r = 0; r < rows; ++r) {
    const char* in = from + r * stride_bytes;
    char* out = to + r * static_cast<std::int64_t>(sizeof(U));
    for (std::int64_t u = 0; u < units; ++u) {
      U unit;
      std::memcpy(&unit, in + u * static_cast<std::int64_t>(sizeof(U)), sizeof unit);
      std::memcpy(out + u * columns * static_cast<std::int64_t>(sizeof(U)), &unit, sizeof unit);
    }
  }
}

/// Where a row of the stack comes from.
struct row_source {
  const host_matrix* matrix;
  std::int64_t row;
};

class packer {
 public:
  packer(std::span<const host_matrix> stacked, const packed_weight& to, const kernel_table& table)
      : stacked_{stacked}, to_{to}, table_{table} {}

  void pack_panel(std::int64_t panel, char* rounded, char* raw) const {
    const int columns = to_.panel_columns();
    const std::int64_t first = panel * columns;
    const int rows = static_cast<int>(std::min<std::int64_t>(columns, to_.rows() - first));
    const auto unit_bytes = static_cast<std::int64_t>(to_.unit_bytes());
    char* out = to_.data() + static_cast<std::size_t>(panel) * to_.panel_bytes();
    if (rows < columns) std::memset(out, 0, to_.panel_bytes());
    for (std::int64_t k = 0; k < to_.cols(); k += chunk_elements) {
      const std::int64_t count = std::min(chunk_elements, to_.cols() - k);
      const std::int64_t units = (count + to_.unit_elements() - 1) / to_.unit_elements();
      for (int r = 0; r < rows; ++r) {
        char* row = rounded + r * row_stride();
        read(row, source_of(first + r), k, count, raw);
        if (units * to_.unit_elements() > count) {  // the last pair is half
          std::memset(row + static_cast<std::size_t>(count) * size_of(to_.type()), 0, size_of(to_.type()));
        }
      }
      char* at = out + k / to_.unit_elements() * unit_bytes * columns;
      if (unit_bytes == 4) {
        interleave<std::uint32_t>(at, rounded, units, row_stride(), rows, columns);
      } else {
        interleave<std::uint16_t>(at, rounded, units, row_stride(), rows, columns);
      }
    }
  }

  /// Apart by a line more than a chunk, lest the rows share one set of the cache.
  std::int64_t row_stride() const {
    return chunk_elements * static_cast<std::int64_t>(size_of(to_.type())) + 64;
  }
  static constexpr std::int64_t raw_bytes = chunk_elements * 4;

 private:
  row_source source_of(std::int64_t row) const {
    const host_matrix* m = stacked_.data();
    for (; row >= m->rows; ++m) row -= m->rows;
    return {m, row};
  }

  /// Elements [k, k + count) of a row, rounded to the packed type.
  void read(char* out, row_source from, std::int64_t k, std::int64_t count, char* raw) const {
    const auto& m = *from.matrix;
    const auto size = static_cast<std::int64_t>(size_of(m.type));
    const char* in = static_cast<const char*>(m.data) +
                     (m.transposed ? k * m.rows + from.row : from.row * m.cols + k) * size;
    if (m.transposed) {
      for (std::int64_t i = 0; i < count; ++i) {
        std::memcpy(raw + i * size, in + i * m.rows * size, static_cast<std::size_t>(size));
      }
      in = raw;
    }
    if (m.type == to_.type()) {
      std::memcpy(out, in, static_cast<std::size_t>(count * size));
      return;
    }
    table_.convert[static_cast<int>(to_.type())][static_cast<int>(m.type)](out, in, count);
  }

  std::span<const host_matrix> stacked_;
  const packed_weight& to_;
  const kernel_table& table_;
};

}  // namespace

packed_weight::packed_weight(std::int64_t rows, std::int64_t cols, dtype type, const kernel_table& table)
    : weight{rows, cols, type},
      pairs_{type == dtype::bf16 && table.bf16_products},
      panel_columns_{table.gemm_tiles.panel_columns} {
  memory_ = allocate_memory(static_cast<std::size_t>(panels()) * panel_bytes());
}

std::unique_ptr<packed_weight> pack_weight(std::span<const host_matrix> stacked, dtype compute,
                                           const kernel_table& table, const thread_team& team) {
  if (stacked.empty()) throw std::invalid_argument("pack: no matrix given");
  std::int64_t rows = 0;
  for (const auto& m : stacked) {
    if (m.cols != stacked[0].cols || m.rows <= 0 || m.cols <= 0) {
      throw std::invalid_argument("pack: a matrix of " + std::to_string(m.rows) + " x " +
                                  std::to_string(m.cols) + " does not stack on one with " +
                                  std::to_string(stacked[0].cols) + " columns");
    }
    if (!is_float(m.type) || !is_float(compute))
      throw std::invalid_argument("pack: " + std::string{name_of(is_float(m.type) ? compute : m.type)} +
                                  " is no weight type");
    rows += m.rows;
  }
  auto packed = std::make_unique<packed_weight>(rows, stacked[0].cols, compute, table);
  const packer work{stacked, *packed, table};
  const auto buffer_bytes =
      static_cast<std::size_t>(work.row_stride() * packed->panel_columns() + packer::raw_bytes);
  std::vector<char> buffers(buffer_bytes * static_cast<std::size_t>(team.size()));
  team.run(rows * packed->cols() > (1 << 16), [&](int thread, int threads) {
    char* rounded = buffers.data() + buffer_bytes * static_cast<std::size_t>(thread);
    char* raw = rounded + work.row_stride() * packed->panel_columns();
    const share mine{packed->panels(), thread, threads};
    for (std::int64_t p = mine.first; p < mine.last; ++p) work.pack_panel(p, rounded, raw);
  });
  return packed;
}

}  // namespace fastserve::kernels::cpu
