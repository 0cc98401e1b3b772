#include "model/stage_weights.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string>

namespace fastserve::model {

/// Fills a stage_weights. Lives as long as the loading.
class stage_loader {
 public:
  stage_loader(stage_weights& to, const architecture& arch, weight_source& source, const stage_range& range,
               const weight_form& form, kernels::backend& on, kernels::stream& stream,
               const load_progress& progress, const stage_weights* kept)
      : to_{to},
        kept_{kept},
        arch_{arch},
        names_{names_of(arch.model_type)},
        source_{source},
        range_{range},
        form_{form},
        on_{on},
        stream_{stream},
        progress_{progress},
        prefix_{resolve_prefix(source, arch.model_type)} {
    const auto kept_names = names_of_kept();
    for (const auto& spec : tensors_of(arch_, range_, prefix_)) {
      check_tensor(source_, spec.name, spec.shape);
      if (!kept_names.contains(spec.name))
        bytes_total_ += static_cast<std::size_t>(spec.elements()) * kernels::size_of(arch_.stored_type);
    }
  }

  void run() {
    if (range_.embeds) load_embeddings();
    for (auto layer = range_.first_layer; layer < range_.last_layer; ++layer) {
      prefetch(layer + 1);
      auto kept = kept_layer(layer);
      to_.layers.push_back(kept ? std::move(kept) : std::make_shared<layer_weights>(load_layer(layer)));
    }
    if (range_.heads) load_head();
    stream_.synchronize();
    report(bytes_total_ - bytes_done_);
  }

 private:
  /// One of the matrices stacked into a projection.
  struct part {
    std::string name;
    std::int64_t rows;
  };

  std::shared_ptr<const layer_weights> kept_layer(std::int32_t layer) const {
    if (kept_ == nullptr || layer < kept_->range_.first_layer || layer >= kept_->range_.last_layer) return {};
    return kept_->layers[static_cast<std::size_t>(layer - kept_->range_.first_layer)];
  }
  bool keeps_embedding() const { return kept_ != nullptr && kept_->token_embedding; }
  bool keeps_head() const { return kept_ != nullptr && kept_->head; }

  /// Tensors that need not be read again.
  std::set<std::string> names_of_kept() const {
    std::set<std::string> out;
    const auto add = [&](const stage_range& range) {
      for (const auto& spec : tensors_of(arch_, range, prefix_)) out.insert(spec.name);
    };
    for (auto layer = range_.first_layer; layer < range_.last_layer; ++layer)
      if (kept_layer(layer)) add({layer, layer + 1, false, false});
    if (keeps_embedding()) add({0, 0, true, false});
    if (keeps_head() && !arch_.tied_head) out.insert(head_name());
    if (keeps_head() && arch_.tied_head && !range_.embeds) out.insert(embedding_name());
    return out;
  }

  // A head's matrix is never transposed, not even in GPT-2's files.
  std::string head_name() const {
    return arch_.tied_head ? embedding_name() : std::string(names_.head) + ".weight";
  }
  std::string embedding_name() const { return prefix_ + std::string(names_.token_embedding) + ".weight"; }

  /// The disk works on the next layer while this one is packed.
  void prefetch(std::int32_t layer) {
    if (layer >= range_.last_layer || kept_layer(layer)) return;
    for (const auto& spec : tensors_of(arch_, {layer, layer + 1, false, false}, prefix_))
      source_.prefetch(spec.name);
  }

  void load_embeddings() {
    if (keeps_embedding()) {
      to_.token_embedding = kept_->token_embedding;
      to_.position_embedding = kept_->position_embedding;
      return;
    }
    to_.token_embedding = table(embedding_name(), arch_.vocab_size);
    if (arch_.learned_positions)
      to_.position_embedding =
          table(prefix_ + std::string(names_.position_embedding) + ".weight", arch_.max_positions);
  }

  layer_weights load_layer(std::int32_t layer) {
    const auto name = [&](std::string_view module) { return layer_name(names_, prefix_, layer, module); };
    const std::int64_t hidden = arch_.hidden_size;
    const std::int64_t query = arch_.query_size();
    const std::int64_t kv = std::int64_t{arch_.kv_heads} * arch_.head_dim;
    const std::int64_t wide = arch_.intermediate_size;

    layer_weights out;
    vectors_ = &out.vectors;
    out.input_norm = norm(name(names_.input_norm), hidden, arch_.norm, arch_.norm_bias);
    if (!names_.fused_qkv.empty()) {
      out.qkv = linear({part{name(names_.fused_qkv), query + 2 * kv}}, hidden, arch_.qkv_bias);
    } else {
      out.qkv =
          linear({part{name(names_.query), query}, part{name(names_.key), kv}, part{name(names_.value), kv}},
                 hidden, arch_.qkv_bias);
    }
    if (arch_.query_key_norm) {
      out.query_norm = norm(name(names_.query_norm), arch_.head_dim, kernels::norm_kind::rms, false);
      out.key_norm = norm(name(names_.key_norm), arch_.head_dim, kernels::norm_kind::rms, false);
    }
    out.attention_output =
        linear({part{name(names_.attention_output), hidden}}, query, arch_.attention_output_bias);
    out.post_attention_norm = norm(name(names_.post_attention_norm), hidden, arch_.norm, arch_.norm_bias);
    if (arch_.gated_mlp) {
      out.up = linear({part{name(names_.gate), wide}, part{name(names_.up), wide}}, hidden, arch_.mlp_bias);
    } else {
      out.up = linear({part{name(names_.up), wide}}, hidden, arch_.mlp_bias);
    }
    out.down = linear({part{name(names_.down), hidden}}, wide, arch_.mlp_bias);
    return out;
  }

  void load_head() {
    vectors_ = &to_.final_vectors_;
    to_.final_norm =
        norm(prefix_ + std::string(names_.final_norm), arch_.hidden_size, arch_.norm, arch_.norm_bias);
    if (keeps_head()) {
      to_.head = kept_->head;
      return;
    }
    const auto name = head_name();
    if (auto stored = pack_stored({part{name, arch_.vocab_size}}, arch_.hidden_size)) {
      to_.head = std::move(stored);
    } else {
      const std::array matrix{read_matrix(source_, name, arch_.vocab_size, arch_.hidden_size)};
      to_.head = pack(matrix, head_format(form_));
    }
    source_.release(name);
    // the bytes of a tied head were counted with the embedding
    if (!(arch_.tied_head && range_.embeds))
      report_elements(std::int64_t{arch_.vocab_size} * arch_.hidden_size);
  }

  linear_weights linear(const std::vector<part>& parts, std::int64_t cols, bool bias) {
    linear_weights out;
    std::vector<part> named;
    for (const auto& p : parts) named.push_back({p.name + ".weight", p.rows});
    out.matrix = pack_stored(named, cols);
    if (!out.matrix) {
      std::vector<kernels::host_matrix> matrices;
      for (const auto& p : named)
        matrices.push_back(read_matrix(source_, p.name, p.rows, cols, arch_.transposed_linear));
      out.matrix = pack(matrices, form_.rounded);
    }
    for (const auto& p : parts) done(p.name + ".weight", p.rows * cols);
    if (bias) {
      std::vector<float> values;
      for (const auto& p : parts) {
        const auto one = read_vector(source_, p.name + ".bias", p.rows);
        values.insert(values.end(), one.begin(), one.end());
        done(p.name + ".bias", p.rows);
      }
      out.bias = upload(values);
    }
    return out;
  }

  /// Matrices that the files hold as integers stay what they are. Null where one of them is of numbers: then
  /// all are.
  std::unique_ptr<kernels::weight> pack_stored(const std::vector<part>& parts, std::int64_t cols) {
    if (arch_.transposed_linear) return nullptr;
    for (const auto& p : parts) {
      check_tensor(source_, p.name, {p.rows, cols});
      if (!source_.describe(p.name).quantized) return nullptr;
    }
    std::vector<kernels::quantized_tensor> tensors;
    for (const auto& p : parts) tensors.push_back(source_.quantized(p.name));
    std::vector<kernels::quantized_matrix> views;
    for (const auto& t : tensors) views.push_back(t.view());
    return on_.pack_quantized(views);
  }

  std::unique_ptr<kernels::weight> pack(std::span<const kernels::host_matrix> matrices,
                                        const std::optional<kernels::quantized_format>& rounded) {
    return rounded ? on_.quantize(matrices, *rounded) : on_.pack(matrices, form_.compute);
  }

  kernels::norm_weights norm(const std::string& name, std::int64_t size, kernels::norm_kind kind, bool bias) {
    kernels::norm_weights out;
    out.kind = kind;
    out.epsilon = arch_.norm_epsilon;
    out.gain = upload(read_vector(source_, name + ".weight", size));
    done(name + ".weight", size);
    if (bias) {
      out.bias = upload(read_vector(source_, name + ".bias", size));
      done(name + ".bias", size);
    }
    return out;
  }

  std::unique_ptr<kernels::weight> table(const std::string& name, std::int64_t rows) {
    auto out = on_.table(read_matrix(source_, name, rows, arch_.hidden_size));
    report_elements(rows * arch_.hidden_size);
    return out;  // not released: the table may live in the source's memory
  }

  kernels::tensor_view upload(const std::vector<float>& values) {
    auto& buffer = vectors_->emplace_back(on_.allocate(values.size() * sizeof(float)));
    const auto view = buffer.view(kernels::dtype::f32, 1, static_cast<std::int64_t>(values.size()));
    on_.upload(view, values.data(), stream_);
    return view;
  }

  void done(const std::string& name, std::int64_t elements) {
    source_.release(name);
    report_elements(elements);
  }

  void report_elements(std::int64_t elements) {
    report(static_cast<std::size_t>(elements) * kernels::size_of(arch_.stored_type));
  }

  void report(std::size_t bytes) {
    bytes_done_ += bytes;
    if (progress_) progress_(bytes_done_, bytes_total_);
  }

  stage_weights& to_;
  const stage_weights* kept_;
  std::vector<kernels::buffer>* vectors_ = nullptr;  // where upload() puts what it makes
  const architecture& arch_;
  const tensor_names& names_;
  weight_source& source_;
  const stage_range& range_;
  const weight_form& form_;
  kernels::backend& on_;
  kernels::stream& stream_;
  const load_progress& progress_;
  std::string prefix_;
  std::size_t bytes_done_ = 0;
  std::size_t bytes_total_ = 0;
};

std::optional<kernels::quantized_format> head_format(const weight_form& form) {
  auto format = form.rounded;
  if (format && format->bits < 8) *format = {8, 128, kernels::zero_kind::none, format->scale};
  return format;
}

stage_weights::stage_weights(const architecture& arch, weight_source& source, const stage_range& range,
                             const weight_form& form, kernels::backend& on, kernels::stream& stream,
                             const load_progress& progress, const stage_weights* kept)
    : range_{range} {
  stage_loader(*this, arch, source, range, form, on, stream, progress, kept).run();
}

void stage_weights::keep_only(const stage_range& range) {
  const auto first = std::clamp(range.first_layer, range_.first_layer, range_.last_layer);
  const auto last = std::clamp(range.last_layer, first, range_.last_layer);
  const auto begin = layers.begin();
  layers = {begin + (first - range_.first_layer), begin + (last - range_.first_layer)};
  range_.first_layer = first;
  range_.last_layer = last;
  if (!range.embeds) token_embedding = position_embedding = nullptr;
  if (!range.heads) head = nullptr;
  range_.embeds = range_.embeds && range.embeds;
  range_.heads = range_.heads && range.heads;
}

std::size_t stage_weights::step_bytes() const {
  std::size_t n = 0;
  for (const auto& buffer : final_vectors_) n += buffer.bytes();
  for (const auto& layer : layers) {
    for (const auto& buffer : layer->vectors) n += buffer.bytes();
    for (const auto* linear : {&layer->qkv, &layer->attention_output, &layer->up, &layer->down})
      n += linear->matrix->bytes();
  }
  if (head) n += head->bytes();
  return n;
}

std::size_t stage_weights::bytes() const {
  auto n = step_bytes();
  for (const auto* table : {token_embedding.get(), position_embedding.get()})
    if (table != nullptr)
      n += static_cast<std::size_t>(table->rows() * table->cols()) * kernels::size_of(table->type());
  return n;
}

}  // namespace fastserve::model
