#include "model/stage_weights.hpp"

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <set>
#include <string>

#include "model/extra_tensors.hpp"
#include "model/tensor_loader.hpp"

namespace fastserve::model {

/// Fills a stage_weights. Lives as long as the loading.
class stage_loader {
 public:
  stage_loader(stage_weights& to, const architecture& arch, weight_source& source, const stage_range& range,
               const weight_form& form, kernels::backend& on, kernels::stream& stream,
               const load_progress& progress, const stage_weights* kept, pack_cache* cache)
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
        prefix_{resolve_prefix(source, arch.model_type)},
        loader_{source, form.compute, on, cache} {
    refuse_extra_tensors(source_, arch_, range_);
    const auto kept_names = names_of_kept();
    for (const auto& spec : tensors_of(arch_, range_, prefix_)) {
      check_tensor(source_, spec.name, spec.shape);
      if (!kept_names.contains(spec.name))
        bytes_total_ += static_cast<std::size_t>(spec.elements()) * kernels::size_of(arch_.stored_type);
    }
    if (on_.embeds_packed() && (range_.embeds || (range_.heads && arch_.tied_head)))
      integer_embedding_ = form_.rounded || loader_.keeps_codes(head_stack(embedding_name()));
  }

  void run() {
    to_.layers.resize(static_cast<std::size_t>(range_.last_layer - range_.first_layer));
    std::vector<std::function<void()>> groups;
    const auto group = [&](std::function<void()> load) {
      loader_.begin_group();
      groups.push_back(std::move(load));
    };
    if (range_.embeds) {
      group([this] { load_embeddings(); });
      expect_embeddings();
    }
    for (auto layer = range_.first_layer; layer < range_.last_layer; ++layer) {
      auto& place = to_.layers[static_cast<std::size_t>(layer - range_.first_layer)];
      if ((place = kept_layer(layer))) continue;
      group([this, layer, &place] { place = std::make_shared<layer_weights>(load_layer(layer)); });
      expect_layer(layer);
    }
    if (range_.heads) {
      group([this] { load_head(); });
      expect_head();
    }
    for (const auto i : loader_.start()) groups[i]();
    if (range_.heads && !to_.head) to_.head = to_.token_embedding;
    stream_.synchronize();
    to_.read_bytes_ = loader_.bytes();
    to_.cached_bytes_ = loader_.cached_bytes();
    report(bytes_total_ - bytes_done_);
  }

 private:
  using stack = matrix_stack;

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
  std::string positions_name() const { return prefix_ + std::string(names_.position_embedding) + ".weight"; }
  std::string final_norm_name() const { return prefix_ + std::string(names_.final_norm); }
  std::string name(std::int32_t layer, std::string_view module) const {
    return layer_name(names_, prefix_, layer, module);
  }

  stack head_stack(const std::string& name) const {
    return {{{name, arch_.vocab_size}}, arch_.hidden_size, false};
  }
  stack layer_stack(std::initializer_list<stack::part> parts, std::int64_t cols) const {
    stack out{{}, cols, arch_.transposed_linear};
    for (const auto& p : parts) out.parts.push_back({p.name + ".weight", p.rows});
    return out;
  }
  stack gated_stack(std::initializer_list<stack::part> parts, std::int64_t cols) {
    auto out = layer_stack(parts, cols);
    const auto turn = on_.gated_turn(arch_.act, form_.compute);
    if (loader_.can_take_turns(out, turn)) out.turn = turn;
    return out;
  }
  struct layer_stacks {
    stack qkv, attention_output, up, down;
  };
  layer_stacks stacks_of(std::int32_t layer) {
    const std::int64_t hidden = arch_.hidden_size;
    const std::int64_t query = arch_.query_size();
    const std::int64_t kv = std::int64_t{arch_.kv_heads} * arch_.head_dim;
    const std::int64_t wide = arch_.intermediate_size;
    layer_stacks out;
    if (names_.fused_qkv.empty())
      out.qkv = layer_stack({{name(layer, names_.query), query},
                             {name(layer, names_.key), kv},
                             {name(layer, names_.value), kv}},
                            hidden);
    else
      out.qkv = layer_stack({{name(layer, names_.fused_qkv), query + 2 * kv}}, hidden);
    out.attention_output = layer_stack({{name(layer, names_.attention_output), hidden}}, query);
    if (arch_.gated_mlp)
      out.up = gated_stack({{name(layer, names_.gate), wide}, {name(layer, names_.up), wide}}, hidden);
    else
      out.up = layer_stack({{name(layer, names_.up), wide}}, hidden);
    out.down = layer_stack({{name(layer, names_.down), hidden}}, wide);
    return out;
  }

  void expect_embeddings() {
    if (keeps_embedding()) return;
    if (!integer_embedding_)
      loader_.expect(embedding_name());
    else if (!(arch_.tied_head && keeps_head()))
      loader_.expect(head_stack(embedding_name()), head_format(form_));
    if (arch_.learned_positions) loader_.expect(positions_name());
  }
  void expect_layer(std::int32_t layer) {
    const auto stacks = stacks_of(layer);
    for (const auto* s : {&stacks.qkv, &stacks.attention_output, &stacks.up, &stacks.down})
      loader_.expect(*s, form_.rounded);
    for (const auto& spec : tensors_of(arch_, {layer, layer + 1, false, false}, prefix_))
      if (spec.vector) loader_.expect(spec.name);
  }
  void expect_head() {
    for (const auto& spec : tensors_of(arch_, {0, 0, false, true}, prefix_))
      if (spec.vector) loader_.expect(spec.name);
    if (!keeps_head() && !shares_embedding()) loader_.expect(head_stack(head_name()), head_format(form_));
  }
  /// The head is the embedding of integers that this stage has or will have.
  bool shares_embedding() const {
    return arch_.tied_head && integer_embedding_ && (range_.embeds || keeps_embedding());
  }

  void load_embeddings() {
    if (keeps_embedding()) {
      to_.token_embedding = kept_->token_embedding;
      to_.position_embedding = kept_->position_embedding;
      return;
    }
    const auto name = embedding_name();
    if (!integer_embedding_)
      to_.token_embedding = loader_.table(name, arch_.vocab_size, arch_.hidden_size);
    else if (arch_.tied_head && keeps_head())
      to_.token_embedding = kept_->head;
    else
      to_.token_embedding = loader_.matrix(head_stack(name));
    report_elements(std::int64_t{arch_.vocab_size} * arch_.hidden_size);
    if (!arch_.learned_positions) return;
    to_.position_embedding = loader_.table(positions_name(), arch_.max_positions, arch_.hidden_size);
    report_elements(std::int64_t{arch_.max_positions} * arch_.hidden_size);
  }

  layer_weights load_layer(std::int32_t layer) {
    const auto stacks = stacks_of(layer);
    layer_weights out;
    vectors_ = &out.vectors;
    out.input_norm = norm(name(layer, names_.input_norm), arch_.hidden_size, arch_.norm, arch_.norm_bias);
    out.qkv = linear(stacks.qkv, arch_.qkv_bias);
    if (arch_.query_key_norm) {
      out.query_norm = norm(name(layer, names_.query_norm), arch_.head_dim, kernels::norm_kind::rms, false);
      out.key_norm = norm(name(layer, names_.key_norm), arch_.head_dim, kernels::norm_kind::rms, false);
    }
    out.attention_output = linear(stacks.attention_output, arch_.attention_output_bias);
    out.post_attention_norm =
        norm(name(layer, names_.post_attention_norm), arch_.hidden_size, arch_.norm, arch_.norm_bias);
    out.up = linear(stacks.up, arch_.mlp_bias);
    out.down = linear(stacks.down, arch_.mlp_bias);
    return out;
  }

  void load_head() {
    vectors_ = &to_.final_vectors_;
    to_.final_norm = norm(final_norm_name(), arch_.hidden_size, arch_.norm, arch_.norm_bias);
    if (keeps_head()) {
      to_.head = kept_->head;
      return;
    }
    if (shares_embedding()) {
      // groups come in the order of the files, which need not be that of the model: see run()
      to_.head = keeps_embedding() ? kept_->token_embedding : to_.token_embedding;
    } else {
      to_.head = loader_.matrix(head_stack(head_name()));
    }
    // the bytes of a tied head were counted with the embedding
    if (!(arch_.tied_head && range_.embeds))
      report_elements(std::int64_t{arch_.vocab_size} * arch_.hidden_size);
  }

  linear_weights linear(const stack& matrices, bool bias) {
    linear_weights out;
    out.matrix = loader_.matrix(matrices);
    out.in_turns = matrices.turn > 0;
    for (const auto& p : matrices.parts) report_elements(p.rows * matrices.cols);
    if (!bias) return out;
    std::vector<std::vector<float>> parts;
    for (const auto& p : matrices.parts)
      parts.push_back(vector(p.name.substr(0, p.name.size() - suffix.size()) + ".bias", p.rows));
    std::vector<float> values;
    const auto rows = static_cast<std::ptrdiff_t>(parts.front().size());
    const auto turn = matrices.turn > 0 ? static_cast<std::ptrdiff_t>(matrices.turn) : rows;
    for (std::ptrdiff_t first = 0; first < rows; first += turn)
      for (const auto& part : parts)
        values.insert(values.end(), part.begin() + first,
                      matrices.turn > 0 ? part.begin() + first + turn : part.end());
    out.bias = upload(values);
    return out;
  }

  kernels::norm_weights norm(const std::string& name, std::int64_t size, kernels::norm_kind kind, bool bias) {
    kernels::norm_weights out;
    out.kind = kind;
    out.epsilon = arch_.norm_epsilon;
    out.gain = upload(vector(name + ".weight", size));
    if (bias) out.bias = upload(vector(name + ".bias", size));
    return out;
  }

  std::vector<float> vector(const std::string& name, std::int64_t size) {
    auto out = loader_.vector(name, size);
    report_elements(size);
    return out;
  }

  kernels::tensor_view upload(const std::vector<float>& values) {
    auto& buffer = vectors_->emplace_back(on_.allocate(values.size() * sizeof(float)));
    const auto view = buffer.view(kernels::dtype::f32, 1, static_cast<std::int64_t>(values.size()));
    on_.upload(view, values.data(), stream_);
    return view;
  }

  void report_elements(std::int64_t elements) {
    report(static_cast<std::size_t>(elements) * kernels::size_of(arch_.stored_type));
  }

  void report(std::size_t bytes) {
    bytes_done_ += bytes;
    if (progress_) progress_(bytes_done_, bytes_total_);
  }

  static constexpr std::string_view suffix = ".weight";

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
  tensor_loader loader_;
  bool integer_embedding_ = false;  // the embedding is of integers, packed as a head would be
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
                             const load_progress& progress, const stage_weights* kept, pack_cache* cache)
    : range_{range} {
  stage_loader(*this, arch, source, range, form, on, stream, progress, kept, cache).run();
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
  for (const auto* table : {token_embedding.get(), position_embedding.get()}) {
    if (table == nullptr || table == head.get()) continue;
    const auto own = table->storage().size();
    n += own != 0 ? own
                  : static_cast<std::size_t>(table->rows() * table->cols()) * kernels::size_of(table->type());
  }
  return n;
}

}  // namespace fastserve::model
