#pragma once

#include <string>
#include <string_view>

#include "model/tensor_names.hpp"
#include "model/weight_source.hpp"

namespace fastserve::model {

/// Refuses a tensor of the model's layers, embeddings, last norm or head that its architecture has no use
/// for: a norm or bias that config.json does not speak of would change every answer, and we would compute
/// without it. What other programs leave behind is accepted: tables of rotations, masks, scales of a rounded
/// KV cache, a tied head's copy, biases of zeros. Layers outside of `range` are left to the ranks that have
/// them. Throws std::runtime_error: file, tensor, what to do.
void refuse_extra_tensors(weight_source& from, const architecture& arch, const stage_range& range);

/// What such an error says behind the tensor's name.
std::string extra_tensor_text(std::string_view model_type);

}  // namespace fastserve::model
