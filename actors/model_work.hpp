#pragma once

#include <optional>

#include "kernels/backend.hpp"
#include "model/architecture.hpp"
#include "model/stored_form.hpp"
#include "planner/work.hpp"

namespace fastserve::actors {

/// How a model's products compute and what its keys and values are kept in.
struct model_form {
  kernels::dtype compute = kernels::dtype::f32;
  std::optional<kernels::quantized_format> quantize;
  kernels::dtype kv = kernels::dtype::f32;
  std::optional<model::stored_form> stored = {};  ///< matrices that are integers already
};

/// What the planner needs to know of a model: operations, bytes and elements of each part.
planner::model_work work_of(const model::architecture& arch, const model_form& form);

/// What a product of that type, or of that format, computes with.
planner::arithmetic arithmetic_of(kernels::dtype compute,
                                  const std::optional<kernels::quantized_format>& format);

}  // namespace fastserve::actors
