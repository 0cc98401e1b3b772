#include "naive_forward.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "model/tensor_names.hpp"

namespace fastserve::model::test {
namespace {

using row = std::vector<double>;

struct forward {
  const architecture& a;
  weight_source& source;
  const tensor_names& names;
  std::string prefix;
  std::vector<std::vector<row>> keys, values;  // [layer][position][kv_heads * head_dim]

  row read(const std::string& name) {
    const auto t = source.tensor(name);
    std::vector<float> f(t.bytes() / kernels::size_of(t.type));
    kernels::to_f32(f.data(), t.data, t.type, f.size());
    return {f.begin(), f.end()};
  }
  row linear(const std::string& name, const row& in, std::size_t out_size, bool bias, bool transposed) {
    const auto w = read(name + ".weight");
    row out(out_size, 0.0);
    for (std::size_t o = 0; o < out_size; ++o)
      for (std::size_t i = 0; i < in.size(); ++i)
        out[o] += in[i] * (transposed ? w[i * out_size + o] : w[o * in.size() + i]);
    if (bias) {
      const auto b = read(name + ".bias");
      for (std::size_t o = 0; o < out_size; ++o) out[o] += b[o];
    }
    return out;
  }
  row rms(const row& gain, std::span<const double> in) const {
    double squares = 0;
    for (const auto x : in) squares += x * x;
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(in.size()) + a.norm_epsilon);
    row out(in.size());
    for (std::size_t i = 0; i < in.size(); ++i) out[i] = in[i] * scale * gain[i];
    return out;
  }
  row norm(const std::string& name, const row& in) {
    const auto gain = read(name + ".weight");
    if (a.norm == kernels::norm_kind::rms) return rms(gain, in);
    const auto n = static_cast<double>(in.size());
    double mean = 0, variance = 0;
    for (const auto x : in) mean += x / n;
    for (const auto x : in) variance += (x - mean) * (x - mean) / n;
    const auto bias = read(name + ".bias");
    row out(in.size());
    for (std::size_t i = 0; i < in.size(); ++i)
      out[i] = (in[i] - mean) / std::sqrt(variance + a.norm_epsilon) * gain[i] + bias[i];
    return out;
  }
  /// Norms (Qwen3) and rotates one head in place.
  void prepare_head(std::span<double> head, const std::string& norm_name, std::size_t position) {
    if (a.query_key_norm) {
      const auto normed = rms(read(norm_name + ".weight"), head);
      std::copy(normed.begin(), normed.end(), head.begin());
    }
    const auto half = a.rope.inverse_frequency.size();
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * a.rope.inverse_frequency[i];
      const double c = std::cos(angle) * a.rope.magnitude, s = std::sin(angle) * a.rope.magnitude;
      const double x = head[i], y = head[i + half];
      head[i] = x * c - y * s;
      head[i + half] = y * c + x * s;
    }
  }
  double activate(double x) const {
    switch (a.act) {
      case kernels::activation::silu:
        return x / (1.0 + std::exp(-x));
      case kernels::activation::gelu:
        return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
      case kernels::activation::gelu_tanh:
        return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
      case kernels::activation::relu:
        return std::max(x, 0.0);
    }
    return 0.0;
  }

  row attention(std::int32_t layer, const row& in, std::size_t position) {
    const auto name = [&](std::string_view module) { return layer_name(names, prefix, layer, module); };
    const auto dim = static_cast<std::size_t>(a.head_dim);
    const auto heads = static_cast<std::size_t>(a.heads), kv_heads = static_cast<std::size_t>(a.kv_heads);
    row q, k, v;
    if (!names.fused_qkv.empty()) {
      const auto all =
          linear(name(names.fused_qkv), in, (heads + 2 * kv_heads) * dim, a.qkv_bias, a.transposed_linear);
      const auto at = [&](std::size_t head) { return all.begin() + static_cast<std::ptrdiff_t>(head * dim); };
      q.assign(at(0), at(heads));
      k.assign(at(heads), at(heads + kv_heads));
      v.assign(at(heads + kv_heads), all.end());
    } else {
      q = linear(name(names.query), in, heads * dim, a.qkv_bias, a.transposed_linear);
      k = linear(name(names.key), in, kv_heads * dim, a.qkv_bias, a.transposed_linear);
      v = linear(name(names.value), in, kv_heads * dim, a.qkv_bias, a.transposed_linear);
    }
    for (std::size_t h = 0; h < heads; ++h)
      prepare_head(std::span(q).subspan(h * dim, dim), name(names.query_norm), position);
    for (std::size_t h = 0; h < kv_heads; ++h)
      prepare_head(std::span(k).subspan(h * dim, dim), name(names.key_norm), position);
    auto& past_keys = keys[static_cast<std::size_t>(layer)];
    auto& past_values = values[static_cast<std::size_t>(layer)];
    past_keys.push_back(k);
    past_values.push_back(v);

    const auto window = static_cast<std::size_t>(a.window[static_cast<std::size_t>(layer)]);
    const auto first = window > 0 && position + 1 > window ? position + 1 - window : 0;
    row out(heads * dim, 0.0);
    for (std::size_t h = 0; h < heads; ++h) {
      const auto kv = h / (heads / kv_heads) * dim;
      row weight(position + 1, 0.0);
      double total = 0;
      for (auto p = first; p <= position; ++p) {
        double dot = 0;
        for (std::size_t d = 0; d < dim; ++d) dot += q[h * dim + d] * past_keys[p][kv + d];
        total += weight[p] = std::exp(dot * a.attention_scale);
      }
      for (auto p = first; p <= position; ++p)
        for (std::size_t d = 0; d < dim; ++d) out[h * dim + d] += weight[p] / total * past_values[p][kv + d];
    }
    return linear(name(names.attention_output), out, static_cast<std::size_t>(a.hidden_size),
                  a.attention_output_bias, a.transposed_linear);
  }

  row mlp(std::int32_t layer, const row& in) {
    const auto name = [&](std::string_view module) { return layer_name(names, prefix, layer, module); };
    const auto wide = static_cast<std::size_t>(a.intermediate_size);
    auto up = linear(name(names.up), in, wide, a.mlp_bias, a.transposed_linear);
    if (a.gated_mlp) {
      const auto gate = linear(name(names.gate), in, wide, a.mlp_bias, a.transposed_linear);
      for (std::size_t i = 0; i < wide; ++i) up[i] *= activate(gate[i]);
    } else {
      for (auto& x : up) x = activate(x);
    }
    return linear(name(names.down), up, static_cast<std::size_t>(a.hidden_size), a.mlp_bias,
                  a.transposed_linear);
  }

  row token(std::int32_t id, std::size_t position) {
    const auto hidden = static_cast<std::size_t>(a.hidden_size);
    const auto table = prefix + std::string(names.token_embedding) + ".weight";
    const auto embedding = read(table);
    row x(embedding.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(id) * hidden),
          embedding.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(id + 1) * hidden));
    if (a.learned_positions) {
      const auto positions = read(prefix + std::string(names.position_embedding) + ".weight");
      for (std::size_t i = 0; i < hidden; ++i) x[i] += positions[position * hidden + i];
    }
    const auto add = [&](const row& y) {
      for (std::size_t i = 0; i < hidden; ++i) x[i] += y[i];
    };
    for (std::int32_t layer = 0; layer < a.layers; ++layer) {
      add(attention(layer, norm(layer_name(names, prefix, layer, names.input_norm), x), position));
      add(mlp(layer, norm(layer_name(names, prefix, layer, names.post_attention_norm), x)));
    }
    x = norm(prefix + std::string(names.final_norm), x);
    const auto head = a.tied_head ? table.substr(0, table.size() - 7) : std::string(names.head);
    return linear(head, x, static_cast<std::size_t>(a.vocab_size), false, false);
  }
};

}  // namespace

std::vector<std::vector<float>> naive_forward(const architecture& arch, weight_source& source,
                                              std::span<const std::int32_t> tokens) {
  const auto layers = static_cast<std::size_t>(arch.layers);
  forward f{arch, source, names_of(arch.model_type), resolve_prefix(source, arch.model_type), {}, {}};
  f.keys.resize(layers);
  f.values.resize(layers);
  std::vector<std::vector<float>> out;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto logits = f.token(tokens[i], i);
    out.emplace_back(logits.begin(), logits.end());
  }
  return out;
}

}  // namespace fastserve::model::test
