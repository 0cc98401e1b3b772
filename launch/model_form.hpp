#pragma once

#include <string>

#include "actors/model_work.hpp"
#include "kernels/backend.hpp"
#include "launch/options.hpp"

namespace fastserve::launch {

/// Whether weights come from no file. A file of the cluster's settings may name both a folder and a shape;
/// only benches and plans use the shape.
bool makes_weights_up(const options& settings);

/// How the settings want this model computed. `keeps_fp8`: see model::read_stored_form(). Throws
/// std::runtime_error with one line.
actors::model_form form_of(const options& settings, const model::architecture& arch, bool keeps_fp8);

/// Why a rank's device cannot compute it so; empty when it can.
std::string form_objection(const actors::model_form& form, const kernels::backend& on, int rank,
                           const std::string& host);

}  // namespace fastserve::launch
