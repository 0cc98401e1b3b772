#include "model/stage.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace fastserve::model {
namespace {

using kernels::dtype;
using kernels::tensor_view;

stage_options checked(const architecture& arch, const stage_options& o) {
  const auto& r = o.range;
  if (r.first_layer < 0 || r.first_layer > r.last_layer || r.last_layer > arch.layers)
    throw std::invalid_argument("stage: layers [" + std::to_string(r.first_layer) + ", " +
                                std::to_string(r.last_layer) + "), expected a range in [0, " +
                                std::to_string(arch.layers) + ")");
  if (!kernels::is_float(o.compute))
    throw std::invalid_argument("stage: compute type " + std::string{kernels::name_of(o.compute)} +
                                ", expected f32, f16 or bf16");
  if (o.rounded) kernels::check(*o.rounded);
  if (o.max_rows < 1 || o.max_sampled < 0)
    throw std::invalid_argument("stage: room for " + std::to_string(o.max_rows) + " rows and " +
                                std::to_string(o.max_sampled) + " sampled, expected at least 1 and 0");
  return o;
}

std::size_t product(std::int64_t a, std::int64_t b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument("step: " + what); }

}  // namespace

/// What every layer of one step shares.
struct stage::step {
  std::int32_t rows;
  std::int32_t sampled;
  const kernels::step_plan& plan;
  kernels::kv_store& kv;
  kernels::stream& on;
};

stage::stage(const architecture& arch, weight_source& source, const stage_options& options,
             kernels::backend& on, const load_progress& progress, const stage_weights* kept,
             pack_cache* cache)
    : arch_{arch},
      options_{checked(arch, options)},
      backend_{on},
      load_stream_{on.make_stream()},
      weights_{arch_,    source, options_.range, {options_.compute, options_.rounded}, on, *load_stream_,
               progress, kept,   cache} {
  const std::int64_t rows = options_.max_rows;
  const std::int64_t widest_input =
      std::max({arch_.hidden_size, arch_.query_size(), arch_.intermediate_size});
  const std::int64_t widest_output = std::max<std::int64_t>(
      arch_.qkv_size(), (arch_.gated_mlp ? 2 : 1) * std::int64_t{arch_.intermediate_size});
  hidden_ = on.allocate(product(rows, arch_.hidden_size) * sizeof(float));
  if (options_.range.first_layer < options_.range.last_layer)
    wide_ = on.allocate(product(rows, widest_output) * sizeof(float));
  const auto input_rows = std::max<std::int64_t>(rows, options_.max_sampled);
  narrow_ = on.allocate(std::max(kernels::bytes_of(dtype::f32, input_rows, widest_input),
                                 kernels::bytes_of(dtype::q8, input_rows, widest_input)));
  if (options_.range.heads && options_.max_sampled > 0) {
    sampled_ = on.allocate(product(options_.max_sampled, arch_.hidden_size) * sizeof(float));
    logits_ = on.allocate(product(options_.max_sampled, arch_.vocab_size) * sizeof(float));
  }
  recorder_ = on.make_recorder();
}

kernels::kv_shape stage::kv_shape(std::int32_t blocks, dtype type) const {
  return {options_.range.last_layer - options_.range.first_layer, blocks, arch_.kv_heads, arch_.head_dim,
          type};
}

tensor_view stage::hidden(std::int32_t rows) const {
  if (rows < 0 || rows > options_.max_rows)
    throw std::invalid_argument("stage: hidden state of " + std::to_string(rows) +
                                " rows, there is room for " + std::to_string(options_.max_rows));
  return hidden_.view(dtype::f32, rows, arch_.hidden_size);
}

tensor_view stage::logits(std::int32_t sampled) const {
  if (!options_.range.heads || sampled < 0 || sampled > options_.max_sampled)
    throw std::invalid_argument("stage: logits of " + std::to_string(sampled) + " rows, there is room for " +
                                std::to_string(options_.range.heads ? options_.max_sampled : 0));
  return logits_.view(dtype::f32, sampled, arch_.vocab_size);
}

kernels::attention_shape stage::attention_shape(std::int32_t layer) const {
  return {arch_.heads, arch_.kv_heads, arch_.head_dim, arch_.attention_scale,
          arch_.window[static_cast<std::size_t>(layer)]};
}

void stage::check(const kernels::step_layout& layout, const kernels::kv_store& kv) const {
  const auto rows = layout.positions.size();
  if (rows > static_cast<std::size_t>(options_.max_rows))
    refuse(std::to_string(rows) + " rows, expected at most " + std::to_string(options_.max_rows));
  for (const auto p : layout.positions)
    if (p < 0 || p >= arch_.max_positions)
      refuse("position " + std::to_string(p) + ", expected below " + std::to_string(arch_.max_positions));
  if (options_.range.embeds) {
    if (layout.token_ids.size() != rows)
      refuse(std::to_string(layout.token_ids.size()) + " token ids for " + std::to_string(rows) + " rows");
    for (const auto id : layout.token_ids)
      if (id < -layout.drawn || id >= arch_.vocab_size)
        refuse("token id " + std::to_string(id) + ", expected below " + std::to_string(arch_.vocab_size));
  }

  const auto& shape = kv.shape();
  const auto want = kv_shape(shape.blocks, shape.type);
  if (shape.layers != want.layers || shape.kv_heads != want.kv_heads || shape.head_dim != want.head_dim)
    refuse("a KV store of another stage");
  std::int64_t next = 0;
  for (const auto& s : layout.sequences) {
    if (s.first_row != next || s.rows < 1 || next + s.rows > static_cast<std::int64_t>(rows))
      refuse("sequences do not cover the rows one after another");
    next += s.rows;
    for (std::int32_t i = 0; i < s.rows; ++i)
      if (layout.positions[static_cast<std::size_t>(s.first_row + i)] != s.first_position + i)
        refuse("positions of a sequence are not consecutive");
    const auto tokens = std::int64_t{s.first_position} + s.rows;
    if (static_cast<std::int64_t>(s.blocks.size()) * kernels::kv_block_tokens < tokens)
      refuse(std::to_string(s.blocks.size()) + " KV blocks for " + std::to_string(tokens) + " tokens");
    for (const auto block : s.blocks)
      if (block < 0 || block >= shape.blocks)
        refuse("KV block " + std::to_string(block) + ", expected below " + std::to_string(shape.blocks));
  }
  if (next != static_cast<std::int64_t>(rows)) refuse("rows without a sequence");

  if (!options_.range.heads) return;
  const auto& sampled = layout.sampled_rows;
  if (sampled.size() > static_cast<std::size_t>(options_.max_sampled))
    refuse(std::to_string(sampled.size()) + " sampled rows, expected at most " +
           std::to_string(options_.max_sampled));
  for (std::size_t i = 0; i < sampled.size(); ++i)
    if (sampled[i] < (i > 0 ? sampled[i - 1] + 1 : 0) || sampled[i] >= static_cast<std::int64_t>(rows))
      refuse("sampled rows are not ascending rows of the step");
}

stage::prepared_step stage::prepare(const kernels::step_layout& layout, const kernels::kv_store& kv,
                                    kernels::stream& on) {
  check(layout, kv);
  prepared_step out;
  out.rows = static_cast<std::int32_t>(layout.positions.size());
  out.sampled = static_cast<std::int32_t>(layout.sampled_rows.size());
  const auto first = std::min(options_.range.first_layer, arch_.layers - 1);
  if (out.rows > 0) out.plan = backend_.plan_step(layout, arch_.rope, attention_shape(first), on);
  return out;
}

void stage::forward(const prepared_step& what, kernels::kv_store& kv, kernels::stream& on) {
  if (!what.plan) return;
  const step s{what.rows, what.sampled, *what.plan, kv, on};
  // Whoever looks at every op must see every op done.
  if (tap_) return run(s);
  recorder_->run(s.plan, kv, on, [this, &s] { run(s); });
}

void stage::run(const step& s) {
  if (options_.range.embeds) {
    backend_.embed(hidden(s.rows), *weights_.token_embedding, weights_.position_embedding.get(), s.plan,
                   s.on);
    tap("embedding", -1, hidden(s.rows));
  }
  for (auto layer = options_.range.first_layer; layer < options_.range.last_layer; ++layer)
    run_layer(layer, s);
  if (options_.range.heads && s.sampled > 0) run_head(s);
}

// By itself, for who looks at it.
void stage::tap_norm(std::string_view what, std::int32_t layer, tensor_view normed, tensor_view in,
                     const kernels::norm_weights& by, const step& s) {
  backend_.norm(normed, in, by, s.on);
  tap(what, layer, normed);
}

void stage::run_layer(std::int32_t layer, const step& s) {
  const auto local = layer - options_.range.first_layer;
  const auto& w = *weights_.layers[static_cast<std::size_t>(local)];
  const auto shape = attention_shape(layer);
  const auto residual = hidden(s.rows);
  const auto input_of = [&](const linear_weights& to) {
    return narrow_.view(to.matrix->input_type(), s.rows, to.matrix->cols());
  };
  const auto output_of = [&](const linear_weights& of) {
    return wide_.view(dtype::f32, s.rows, of.matrix->rows());
  };

  const auto normed = input_of(w.qkv);
  if (tap_) tap_norm("input_norm", layer, normed, residual, w.input_norm, s);
  const auto qkv = output_of(w.qkv);
  backend_.norm_linear(qkv, normed, residual, w.input_norm, *w.qkv.matrix, w.qkv.bias, s.on);
  tap("qkv", layer, qkv);
  backend_.rotate_and_store(qkv, w.query_norm ? &*w.query_norm : nullptr, w.key_norm ? &*w.key_norm : nullptr,
                            s.kv, local, shape, s.plan, s.on);
  // A head is narrower than a group of int8 inputs: attention leaves that rounding to the product.
  const auto attended_type = w.attention_output.matrix->input_type();
  const auto attended = narrow_.view(kernels::in_records(attended_type) ? dtype::f32 : attended_type, s.rows,
                                     w.attention_output.matrix->cols());
  backend_.attention(attended, qkv.col_range(0, arch_.query_size()), s.kv, local, shape, s.plan, s.on);
  tap("attention", layer, attended);
  backend_.linear(residual, attended, *w.attention_output.matrix, w.attention_output.bias, true, s.on);
  tap("attention_residual", layer, residual);

  const auto normed_again = input_of(w.up);
  if (tap_) tap_norm("post_attention_norm", layer, normed_again, residual, w.post_attention_norm, s);
  // Not over its own input.
  const auto active = w.up.in_turns ? wide_.view(w.down.matrix->input_type(), s.rows, w.down.matrix->cols())
                                    : input_of(w.down);
  if (w.up.in_turns) {
    backend_.norm_linear_gated(active, normed_again, residual, w.post_attention_norm, *w.up.matrix, w.up.bias,
                               arch_.act, s.on);
  } else {
    const auto up = output_of(w.up);
    backend_.norm_linear(up, normed_again, residual, w.post_attention_norm, *w.up.matrix, w.up.bias, s.on);
    tap("up", layer, up);
    backend_.activate(active, up, arch_.act, arch_.gated_mlp, s.on);
  }
  tap("activation", layer, active);
  backend_.linear(residual, active, *w.down.matrix, w.down.bias, true, s.on);
  tap("mlp_residual", layer, residual);
}

void stage::run_head(const step& s) {
  const auto rows = sampled_.view(dtype::f32, s.sampled, arch_.hidden_size);
  backend_.gather_sampled(rows, hidden(s.rows), s.plan, s.on);
  const auto normed = narrow_.view(weights_.head->input_type(), s.sampled, arch_.hidden_size);
  if (tap_) tap_norm("final_norm", -1, normed, rows, weights_.final_norm, s);
  const auto out = logits(s.sampled);
  backend_.norm_linear(out, normed, rows, weights_.final_norm, *weights_.head, {}, s.on);
  tap("logits", -1, out);
}

}  // namespace fastserve::model
