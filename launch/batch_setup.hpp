#pragma once

#include "launch/batch_input.hpp"
#include "launch/batch_journal.hpp"
#include "launch/options.hpp"

namespace fastserve::launch {

/// Everything that decides what the answers of a batch are: the input, the model's files, the settings that a
/// request may leave open. What only decides how fast they come (ranks, threads, batch sizes) is not in it.
/// Throws std::runtime_error when the model folder cannot be read.
batch_identity identify_batch(const input_facts& input, const options& settings);

/// Refuses (std::runtime_error) files that are one and the same.
void check_batch_paths(const options& settings);

/// The last part of the model folder's path: what answers call the model.
std::string model_name(const options& settings);

}  // namespace fastserve::launch
