#include "compress/layer_runner.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "compress/product_sums.hpp"

namespace fastserve::compress {

using kernels::dtype;

using rows_of = std::vector<float>;  ///< of a tensor, one after another

/// Of one sequence: a product's inputs, and the residual that its results are added to (empty where they are
/// added to none).
struct seen_rows {
  std::int64_t cols = 0;
  rows_of input, residual;
};

namespace {

rows_of difference(const rows_of& a, const rows_of& b) {
  rows_of out(a.size());
  std::transform(a.begin(), a.end(), b.begin(), out.begin(), std::minus<>{});
  return out;
}

/// The inputs of one product of both models, sequence by sequence.
class input_sums {
 public:
  input_sums(bool with_drift, kernels::backend& on, kernels::stream& stream)
      : with_drift_{with_drift}, backend_{on}, stream_{stream} {}

  void add(std::size_t half, const seen_rows& original, const seen_rows& changed) {
    const auto cols = changed.cols;
    rows_ += static_cast<std::int64_t>(changed.input.size()) / cols;
    magnitudes_.resize(static_cast<std::size_t>(cols));
    for (std::size_t i = 0; i < changed.input.size(); ++i)
      magnitudes_[i % magnitudes_.size()] += std::abs(changed.input[i]);
    add(seen_, changed.input, changed);
    if (!with_drift_) return;
    add(inputs_off_[half], difference(original.input, changed.input), changed);
    if (!changed.residual.empty())
      add(residuals_off_[half], difference(original.residual, changed.residual), changed);
  }
  product_inputs result() const {
    const auto values = [](const std::optional<product_sums>& of) {
      return of ? of->values() : std::vector<float>{};
    };
    const auto off = [&](std::size_t half) {
      return drift{values(inputs_off_[half]), values(residuals_off_[half])};
    };
    return {gram(values(seen_), magnitudes_, rows_), {off(0), off(1)}};
  }

 private:
  void add(std::optional<product_sums>& to, const rows_of& left, const seen_rows& changed) {
    const auto tokens = changed.input.size() / static_cast<std::size_t>(changed.cols);
    if (!to) to.emplace(static_cast<std::int64_t>(left.size() / tokens), changed.cols, backend_, stream_);
    to->add(left, changed.input);
  }

  bool with_drift_;
  kernels::backend& backend_;
  kernels::stream& stream_;
  std::int64_t rows_ = 0;
  std::vector<double> magnitudes_;
  std::optional<product_sums> seen_;
  std::array<std::optional<product_sums>, 2> inputs_off_, residuals_off_;
};

}  // namespace

/// One model's layer, with which sequences are run one by one.
class layer_runner::walker {
 public:
  walker(layer_runner& of, std::int32_t layer, model::weight_source& source, bool watches)
      : of_{of},
        layer_{layer},
        rows_{longest(of.sequences_)},
        blocks_{(rows_ + kernels::kv_block_tokens - 1) / kernels::kv_block_tokens},
        stage_{of.arch_, source, {{layer, layer + 1, layer == 0, false}, dtype::f32, rows_, 0}, of.backend_},
        kv_{of.backend_.make_kv_store(stage_.kv_shape(blocks_, dtype::f32))} {
    if (watches)
      stage_.set_tap([this](std::string_view what, std::int32_t, kernels::tensor_view value) {
        if (what == "embedding") copy(at(product::attention_output).residual, value);
        if (what == "input_norm") copy_input(product::qkv, value);
        if (what == "attention") copy_input(product::attention_output, value);
        if (what == "attention_residual") copy(at(product::down).residual, value);
        if (what == "post_attention_norm") copy_input(product::up, value);
        if (what == "activation") copy_input(product::down, value);
      });
  }

  const seen_rows& seen(product p) const { return seen_[static_cast<std::size_t>(p)]; }

  /// `hidden`: what the layer before left of this sequence; becomes what this one does.
  void run(std::size_t sequence, const std::vector<float>& hidden) {
    const auto& tokens = of_.sequences_[sequence];
    const auto count = static_cast<std::int32_t>(tokens.size());
    kernels::step_layout step;
    if (layer_ == 0) step.token_ids.assign(tokens.begin(), tokens.end());
    step.positions.resize(tokens.size());
    std::iota(step.positions.begin(), step.positions.end(), 0);
    auto& s = step.sequences.emplace_back();
    s.first_row = 0;
    s.rows = count;
    s.first_position = 0;
    for (std::int32_t b = 0; b < blocks_; ++b) s.blocks.push_back(b);
    if (layer_ > 0) {
      of_.backend_.upload(stage_.hidden(count), hidden.data(), *of_.stream_);
      at(product::attention_output).residual = hidden;
    }
    stage_.forward(step, *kv_, *of_.stream_);
  }

  void leave(std::size_t sequence, std::vector<float>& hidden) {
    const auto tokens = of_.sequences_[sequence].size();
    hidden.resize(tokens * static_cast<std::size_t>(of_.arch_.hidden_size));
    of_.backend_.download(hidden.data(), stage_.hidden(static_cast<std::int32_t>(tokens)), *of_.stream_);
  }

 private:
  static std::int32_t longest(const std::vector<std::vector<std::int32_t>>& sequences) {
    std::size_t out = 1;
    for (const auto& s : sequences) out = std::max(out, s.size());
    return static_cast<std::int32_t>(out);
  }
  seen_rows& at(product p) { return seen_[static_cast<std::size_t>(p)]; }
  void copy_input(product p, kernels::tensor_view value) {
    at(p).cols = value.cols;
    copy(at(p).input, value);
  }
  void copy(rows_of& to, kernels::tensor_view value) {
    to.resize(static_cast<std::size_t>(value.rows * value.cols));
    const auto* from = static_cast<const float*>(of_.backend_.host_read(value, *of_.stream_));
    for (std::int64_t r = 0; r < value.rows; ++r)
      std::copy_n(from + r * value.stride, value.cols, to.data() + r * value.cols);
  }

  layer_runner& of_;
  std::int32_t layer_;
  std::int32_t rows_;
  std::int32_t blocks_;
  model::stage stage_;
  std::unique_ptr<kernels::kv_store> kv_;
  std::array<seen_rows, products> seen_;
};

layer_runner::layer_runner(const model::architecture& arch, kernels::backend& on,
                           std::vector<std::vector<std::int32_t>> sequences)
    : arch_{arch},
      backend_{on},
      stream_{on.make_stream()},
      sequences_{std::move(sequences)},
      original_(sequences_.size()),
      original_after_(sequences_.size()),
      changed_(sequences_.size()) {}

std::array<product_inputs, products> layer_runner::observe(std::int32_t layer, model::weight_source& original,
                                                           model::weight_source& changed,
                                                           const std::vector<product>& wanted) {
  walker first(*this, layer, original, true);
  walker second(*this, layer, changed, true);
  std::vector<input_sums> sums;
  for (const auto p : wanted) sums.emplace_back(p == wanted.front(), backend_, *stream_);
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    first.run(i, original_[i]);
    first.leave(i, original_after_[i]);
    second.run(i, changed_[i]);
    for (std::size_t w = 0; w < wanted.size(); ++w)
      sums[w].add(2 * i / sequences_.size(), first.seen(wanted[w]), second.seen(wanted[w]));
  }
  std::array<product_inputs, products> out;
  for (std::size_t w = 0; w < wanted.size(); ++w) out[static_cast<std::size_t>(wanted[w])] = sums[w].result();
  return out;
}

void layer_runner::advance(std::int32_t layer, model::weight_source& changed) {
  walker second(*this, layer, changed, false);
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    second.run(i, changed_[i]);
    second.leave(i, changed_[i]);
  }
  original_.swap(original_after_);
}

}  // namespace fastserve::compress
