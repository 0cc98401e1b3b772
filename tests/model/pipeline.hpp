#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "model/stage.hpp"

namespace fastserve::model::test {

using logit_rows = std::vector<std::vector<float>>;

/// A model cut into stages that run one after another in this process, over one sequence.
class pipeline {
 public:
  pipeline(const architecture& arch, weight_source& source, kernels::backend& on, std::int32_t stages,
           kernels::dtype compute, kernels::dtype kv_type, std::int32_t max_rows = 64,
           const std::optional<kernels::quantized_format>& rounded = {});

  /// Continues the sequence by `tokens`, at most `chunk` a step; 0 = as many as fit. Logits of each of them.
  logit_rows feed(std::span<const std::int32_t> tokens, std::size_t chunk = 0);
  logit_rows feed(std::initializer_list<std::int32_t> tokens) {
    return feed(std::span(tokens.begin(), tokens.size()));
  }

  std::vector<std::unique_ptr<stage>>& stages() { return stages_; }
  /// Forgets the sequence.
  void restart() { position_ = 0; }

 private:
  void step(std::span<const std::int32_t> tokens, logit_rows& out);

  architecture arch_;
  kernels::backend& on_;
  std::unique_ptr<kernels::stream> stream_;
  std::int32_t max_rows_;
  std::int32_t blocks_;
  std::int32_t position_ = 0;
  std::vector<std::unique_ptr<stage>> stages_;
  std::vector<std::unique_ptr<kernels::kv_store>> kv_;
};

/// f32 values of a tensor.
std::vector<float> values_of(kernels::backend& on, kernels::stream& stream, kernels::tensor_view view);

/// max |got - want| / max |want|; infinity when a value is not finite.
double relative_error(std::span<const float> got, std::span<const float> want);

/// Lowest index of the maximum.
std::int32_t argmax(std::span<const float> row);

}  // namespace fastserve::model::test
