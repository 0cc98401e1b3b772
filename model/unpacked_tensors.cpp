#include "model/unpacked_tensors.hpp"

#include <algorithm>

#include "kernels/e4m3.hpp"

namespace fastserve::model {

void write_numbers(float* out, const kernels::quantized_tensor& from) {
  const auto view = from.view();
  const auto group = from.format.group_columns(from.cols);
  const bool is_signed = from.format.zero == kernels::zero_kind::none;
  const auto* code = view.codes;
  for (std::int64_t r = 0, g = 0; r < from.rows; ++r)
    for (std::int64_t begin = 0; begin < from.cols; begin += group, ++g) {
      const auto scale = view.scales[g];
      const int zero = view.zeros == nullptr ? 0 : view.zeros[g];
      const auto offset = view.offsets == nullptr ? 0.0F : view.offsets[g];
      const auto count = std::min(group, from.cols - begin);
      for (std::int64_t i = 0; i < count; ++i, ++code) {
        if (kernels::is_fp8(from.format)) {
          *out++ = scale * kernels::e4m3_values[*code];
          continue;
        }
        const int q = is_signed ? static_cast<std::int8_t>(*code) : *code;
        *out++ = scale * static_cast<float>(q - zero) + offset;
      }
    }
}

}  // namespace fastserve::model
