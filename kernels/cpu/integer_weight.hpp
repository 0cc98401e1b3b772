#pragma once

#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cpu/memory.hpp"
#include "kernels/cpu/table.hpp"
#include "kernels/cpu/team.hpp"
#include "kernels/quantized.hpp"

namespace fastserve::kernels::cpu {

/// Stacked rows of one format, in panels of their own.
struct integer_section {
  quantized_format format;
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t panel_count = 0;
  std::size_t offset = 0;  ///< of the first panel in the weight's memory
  integer_panels panels;   ///< data is null until the memory exists

  std::size_t bytes() const {
    return static_cast<std::size_t>(panel_count) * static_cast<std::size_t>(panels.panel_bytes);
  }
};

/// Grouped integers as gemm_integers wants them (integer_panels in table.hpp). Parts of a stack may differ in
/// format, as a GGUF's queries and values do: parts of one format that follow each other share panels.
class integer_weight final : public weight {
 public:
  integer_weight(std::span<const quantized_format> formats, std::span<const std::int64_t> rows,
                 std::int64_t cols, const kernel_table& table);

  dtype input_type() const override { return dtype::q8; }
  std::size_t bytes() const override { return memory_.bytes(); }
  std::span<const std::byte> storage() const override { return as_bytes(memory_); }
  std::string format() const override;
  const std::vector<integer_section>& sections() const { return sections_; }
  char* panel(const integer_section& s, std::int64_t i) const {
    return static_cast<char*>(memory_.data()) + s.offset + i * s.panels.panel_bytes;
  }

 private:
  std::vector<integer_section> sections_;
  buffer memory_;
};

/// Row `row` as numbers, gathered from its panel. out: [cols]
void look_up_row(float* out, const integer_weight& from, std::int64_t row, const kernel_table& table);

/// backend::pack_quantized. Throws std::invalid_argument naming the shape or format at fault.
std::unique_ptr<integer_weight> pack_integers(std::span<const quantized_matrix> stacked,
                                              const kernel_table& table, const thread_team& team);
/// backend::quantize: rounds each row to nearest while packing.
std::unique_ptr<integer_weight> pack_integers(std::span<const host_matrix> stacked,
                                              const quantized_format& format, const kernel_table& table,
                                              const thread_team& team);

}  // namespace fastserve::kernels::cpu
