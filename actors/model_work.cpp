#include "actors/model_work.hpp"

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
  if (format) return format->bits > 4 ? arithmetic::int8 : arithmetic::int4;
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
  const double hidden = arch.hidden_size;
  const double inner = arch.intermediate_size;
  const double up_rows = (arch.gated_mlp ? 2 : 1) * inner;
  planner::model_work out;
  out.layers = arch.layers;
  auto& l = out.layer;
  l.products = {product(arch.qkv_size(), hidden, form.quantize),
                product(hidden, arch.query_size(), form.quantize), product(up_rows, hidden, form.quantize),
                product(hidden, inner, form.quantize)};
  l.attention_ops = 4.0 * arch.query_size();
  l.kv_bytes = static_cast<double>(arch.kv_token_bytes(form.kv));
  l.window = mean_window(arch);
  l.elements = inner + 2 * hidden + arch.qkv_size();
  l.operations = operations_of_layer;
  out.head = product(arch.vocab_size, hidden, model::head_format({form.compute, form.quantize}));
  out.hidden = hidden;
  out.vocab = arch.vocab_size;
  double packed = 0;
  for (const auto& p : l.products) {
    out.layer_bytes += p.bytes;
    packed += p.parameters;
  }
  out.layer_bytes += 4 * (static_cast<double>(arch.layer_parameters()) - packed);  // norms and biases in f32
  // Rounded as the head is, or numbers in the model's file.
  out.embedding_bytes =
      form.quantize
          ? product(arch.vocab_size, hidden, model::head_format({form.compute, form.quantize})).bytes
          : static_cast<double>(arch.embedding_parameters()) *
                static_cast<double>(kernels::size_of(arch.stored_type));
  // A tied head of numbers is packed once more, and one of integers is on another rank than the embedding, if
  // there are two.
  out.head_bytes = out.head.bytes;
  return out;
}

}  // namespace fastserve::actors
