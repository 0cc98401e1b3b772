#pragma once

#include <cstdint>

#include "model/json_object.hpp"
#include "model/rope.hpp"

namespace fastserve::model {

/// Longest sequence that we believe in.
inline constexpr std::int32_t most_positions = 1 << 28;

/// Rotary embedding as a config.json says it: rope_theta beside rope_scaling {type or rope_type, ...} in
/// older files, all in rope_parameters since transformers 5. `max_positions` is the configured length. Throws
/// std::runtime_error with one line: file, key, found, expected.
rope_settings read_rope(const json_object& config, std::int32_t max_positions);

}  // namespace fastserve::model
