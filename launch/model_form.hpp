#pragma once

#include "actors/model_work.hpp"
#include "launch/options.hpp"

namespace fastserve::launch {

/// Whether weights come from no file. A file of the cluster's settings may name both a folder and a shape;
/// only benches and plans use the shape.
bool makes_weights_up(const options& settings);

/// How the settings want this model computed. Throws std::runtime_error with one line.
actors::model_form form_of(const options& settings, const model::architecture& arch);

}  // namespace fastserve::launch
