#include "compress/layer_runner.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace fastserve::compress {
namespace {

using kernels::dtype;

void add_rows(gram& to, kernels::tensor_view value, kernels::backend& on, kernels::stream& stream) {
  if (to.size() == 0) to = gram(value.cols);
  for (std::int64_t r = 0; r < value.rows; r += 64) {
    const auto part = value.row_range(r, std::min<std::int64_t>(64, value.rows - r));
    to.add(static_cast<const float*>(on.host_read(part, stream)), part.rows, part.stride);
  }
}

}  // namespace

layer_runner::layer_runner(const model::architecture& arch, kernels::backend& on,
                           std::vector<std::vector<std::int32_t>> sequences)
    : arch_{arch},
      backend_{on},
      stream_{on.make_stream()},
      sequences_{std::move(sequences)},
      before_(sequences_.size()),
      after_(sequences_.size()) {}

void layer_runner::run(std::int32_t layer, model::weight_source& source, layer_inputs* inputs) {
  std::size_t longest = 1;
  for (const auto& s : sequences_) longest = std::max(longest, s.size());
  const auto rows = static_cast<std::int32_t>(longest);
  model::stage stage(arch_, source, {{layer, layer + 1, layer == 0, false}, dtype::f32, rows, 0}, backend_);
  if (inputs != nullptr)
    stage.set_tap([&](std::string_view what, std::int32_t, kernels::tensor_view value) {
      if (what == "input_norm") add_rows(inputs->qkv, value, backend_, *stream_);
      if (what == "attention") add_rows(inputs->attention_output, value, backend_, *stream_);
      if (what == "post_attention_norm") add_rows(inputs->up, value, backend_, *stream_);
      if (what == "activation") add_rows(inputs->down, value, backend_, *stream_);
    });
  const auto blocks = (rows + kernels::kv_block_tokens - 1) / kernels::kv_block_tokens;
  const auto kv = backend_.make_kv_store(stage.kv_shape(blocks, dtype::f32));
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    const auto& tokens = sequences_[i];
    const auto count = static_cast<std::int32_t>(tokens.size());
    kernels::step_layout step;
    if (layer == 0) step.token_ids.assign(tokens.begin(), tokens.end());
    step.positions.resize(tokens.size());
    std::iota(step.positions.begin(), step.positions.end(), 0);
    auto& sequence = step.sequences.emplace_back();
    sequence.first_row = 0;
    sequence.rows = count;
    sequence.first_position = 0;
    for (std::int32_t b = 0; b < blocks; ++b) sequence.blocks.push_back(b);
    const auto hidden = stage.hidden(count);
    if (layer > 0) backend_.upload(hidden, before_[i].data(), *stream_);
    stage.forward(step, *kv, *stream_);
    after_[i].resize(tokens.size() * static_cast<std::size_t>(arch_.hidden_size));
    backend_.download(after_[i].data(), hidden, *stream_);
  }
}

void layer_runner::advance() { before_.swap(after_); }

}  // namespace fastserve::compress
