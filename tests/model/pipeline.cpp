#include "pipeline.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fastserve::model::test {

pipeline::pipeline(const architecture& arch, weight_source& source, kernels::backend& on, std::int32_t stages,
                   kernels::dtype compute, kernels::dtype kv_type, std::int32_t max_rows,
                   const std::optional<kernels::quantized_format>& rounded)
    : arch_{arch},
      on_{on},
      stream_{on.make_stream()},
      max_rows_{max_rows},
      blocks_{(std::min(arch.max_positions, 512) + kernels::kv_block_tokens - 1) / kernels::kv_block_tokens} {
  for (const auto& range : even_ranges(arch, stages)) {
    stages_.push_back(std::make_unique<stage>(
        arch, source, stage_options{range, compute, max_rows, max_rows, rounded}, on));
    kv_.push_back(on.make_kv_store(stages_.back()->kv_shape(blocks_, kv_type)));
  }
}

logit_rows pipeline::feed(std::span<const std::int32_t> tokens, std::size_t chunk) {
  logit_rows out;
  const auto most = static_cast<std::size_t>(max_rows_);
  chunk = chunk == 0 ? most : std::min(chunk, most);
  for (std::size_t i = 0; i < tokens.size(); i += chunk)
    step(tokens.subspan(i, std::min(chunk, tokens.size() - i)), out);
  return out;
}

void pipeline::step(std::span<const std::int32_t> tokens, logit_rows& out) {
  const auto rows = static_cast<std::int32_t>(tokens.size());
  kernels::step_layout layout;
  layout.token_ids.assign(tokens.begin(), tokens.end());
  for (std::int32_t i = 0; i < rows; ++i) {
    layout.positions.push_back(position_ + i);
    layout.sampled_rows.push_back(i);
  }
  kernels::step_sequence sequence{0, rows, position_, {}};
  // blocks in an order of no order: a store that assumes neighbours would show
  for (std::int32_t b = 0; b * kernels::kv_block_tokens < position_ + rows; ++b)
    sequence.blocks.push_back((blocks_ - 1 - b + blocks_ / 2) % blocks_);
  layout.sequences.push_back(sequence);
  position_ += rows;

  for (std::size_t s = 0; s < stages_.size(); ++s) {
    if (s > 0) {
      on_.copy(stages_[s]->hidden(rows), stages_[s - 1]->hidden(rows), *stream_);
      layout.token_ids.clear();
    }
    stages_[s]->forward(layout, *kv_[s], *stream_);
  }
  const auto logits = values_of(on_, *stream_, stages_.back()->logits(rows));
  const auto vocab = static_cast<std::size_t>(arch_.vocab_size);
  for (std::size_t i = 0; i < tokens.size(); ++i)
    out.emplace_back(logits.begin() + static_cast<std::ptrdiff_t>(i * vocab),
                     logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab));
}

std::vector<float> values_of(kernels::backend& on, kernels::stream& stream, kernels::tensor_view view) {
  std::vector<std::byte> raw(view.bytes());
  on.download(raw.data(), view, stream);
  std::vector<float> out(static_cast<std::size_t>(view.rows * view.cols));
  kernels::to_f32(out.data(), raw.data(), view.type, out.size());
  return out;
}

double relative_error(std::span<const float> got, std::span<const float> want) {
  double worst = 0.0;
  double scale = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (!std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::abs(double{got[i]} - want[i]));
    scale = std::max(scale, std::abs(double{want[i]}));
  }
  return worst / scale;
}

std::int32_t argmax(std::span<const float> row) {
  return static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

}  // namespace fastserve::model::test
