#include "kernels/cpu/backend.hpp"

#include <cstring>
#include <stdexcept>

#include "kernels/cpu/dispatch.hpp"

namespace fastserve::kernels {
namespace cpu {
namespace {

class cpu_stream final : public stream {
 public:
  void synchronize() override {}
};

}  // namespace

device_info cpu_backend::info() const {
  const int threads = team_.size();
  return {.where = {},
          .name = std::string{table_.title} + ", " + std::to_string(threads) +
                  (threads == 1 ? " thread" : " threads"),
          .memory_bytes = available_memory(),
          .threads = threads};
}

std::unique_ptr<stream> cpu_backend::make_stream() { return std::make_unique<cpu_stream>(); }

void cpu_backend::upload(tensor_view to, const void* from, stream&) {
  assert(to.contiguous());
  if (to.bytes() > 0) std::memcpy(to.data, from, to.bytes());
}

void cpu_backend::download(void* to, tensor_view from, stream&) {
  assert(from.contiguous());
  if (from.bytes() > 0) std::memcpy(to, from.data, from.bytes());
}

void cpu_backend::copy(tensor_view to, tensor_view from, stream&) {
  assert(to.type == from.type && to.rows == from.rows && to.cols == from.cols);
  for (std::int64_t r = 0; r < to.rows; ++r) {
    const auto in = from.row_range(r, 1);
    if (in.bytes() > 0) std::memcpy(to.row_range(r, 1).data, in.data, in.bytes());
  }
}

std::unique_ptr<weight> cpu_backend::table(const host_matrix& rows) {
  if (rows.transposed) throw std::invalid_argument("table: rows must be stored one after another");
  if (!is_float(rows.type))
    throw std::invalid_argument("table: " + std::string{name_of(rows.type)} + " is no weight type");
  return std::make_unique<row_table>(rows);
}

}  // namespace cpu

std::unique_ptr<backend> make_cpu_backend(int threads, const std::string& isa) {
  return std::make_unique<cpu::cpu_backend>(threads, cpu::choose_table(isa));
}

}  // namespace fastserve::kernels
