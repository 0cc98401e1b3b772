#pragma once

#include <cstdint>

#include "model/json_object.hpp"
#include "model/rope.hpp"
#include "model/size_limits.hpp"

namespace fastserve::model {

/// Rotary embedding as a config.json says it: rope_theta beside rope_scaling {type or rope_type, ...} in
/// older files, all in rope_parameters since transformers 5. `max_positions` is the configured length. Throws
/// std::runtime_error with one line: file, key, found, expected.
rope_settings read_rope(const json_object& config, std::int32_t max_positions);

}  // namespace fastserve::model
