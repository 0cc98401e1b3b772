// Speeds of the ops on a GPU at the shapes of Llama-3-8B, beside the device's copy bandwidth measured in the
// same run.
//   bench_cuda [bf16|int8|int4 ...] [products|rows|attention ...] [NUMBER OF ROWS ...]
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
    if (type == dtype::q8) {
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

  void report(const char* name, std::int64_t rows, const std::function<void()>& work, double bytes,
              double operations) {
    const double s = seconds_of(work);
    std::printf("  %-22s %5lld rows %9.1f us %7.1f GB/s (%5.1f %%)", name, static_cast<long long>(rows),
                s * 1e6, bytes / s * 1e-9, 100 * bytes / s / copy_);
    if (operations > 0) std::printf(" %8.1f Top/s", operations / s * 1e-12);
    std::printf("\n");
    std::fflush(stdout);
  }

  std::unique_ptr<backend> ops;
  std::unique_ptr<stream> on;

 private:
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

  double copy_;
  std::vector<buffer> kept_;
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
  };
  const product products[] = {{"query, key, value", (heads + 2 * kv_heads) * head_dim, hidden},
                              {"attention's output", hidden, hidden},
                              {"gate and up", 2 * feed_forward, hidden},
                              {"down", hidden, feed_forward}};
  std::vector<std::uint16_t> values(static_cast<std::size_t>(2 * feed_forward * hidden));
  std::mt19937 engine{1};
  for (auto& v : values) v = static_cast<std::uint16_t>(0x3c00 + engine() % 256 + (engine() & 0x8000U));
  for (const auto& p : products) {
    const host_matrix host{values.data(), dtype::bf16, p.outputs, p.inputs, false};
    // Several in turn, so that none is found in the cache, as in a pass over many layers.
    std::vector<std::unique_ptr<weight>> layers;
    for (std::size_t bytes = 0; bytes < std::size_t{200} << 20; bytes += layers.back()->bytes())
      layers.push_back(kind.type == dtype::q8 ? b.ops->quantize({&host, 1}, kind.format)
                                              : b.ops->pack({&host, 1}, kind.type));
    for (const auto rows : row_counts) {
      const auto in = b.view(rows, p.inputs, layers[0]->input_type());
      const auto out = b.view(rows, p.outputs, dtype::f32);
      std::size_t next = 0;
      b.report(
          p.name, rows,
          [&] {
            b.ops->linear(out, in, *layers[next], {}, false, *b.on);
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

}  // namespace

int main(int argc, char** argv) {
  if (cuda_devices().empty()) {
    std::printf("skipped: no CUDA device here\n");
    return 77;
  }
  const weights_kind all[] = {{"bf16", dtype::bf16, {}},
                              {"int8", dtype::q8, {8, 0, zero_kind::none, dtype::f32}},
                              {"int4", dtype::q8, {4, 128, zero_kind::none, dtype::f16}}};
  std::vector<std::string> words(argv + 1, argv + argc);
  const auto says = [&](const std::string& word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  std::vector<std::int64_t> row_counts;
  for (const auto& word : words)
    if (const int rows = std::atoi(word.c_str()); rows > 0) row_counts.push_back(rows);
  if (row_counts.empty()) row_counts = {1, 8, 16, 32, 64, 128, 512, 2048};
  const bool all_parts = !says("products") && !says("rows") && !says("attention");
  const bool all_kinds = !says("bf16") && !says("int8") && !says("int4");
  bench b;
  for (const auto& kind : all) {
    if (!all_kinds && !says(kind.name)) continue;
    std::printf("== %s\n", kind.name.c_str());
    if (all_parts || says("products")) bench_products(b, kind, row_counts);
    if (kind.name == "bf16" && (all_parts || says("rows"))) bench_rows(b);
    if (kind.name != "int4" && (all_parts || says("attention")))
      bench_attention(b, kind.name == "bf16" ? dtype::bf16 : dtype::i8);
  }
  return 0;
}
