#include "actors/model_work.hpp"

#include <map>

#include "model/stage_weights.hpp"

namespace fastserve::actors {

namespace {

// Of a layer, as model::stage runs them: two norms, four products, rotation, attention, activation.
constexpr double operations_of_layer = 9;

double mean_window(const model::architecture& arch) {
  double sum = 0;
  for (const auto w : arch.window) sum += w > 0 ? w : arch.max_positions;
  const auto mean = arch.window.empty() ? 0 : sum / static_cast<double>(arch.window.size());
  return mean < arch.max_positions ? mean : 0;
}

}  // namespace

planner::arithmetic arithmetic_of(kernels::dtype compute,
                                  const std::optional<kernels::quantized_format>& format) {
  using planner::arithmetic;
  if (format) return format->bits > 4 ? arithmetic::int8 : arithmetic::int4;  // fp8 is as fast as int8
  return compute == kernels::dtype::bf16  ? arithmetic::bf16
         : compute == kernels::dtype::f16 ? arithmetic::f16
                                          : arithmetic::f32;
}

planner::model_work work_of(const model::architecture& arch, const model_form& form) {
  const auto product = [&](double rows, double cols, const std::optional<kernels::quantized_format>& format) {
    const auto bits = format ? format->bits_per_weight(static_cast<std::int64_t>(cols))
                             : 8.0 * static_cast<double>(kernels::size_of(form.compute));
    return planner::product_work{rows * cols, rows * cols * bits / 8, arithmetic_of(form.compute, format)};
  };
  const auto as_stored = [](planner::product_work p, const model::stored_product& how) {
    p.bytes = p.parameters * how.bits / 8;
    p.as = how.code_bits > 4 ? planner::arithmetic::int8 : planner::arithmetic::int4;
    return p;
  };
  // The mean over the layers, and what most of them compute with: the planner's layers are alike.
  const auto product_of_layers = [&](double rows, double cols, auto part) {
    const auto otherwise = product(rows, cols, form.quantize);
    if (!form.stored || form.stored->layers.empty()) return otherwise;
    auto out = otherwise;
    out.bytes = 0;
    std::map<planner::arithmetic, int> votes;
    for (const auto& layer : form.stored->layers) {
      const auto& how = layer.*part;
      const auto p = how ? as_stored(otherwise, *how) : otherwise;
      out.bytes += p.bytes / static_cast<double>(form.stored->layers.size());
      if (++votes[p.as] > votes[out.as]) out.as = p.as;
    }
    return out;
  };
  using stored_layer = model::stored_form::layer;
  const double hidden = arch.hidden_size;
  const double inner = arch.intermediate_size;
  const double up_rows = (arch.gated_mlp ? 2 : 1) * inner;
  planner::model_work out;
  out.layers = arch.layers;
  auto& l = out.layer;
  l.products = {product_of_layers(arch.qkv_size(), hidden, &stored_layer::qkv),
                product_of_layers(hidden, arch.query_size(), &stored_layer::attention_output),
                product_of_layers(up_rows, hidden, &stored_layer::up),
                product_of_layers(hidden, inner, &stored_layer::down)};
  l.attention_ops = 4.0 * arch.query_size();
  l.kv_bytes = static_cast<double>(arch.kv_token_bytes(form.kv));
  l.window = mean_window(arch);
  l.elements = inner + 2 * hidden + arch.qkv_size();
  l.operations = operations_of_layer;
  out.head = product(arch.vocab_size, hidden, model::head_format({form.compute, form.quantize}));
  const auto rounded_table = out.head;
  if (form.stored && form.stored->head) out.head = as_stored(out.head, *form.stored->head);
  out.hidden = hidden;
  out.vocab = arch.vocab_size;
  double packed = 0;
  for (const auto& p : l.products) {
    out.layer_bytes += p.bytes;
    packed += p.parameters;
  }
  out.layer_bytes += 4 * (static_cast<double>(arch.layer_parameters()) - packed);  // norms and biases in f32
  // Integers as the files have them, rounded as the head is, or numbers in the model's file, as the table of
  // positions always is.
  const auto table = static_cast<double>(arch.vocab_size) * hidden;
  const auto number = static_cast<double>(kernels::size_of(arch.stored_type));
  out.embedding_bytes = form.stored && form.stored->embedding
                            ? as_stored(rounded_table, *form.stored->embedding).bytes
                        : form.quantize ? rounded_table.bytes
                                        : table * number;
  out.embedding_bytes += (static_cast<double>(arch.embedding_parameters()) - table) * number;
  // A tied head of numbers is packed once more, and one of integers is on another rank than the embedding, if
  // there are two.
  out.head_bytes = out.head.bytes;
  return out;
}

}  // namespace fastserve::actors
