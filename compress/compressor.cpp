#include "compress/compressor.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <stdexcept>

#include "compress/edited_source.hpp"
#include "compress/layer_runner.hpp"
#include "compress/refinement.hpp"
#include "compress/rounding.hpp"
#include "compress/scale_search.hpp"
#include "compress/target.hpp"
#include "model/tensor_names.hpp"

namespace fastserve::compress {
namespace {

using model::tensor_spec;
using numbers = std::vector<float>;

constexpr std::array in_order{product::qkv, product::attention_output, product::up, product::down};
constexpr int refining_passes = 4;
constexpr double damping = 0.01;
constexpr std::int64_t judged_rows = 256;  // of each matrix, for the report

numbers numbers_of(const model::host_tensor& tensor, std::size_t count) {
  numbers out(count);
  kernels::to_f32(out.data(), tensor.data, tensor.type, count);
  return out;
}

/// One matrix of a layer on its way.
struct layer_matrix {
  std::string module;  ///< as the family calls it
  std::int64_t rows = 0, cols = 0;
  numbers original;  ///< what pruning by magnitude judges
  numbers values;    ///< scaled
  product reads{};
};

class model_compressor {
 public:
  model_compressor(const model::architecture& arch, model::weight_source& source,
                   const compress_options& options, kernels::backend& on, compressed_sink& sink,
                   const compress_progress& progress)
      : arch_{arch},
        names_{model::names_of(arch.model_type)},
        prefix_{model::resolve_prefix(source, arch.model_type)},
        source_{source},
        scaled_{source},
        rounded_{source},
        options_{options},
        sink_{sink},
        progress_{progress} {
    if (arch.transposed_linear || !names_.fused_qkv.empty())
      throw std::runtime_error(arch.model_type +
                               ": its matrices are stored fused or transposed, which compress does not "
                               "read; expected llama, mistral, qwen2 or qwen3");
    if (!options.calibration.empty()) runner_.emplace(arch, on, options.calibration);
  }

  std::vector<matrix_report> run() {
    using model::tensors_of;
    for (std::int32_t l = 0; l < arch_.layers; ++l)
      for (const auto& spec : layer_specs(l)) total_ += spec.vector ? 0 : spec.elements();
    for (const auto& spec : tensors_of(arch_, {0, 0, true, false}, prefix_)) copy(spec);
    for (std::int32_t l = 0; l < arch_.layers; ++l) compress_layer(l);
    for (const auto& spec : tensors_of(arch_, {arch_.layers, arch_.layers, false, true}, prefix_))
      // a tied head is the embedding, which is written already
      if (spec.vector || !arch_.tied_head) copy(spec);
    if (progress_) progress_(total_, total_);
    return std::move(reports_);
  }

 private:
  std::vector<tensor_spec> layer_specs(std::int32_t layer) const {
    return model::tensors_of(arch_, {layer, layer + 1, false, false}, prefix_);
  }
  std::string stem(std::int32_t layer, std::string_view module) const {
    return model::layer_name(names_, prefix_, layer, module);
  }

  void copy(const tensor_spec& spec) {
    sink_.copy(spec.name, model::read_tensor(source_, spec.name, spec.shape));
    source_.release(spec.name);
  }

  void compress_layer(std::int32_t layer) {
    if (runner_) inputs_ = runner_->observe(layer, source_, source_, {in_order.begin(), in_order.end()});
    load(layer);
    if (runner_ && options_.format) even_out(layer);
    if (runner_) {
      for (const auto& m : matrices_) replace(stem(layer, m.module) + ".weight", m.values);
      for (const auto& [name, values] : vectors_) replace(name, values);
    }
    for (const auto p : in_order) {
      if (runner_) look_again(layer, p);
      for (auto& m : matrices_)
        if (m.reads == p) round(layer, m);
    }
    for (const auto& spec : layer_specs(layer)) write(spec);
    if (runner_) runner_->advance(layer, rounded_);
    scaled_.forget_edits();
    rounded_.forget_edits();
    results_.clear();
    matrices_.clear();
    vectors_.clear();
  }

  /// What the product reads now that those before it are rounded.
  void look_again(std::int32_t layer, product p) {
    if (p != product::qkv)  // which are the first: nothing that they read has changed
      inputs_of(p) = std::move(runner_->observe(layer, scaled_, rounded_, {p})[static_cast<std::size_t>(p)]);
    factor_ = inverse_factor(inputs_of(p).seen, damping);
  }

  void replace(const std::string& name, const numbers& values) {
    scaled_.replace(name, values);
    rounded_.replace(name, values);
  }

  void load(std::int32_t layer) {
    for (const auto& spec : layer_specs(layer)) {
      const auto tensor = model::read_tensor(source_, spec.name, spec.shape);
      auto values = numbers_of(tensor, static_cast<std::size_t>(spec.elements()));
      source_.release(spec.name);
      if (spec.vector) {
        vectors_.emplace_back(spec.name, std::move(values));
        continue;
      }
      auto& m = matrices_.emplace_back();
      m.module = module_of(layer, spec.name);
      m.rows = spec.shape[0];
      m.cols = spec.shape[1];
      m.original = values;
      m.values = std::move(values);
      m.reads = reads(m.module);
    }
  }

  std::string module_of(std::int32_t layer, const std::string& name) const {
    const auto begin = stem(layer, "").size();
    return name.substr(begin, name.size() - begin - std::string_view(".weight").size());
  }

  product reads(std::string_view module) const {
    if (module == names_.attention_output) return product::attention_output;
    if (module == names_.down) return product::down;
    if (module == names_.up || module == names_.gate) return product::up;
    return product::qkv;
  }
  product_inputs& inputs_of(product p) { return inputs_[static_cast<std::size_t>(p)]; }

  layer_matrix& matrix(std::string_view module) {
    return *std::find_if(matrices_.begin(), matrices_.end(),
                         [&](const auto& m) { return m.module == module; });
  }
  numbers* vector(const std::string& name) {
    for (auto& [key, values] : vectors_)
      if (key == name) return &values;
    return nullptr;
  }

  /// Step 2. Later inputs first: their factors go into rows of matrices that are judged after that.
  void even_out(std::int32_t layer) {
    auto& value = matrix(names_.value);
    auto& output = matrix(names_.attention_output);
    std::vector<std::int32_t> shared;  // query heads that read one value head
    for (std::int32_t h = 0; h < arch_.heads; ++h)
      for (std::int32_t d = 0; d < arch_.head_dim; ++d)
        shared.push_back(h / (arch_.heads / arch_.kv_heads) * arch_.head_dim + d);
    const auto by_output = scale({&output}, shared);
    numbers of_value(static_cast<std::size_t>(value.rows));
    for (std::size_t i = 0; i < shared.size(); ++i)
      of_value[static_cast<std::size_t>(shared[i])] = by_output[i];
    divide_rows(layer, value, of_value);

    auto& up = matrix(names_.up);
    std::vector<layer_matrix*> read_norm{&up};
    if (arch_.gated_mlp) {
      divide_rows(layer, up, scale({&matrix(names_.down)}, {}));
      read_norm.push_back(&matrix(names_.gate));
    }
    divide_norm(layer, names_.post_attention_norm, scale(read_norm, {}));
    divide_norm(layer, names_.input_norm, scale({&matrix(names_.query), &matrix(names_.key), &value}, {}));
  }

  /// Multiplies the columns, divides the inputs, returns the factors.
  numbers scale(const std::vector<layer_matrix*>& of, const std::vector<std::int32_t>& shared) {
    auto& inputs = inputs_of(of.front()->reads);
    std::vector<scaled_matrix> all;
    for (const auto* m : of) all.push_back({m->values.data(), m->rows});
    const auto cols = of.front()->cols;
    auto factors = search_scales(all, cols, inputs.seen, *options_.format, shared);
    for (auto* m : of)
      for (std::size_t i = 0; i < m->values.size(); ++i)
        m->values[i] *= factors[i % static_cast<std::size_t>(cols)];
    inputs.seen = inputs.seen.divided(factors);
    for (auto& half : inputs.off) half.divide(factors);
    return factors;
  }

  void divide_rows(std::int32_t layer, layer_matrix& m, const numbers& by) {
    const auto cols = static_cast<std::size_t>(m.cols);
    for (std::size_t i = 0; i < m.values.size(); ++i) m.values[i] /= by[i / cols];
    if (auto* bias = vector(stem(layer, m.module) + ".bias"))
      for (std::size_t i = 0; i < bias->size(); ++i) (*bias)[i] /= by[i];
    m.original = m.values;  // what it should be from now on
  }

  void divide_norm(std::int32_t layer, std::string_view module, const numbers& by) {
    for (const auto* suffix : {".weight", ".bias"})
      if (auto* values = vector(stem(layer, module) + suffix))
        for (std::size_t i = 0; i < values->size(); ++i) (*values)[i] /= by[i];
  }

  void round(std::int32_t layer, layer_matrix& m) {
    if (progress_) progress_(done_, total_);
    done_ += m.rows * m.cols;
    matrix_report report{layer, m.module, 0, 0};
    const auto stride = runner_ ? std::max<std::int64_t>(1, m.rows / judged_rows) : 1;
    const auto cols = static_cast<std::size_t>(m.cols);
    const auto* seen = runner_ ? &inputs_of(m.reads).seen : nullptr;
    const auto error = [&](const numbers& w, const compressed_matrix& as) {
      return relative_error(w.data(), as.values.data(), m.rows, m.cols, seen, stride);
    };

    rounding_options plain{options_.format};
    const numbers equal(cols, 1.0F);
    const auto by_magnitude = keep_mask(options_.prune, m.original.data(), m.rows, m.cols, equal);
    if (options_.prune.any()) plain.keep = &by_magnitude;
    const auto name = stem(layer, m.module) + ".weight";
    auto& result = results_[name];
    result = round_nearest(m.values.data(), m.rows, m.cols, plain);
    const auto moved =
        runner_ ? least_squares_target(m.values.data(), m.rows, m.cols, factor_, inputs_of(m.reads).off)
                : numbers{};
    const auto& target = runner_ ? moved : m.values;
    report.nearest = report.compressed = error(target, result);

    if (runner_) {
      numbers importance(cols);
      for (std::int64_t c = 0; c < m.cols; ++c) importance[static_cast<std::size_t>(c)] = seen->at(c, c);
      const auto by_inputs = keep_mask(options_.prune, target.data(), m.rows, m.cols, importance);
      rounding_options fed_back{options_.format, true, damping};
      if (options_.prune.any()) fed_back.keep = &by_inputs;
      auto better = round_with_feedback(target.data(), m.rows, m.cols, factor_, fed_back);
      refine(better, target.data(), m.rows, m.cols, *seen, fed_back, refining_passes);
      if (const auto left = error(target, better); left < report.nearest) {
        result = std::move(better);
        report.compressed = left;
      }
      rounded_.replace(name, result.values);
    }
    reports_.push_back(std::move(report));
  }

  void write(const tensor_spec& spec) {
    if (spec.vector) {
      sink_.numbers(spec.name, spec.shape, *vector(spec.name), true);
      return;
    }
    const auto& result = results_.at(spec.name);
    if (result.integers)
      sink_.matrix(spec.name, *result.integers);
    else
      sink_.numbers(spec.name, spec.shape, result.values, false);
  }

  const model::architecture& arch_;
  const model::tensor_names& names_;
  std::string prefix_;
  model::weight_source& source_;
  edited_source scaled_;   ///< the layer after step 2: still what the original computes
  edited_source rounded_;  ///< the same, its matrices replaced as they are rounded
  const compress_options& options_;
  compressed_sink& sink_;
  const compress_progress& progress_;
  std::optional<layer_runner> runner_;
  std::array<product_inputs, products> inputs_;
  numbers factor_;  ///< inverse_factor() of those of the product that is being rounded
  std::vector<layer_matrix> matrices_;
  std::vector<std::pair<std::string, numbers>> vectors_;
  std::map<std::string, compressed_matrix> results_;
  std::vector<matrix_report> reports_;
  std::int64_t done_ = 0;
  std::int64_t total_ = 0;
};

}  // namespace

std::vector<matrix_report> compress_model(const model::architecture& arch, model::weight_source& source,
                                          const compress_options& options, kernels::backend& on,
                                          compressed_sink& sink, const compress_progress& progress) {
  return model_compressor(arch, source, options, on, sink, progress).run();
}

}  // namespace fastserve::compress
