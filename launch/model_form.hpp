#pragma once

#include "actors/model_work.hpp"
#include "launch/options.hpp"

namespace fastserve::launch {

/// How the settings want this model computed.
actors::model_form form_of(const options& settings, const model::architecture& arch);

}  // namespace fastserve::launch
