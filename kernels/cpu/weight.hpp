#pragma once

#include "kernels/backend.hpp"
#include "kernels/cpu/memory.hpp"
#include "kernels/cpu/table.hpp"
#include "kernels/cpu/team.hpp"

namespace fastserve::kernels::cpu {

/// A weight as the products want it: panels of `panel_columns` output features, each [units][panel_columns],
/// zero where the matrix ends. A unit is one element, or a pair of bf16 where those are multiplied as such.
class packed_weight final : public weight {
 public:
  packed_weight(std::int64_t rows, std::int64_t cols, dtype type, const kernel_table& table);

  dtype input_type() const override { return pairs_ ? dtype::bf16 : dtype::f32; }
  std::size_t bytes() const override { return memory_.bytes(); }
  std::span<const std::byte> storage() const override { return as_bytes(memory_); }

  /// Units along the input features.
  std::int64_t units() const { return pairs_ ? (cols() + 1) / 2 : cols(); }
  std::int64_t panels() const { return (rows() + panel_columns_ - 1) / panel_columns_; }
  int panel_columns() const { return panel_columns_; }
  /// Elements of one unit.
  int unit_elements() const { return pairs_ ? 2 : 1; }
  std::size_t unit_bytes() const { return size_of(type()) * static_cast<std::size_t>(unit_elements()); }
  std::size_t panel_bytes() const {
    return static_cast<std::size_t>(units()) * unit_bytes() * static_cast<std::size_t>(panel_columns_);
  }
  char* data() const { return static_cast<char*>(memory_.data()); }

 private:
  bool pairs_;
  int panel_columns_;
  buffer memory_;
};

/// Rows in host memory that someone else owns, at any alignment.
class row_table final : public weight {
 public:
  explicit row_table(const host_matrix& rows) : weight{rows.rows, rows.cols, rows.type}, data_{rows.data} {}
  dtype input_type() const override { return dtype::i32; }
  /// One row: a look-up reads no more.
  std::size_t bytes() const override { return row_bytes(); }
  std::size_t row_bytes() const { return static_cast<std::size_t>(cols()) * size_of(type()); }
  const char* row(std::int64_t i) const {
    return static_cast<const char*>(data_) + static_cast<std::size_t>(i) * row_bytes();
  }

 private:
  const void* data_;
};

/// backend::pack. Throws std::invalid_argument when the matrices do not stack, std::bad_alloc.
std::unique_ptr<packed_weight> pack_weight(std::span<const host_matrix> stacked, dtype compute,
                                           const kernel_table& table, const thread_team& team);

}  // namespace fastserve::kernels::cpu
