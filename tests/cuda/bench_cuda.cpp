// Speeds of the ops on a GPU at the shapes of Llama-3-8B, beside the device's copy bandwidth measured in the
// same run.
//   bench_cuda [bf16|int8|int4|fp8 ...] [products|rows|attention|layer ...] [NUMBER OF ROWS ...]
// A figure is the median of seven runs of several calls that follow one another without a wait.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>

#include "attention_batch.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/limits.hpp"

using namespace fastserve::kernels;

namespace {

constexpr std::int64_t hidden = 4096;
constexpr std::int64_t feed_forward = 14336;
constexpr std::int32_t heads = 32;
constexpr std::int32_t kv_heads = 8;
constexpr std::int32_t head_dim = 128;

class bench {
 public:
  bench() : ops{make_cuda_backend(0)}, on{ops->make_stream()}, copy_{measure_copy_bandwidth(*ops)} {
    std::printf("%s: copies move %.0f GB/s, reading and writing\n", ops->info().name.c_str(), copy_ * 1e-9);
  }

  tensor_view view(std::int64_t rows, std::int64_t cols, dtype type) {
    kept_.push_back(ops->allocate(bytes_of(type, rows, cols)));
    const auto v = kept_.back().view(type, rows, cols);
    std::vector<float> values(static_cast<std::size_t>(rows * cols));
    std::mt19937 engine{3};
    for (auto& x : values) x = static_cast<float>(engine() % 2048) * 0x1p-10F - 1.0F;
    if (in_records(type)) {
      const auto floats = view(rows, cols, dtype::f32);
      ops->activate(v, floats, activation::relu, false, *on);
      return v;
    }
    std::vector<std::byte> bytes(v.bytes());
    from_f32(bytes.data(), type, values.data(), values.size());
    ops->upload(v, bytes.data(), *on);
    return v;
  }

  void forget() { kept_.clear(); }

  double report(const char* name, std::int64_t rows, const std::function<void()>& work, double bytes,
                double operations) {
    const double s = seconds_of(work);
    std::printf("  %-22s %5lld rows %9.1f us %7.1f GB/s (%5.1f %%)", name, static_cast<long long>(rows),
                s * 1e6, bytes / s * 1e-9, 100 * bytes / s / copy_);
    if (operations > 0) std::printf(" %8.1f Top/s", operations / s * 1e-12);
    std::printf("\n");
    std::fflush(stdout);
    return s;
  }

  std::unique_ptr<backend> ops;
  std::unique_ptr<stream> on;

  double seconds_of(const std::function<void()>& work) {
    using clock = std::chrono::steady_clock;
    const auto calls = [&](int n) {
      on->synchronize();
      const auto begin = clock::now();
      for (int i = 0; i < n; ++i) work();
      on->synchronize();
      return std::chrono::duration<double>(clock::now() - begin).count();
    };
    calls(2);
    const int n = std::clamp(static_cast<int>(10e-3 / std::max(calls(4) / 4, 1e-6)), 4, 200);
    std::vector<double> times;
    for (int i = 0; i < 7; ++i) times.push_back(calls(n) / n);
    std::sort(times.begin(), times.end());
    return times[3];
  }

 private:
  double copy_;
  std::vector<buffer> kept_;
};

/// Weights of Llama-3-8B's layer, all of the same few numbers.
class layer_weights {
 public:
  explicit layer_weights(backend& ops)
      : ops_{ops}, values_(static_cast<std::size_t>(2 * feed_forward * hidden)) {
    std::mt19937 engine{1};
    for (auto& v : values_) v = static_cast<std::uint16_t>(0x3c00 + engine() % 256 + (engine() & 0x8000U));
  }
  std::unique_ptr<weight> make(std::int64_t outputs, std::int64_t inputs, dtype type,
                               const quantized_format& format) const {
    const host_matrix host{values_.data(), dtype::bf16, outputs, inputs, false};
    return in_records(type) ? ops_.quantize({&host, 1}, format) : ops_.pack({&host, 1}, type);
  }

 private:
  backend& ops_;
  std::vector<std::uint16_t> values_;
};

struct weights_kind {
  std::string name;
  dtype type;
  quantized_format format;
};

void bench_products(bench& b, const weights_kind& kind, const std::vector<std::int64_t>& row_counts) {
  struct product {
    const char* name;
    std::int64_t outputs, inputs;
    bool accumulate;
  };
  const product products[] = {{"query, key, value", (heads + 2 * kv_heads) * head_dim, hidden, false},
                              {"attention's output", hidden, hidden, true},
                              {"gate and up", 2 * feed_forward, hidden, false},
                              {"down", hidden, feed_forward, true}};
  const layer_weights source{*b.ops};
  for (const auto& p : products) {
    // Several in turn, so that none is found in the cache, as in a pass over many layers.
    std::vector<std::unique_ptr<weight>> layers;
    for (std::size_t bytes = 0; bytes < std::size_t{200} << 20; bytes += layers.back()->bytes())
      layers.push_back(source.make(p.outputs, p.inputs, kind.type, kind.format));
    for (const auto rows : row_counts) {
      const auto in = b.view(rows, p.inputs, layers[0]->input_type());
      const auto out = b.view(rows, p.outputs, dtype::f32);
      std::size_t next = 0;
      b.report(
          p.name, rows,
          [&] {
            b.ops->linear(out, in, *layers[next], {}, p.accumulate, *b.on);
            next = (next + 1) % layers.size();
          },
          static_cast<double>(layers[0]->bytes()), 2.0 * static_cast<double>(rows * p.outputs * p.inputs));
      b.forget();
    }
  }
}

void bench_rows(bench& b) {
  const auto gain = b.view(1, hidden, dtype::f32);
  const norm_weights norm{norm_kind::rms, 1e-5F, gain, {}};
  for (const std::int64_t rows : {1, 64, 2048}) {
    const auto in = b.view(rows, hidden, dtype::f32);
    const auto out = b.view(rows, hidden, dtype::bf16);
    const auto both = b.view(rows, 2 * feed_forward, dtype::f32);
    const auto active = b.view(rows, feed_forward, dtype::bf16);
    b.report(
        "rms norm", rows, [&] { b.ops->norm(out, in, norm, *b.on); }, static_cast<double>(rows * hidden) * 6,
        0);
    b.report(
        "gated silu", rows, [&] { b.ops->activate(active, both, activation::silu, true, *b.on); },
        static_cast<double>(rows * feed_forward) * 10, 0);
  }
  b.forget();
}

void bench_attention(bench& b, dtype type) {
  const attention_batch batches[] = {{"decode at 128", 1, 128, 1},   {"decode at 8192", 1, 8192, 1},
                                     {"decode at 128", 32, 128, 1},  {"decode at 1024", 64, 1024, 1},
                                     {"decode at 128", 128, 128, 1}, {"prefill 512", 1, 0, 512},
                                     {"prefill 2048", 1, 0, 2048},   {"prefill 8192", 1, 0, 8192}};
  const rope_table rope{rope_kind::half, std::vector<float>(head_dim / 2, 0.5F), 1.0F};
  const attention_shape shape{heads, kv_heads, head_dim, 0.088F, 0};
  for (const auto& c : batches) {
    const std::int32_t tokens = c.tokens();
    const double bytes = double{1} * c.sequences * tokens * 2 * kv_heads *
                         static_cast<double>(kv_vector_bytes(head_dim, type));
    const auto layers = static_cast<std::int32_t>(std::clamp(2e8 / bytes, 2.0, 32.0));
    const auto kv = b.ops->make_kv_store({layers, c.blocks() * c.sequences, kv_heads, head_dim, type});
    std::vector<std::byte> host(kv->shape().block_bytes());
    for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<std::byte>(i % 2 == 1 ? 0x3c : i * 7);
    for (std::int32_t i = 0; i < kv->shape().blocks; ++i) b.ops->write_block(*kv, i, host.data(), *b.on);
    const auto layout = layout_of(c);
    const auto rows = static_cast<std::int64_t>(layout.positions.size());
    const auto qkv = b.view(rows, (heads + 2 * kv_heads) * head_dim, dtype::f32);
    const auto query = qkv.col_range(0, std::int64_t{heads} * head_dim);
    const auto out = b.view(rows, query.cols, dtype::bf16);
    const auto plan = b.ops->plan_step(layout, rope, shape, *b.on);
    std::int32_t layer = 0;
    const auto next = [&] { return layer = (layer + 1) % layers; };
    b.report(
        "rotate and store", rows,
        [&] { b.ops->rotate_and_store(qkv, nullptr, nullptr, *kv, next(), shape, *plan, *b.on); },
        static_cast<double>(rows) * (heads * 8 + kv_heads * 14) * head_dim, 0);
    const double pairs = c.rows == 1 ? tokens : c.rows * (c.before + (c.rows + 1) / 2.0);
    b.report(
        c.name, rows, [&] { b.ops->attention(out, query, *kv, next(), shape, *plan, *b.on); }, bytes,
        4.0 * c.sequences * pairs * heads * head_dim);
    b.forget();
  }
}

/// A step's layer, whole and with each op left out: what the op costs where it stands, which is less
/// than alone as far as the next product's weights are on their way meanwhile.
void bench_layer(bench& b, const weights_kind& kind, const attention_batch& batch) {
  struct matrices {
    std::unique_ptr<weight> qkv, output, up, down;
  };
  const layer_weights source{*b.ops};
  std::vector<matrices> layers;
  std::size_t bytes = 0;
  for (int i = 0; i < 3; ++i) {
    const auto make = [&](std::int64_t outputs, std::int64_t inputs) {
      auto w = source.make(outputs, inputs, kind.type, kind.format);
      bytes += w->bytes();
      return w;
    };
    layers.push_back({make((heads + 2 * kv_heads) * head_dim, hidden), make(hidden, hidden),
                      make(2 * feed_forward, hidden), make(hidden, feed_forward)});
  }
  const auto count = static_cast<std::int32_t>(layers.size());
  const auto kv =
      b.ops->make_kv_store({count, batch.blocks() * batch.sequences, kv_heads, head_dim, dtype::bf16});
  const std::vector<std::byte> block(kv->shape().block_bytes(), std::byte{0x3c});
  for (std::int32_t i = 0; i < kv->shape().blocks; ++i) b.ops->write_block(*kv, i, block.data(), *b.on);
  const rope_table rope{rope_kind::half, std::vector<float>(head_dim / 2, 0.5F), 1.0F};
  const attention_shape shape{heads, kv_heads, head_dim, 0.088F, 0};
  const auto plan = b.ops->plan_step(layout_of(batch), rope, shape, *b.on);

  const std::int64_t rows = std::int64_t{1} * batch.sequences * batch.rows;
  const auto input = layers[0].qkv->input_type();
  const norm_weights norm{norm_kind::rms, 1e-5F, b.view(1, hidden, dtype::f32), {}};
  const auto residual = b.view(rows, hidden, dtype::f32);
  const auto normed = b.view(rows, hidden, input);
  const auto qkv = b.view(rows, (heads + 2 * kv_heads) * head_dim, dtype::f32);
  const auto attended = b.view(rows, hidden, in_records(input) ? dtype::f32 : input);
  const auto up = b.view(rows, 2 * feed_forward, dtype::f32);
  const auto active = b.view(rows, feed_forward, input);
  const bool gated = b.ops->gated_turn(activation::silu, dtype::bf16) > 0;
  std::int32_t layer = 0;
  const std::pair<const char*, std::function<void()>> ops[] = {
      {"norm; query, key, value",
       [&] { b.ops->norm_linear(qkv, normed, residual, norm, *layers[layer].qkv, {}, *b.on); }},
      {"rotate and store",
       [&] { b.ops->rotate_and_store(qkv, nullptr, nullptr, *kv, layer, shape, *plan, *b.on); }},
      {"attention",
       [&] { b.ops->attention(attended, qkv.col_range(0, hidden), *kv, layer, shape, *plan, *b.on); }},
      {"attention's output",
       [&] { b.ops->linear(residual, attended, *layers[layer].output, {}, true, *b.on); }},
      {"norm; gate and up",
       [&] {
         const auto& w = *layers[layer].up;
         if (gated)
           return b.ops->norm_linear_gated(active, normed, residual, norm, w, {}, activation::silu, *b.on);
         b.ops->norm_linear(up, normed, residual, norm, w, {}, *b.on);
       }},
      {"gated silu",
       [&] {
         if (!gated) b.ops->activate(active, up, activation::silu, true, *b.on);
       }},
      {"down", [&] { b.ops->linear(residual, active, *layers[layer].down, {}, true, *b.on); }}};
  // Only the whole layer's numbers mean anything; numbers do not decide how long an op takes.
  const auto without = [&](const char* name) {
    return [&, name] {
      for (layer = 0; layer < count; ++layer)
        for (const auto& [op, run] : ops)
          if (op != name) run();
    };
  };
  const double attended_bytes = double{1} * count * batch.sequences * batch.tokens() * 2 * kv_heads *
                                static_cast<double>(kv_vector_bytes(head_dim, dtype::bf16));
  std::printf("%d layers, %d sequences of %d rows behind %d tokens\n", count, batch.sequences, batch.rows,
              batch.before);
  const double operations = 2.0 * static_cast<double>(rows) * count *
                            ((heads + 2 * kv_heads) * head_dim + heads * head_dim + 3.0 * feed_forward) *
                            hidden;
  const double whole =
      b.report("all", rows, without(""), static_cast<double>(bytes) + attended_bytes, operations);
  for (const auto& [op, run] : ops) {
    const double less = b.seconds_of(without(op));
    std::printf("  %-22s costs a layer %6.1f us\n", op, (whole - less) / count * 1e6);
    std::fflush(stdout);
  }
  b.forget();
}

}  // namespace

int main(int argc, char** argv) {
  if (cuda_devices().empty()) {
    std::printf("skipped: no CUDA device here\n");
    return 77;
  }
  const weights_kind all[] = {{"bf16", dtype::bf16, {}},
                              {"int8", dtype::q8, {8, 0, zero_kind::none, dtype::f32}},
                              {"int4", dtype::q8, {4, 128, zero_kind::none, dtype::f16}},
                              {"fp8", dtype::f8, fp8_rows}};
  std::vector<std::string> words(argv + 1, argv + argc);
  const auto says = [&](const std::string& word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  std::vector<std::int64_t> row_counts;
  for (const auto& word : words)
    if (const int rows = std::atoi(word.c_str()); rows > 0) row_counts.push_back(rows);
  if (row_counts.empty()) row_counts = {1, 8, 16, 32, 64, 128, 512, 2048};
  const bool all_parts = !says("products") && !says("rows") && !says("attention") && !says("layer");
  const bool all_kinds = !says("bf16") && !says("int8") && !says("int4") && !says("fp8");
  bench b;
  for (const auto& kind : all) {
    if (!all_kinds && !says(kind.name)) continue;
    if (is_fp8(kind.format) && !b.ops->multiplies_fp8()) continue;
    std::printf("== %s\n", kind.name.c_str());
    if (all_parts || says("products")) bench_products(b, kind, row_counts);
    if (kind.name == "bf16" && (all_parts || says("rows"))) bench_rows(b);
    if (all_parts || says("layer"))
      for (const attention_batch& batch : {attention_batch{"", 1, 128, 1}, attention_batch{"", 64, 1024, 1},
                                           attention_batch{"", 128, 128, 1}, attention_batch{"", 1, 0, 2048},
                                           attention_batch{"", 1, 0, 8192}})
        bench_layer(b, kind, batch);
    if ((kind.name == "bf16" || kind.name == "int8") && (all_parts || says("attention")))
      bench_attention(b, kind.name == "bf16" ? dtype::bf16 : dtype::i8);
  }
  return 0;
}
