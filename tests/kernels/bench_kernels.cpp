// Speeds of the ops at the shapes of a 1.1 B Llama (hidden 2048, feed-forward 5632, 32 query and 4 KV heads),
// as fractions of what this machine reads and multiplies at best, measured beside each figure.
//   bench_kernels [threads] [f32|f16|bf16|int8|int4 ...] [group N] [products|rows|attention ...] [best] [cpu]
// For machines that are not quiet: `best` reports the quickest call in place of the median, and `cpu` counts
// the processor time of the calling thread (of use with one thread only).

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <string>

#include "attention_batch.hpp"
#include "kernels/backend.hpp"
#include "kernels/cpu/topology.hpp"
#include "kernels/cpu/waiting.hpp"
#include "kernels/limits.hpp"

using namespace fastserve::kernels;

namespace {

constexpr std::int64_t hidden = 2048;
constexpr std::int64_t feed_forward = 5632;
constexpr std::int32_t heads = 32;
constexpr std::int32_t kv_heads = 4;
constexpr std::int32_t head_dim = 64;
constexpr std::int64_t row_counts[] = {1, 2, 4, 8, 16, 32, 64, 512};

/// What weights are made of, and so what the op before a product writes.
struct weights_kind {
  std::string name;
  dtype type;  // q8 for quantized weights
  quantized_format format;
};

bool take_best = false;
bool count_cpu = false;

double now_s() {
  timespec t{};
  clock_gettime(count_cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Seconds of one call, over about 0.3 s: the median, or the quickest.
double seconds_of(const std::function<void()>& work) {
  work();
  std::vector<double> times;
  for (const double start = now_s(); times.size() < 5 || now_s() - start < 0.3;) {
    const double t = now_s();
    work();
    times.push_back(now_s() - t);
  }
  if (take_best) return std::max(*std::min_element(times.begin(), times.end()), 1e-9);
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

struct bench {
  int threads;
  std::unique_ptr<backend> ops;
  std::unique_ptr<stream> on;
  double bandwidth = 0;
  double peak = 0;
  std::vector<buffer> kept;

  explicit bench(int count) : threads{count}, ops{make_cpu_backend(count)}, on{ops->make_stream()} {}

  void measure_limits(dtype type) {
    bandwidth = measure_read_bandwidth(threads);
    peak = measure_peak_ops(type, threads);
  }

  std::unique_ptr<weight> pack(const host_matrix& host, const weights_kind& kind) const {
    if (kind.type == dtype::q8) return ops->quantize({&host, 1}, kind.format);
    return ops->pack({&host, 1}, kind.type);
  }

  tensor_view view(std::int64_t rows, std::int64_t cols, dtype type) {
    kept.push_back(ops->allocate(bytes_of(type, rows, cols)));
    const auto v = kept.back().view(type, rows, cols);
    if (type == dtype::q8) {
      const auto floats = view(rows, cols, dtype::f32);
      ops->activate(v, floats, activation::relu, false, *on);
      return v;
    }
    std::mt19937 engine{3};
    std::vector<float> row(static_cast<std::size_t>(cols));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (auto& x : row) x = static_cast<float>(engine() % 1000) * 2e-3F - 1.0F;
      from_f32(v.row_range(r, 1).data, type, row.data(), row.size());
    }
    return v;
  }

  void report(const char* name, std::int64_t rows, double seconds, double bytes, double operations) const {
    std::printf("  %-22s %4lld rows %9.1f us %7.1f GB/s (%5.1f%%)", name, static_cast<long long>(rows),
                seconds * 1e6, bytes / seconds * 1e-9, 100 * bytes / seconds / bandwidth);
    if (operations > 0) {
      std::printf(" %8.1f GOP/s (%5.1f%%)", operations / seconds * 1e-9, 100 * operations / seconds / peak);
    }
    std::printf("\n");
  }
};

void bench_products(const weights_kind& kind, int threads) {
  bench b{threads};
  struct product {
    const char* name;
    std::int64_t outputs;
    std::int64_t inputs;
  };
  const product products[] = {{"query, key, value", (heads + 2 * kv_heads) * head_dim, hidden},
                              {"gate and up", 2 * feed_forward, hidden},
                              {"down", hidden, feed_forward}};
  for (const auto& p : products) {
    // Several weights in turn, so that none is found in a cache, as in a pass over many layers.
    std::vector<std::unique_ptr<weight>> layers;
    std::vector<float> values(static_cast<std::size_t>(p.outputs * p.inputs));
    std::mt19937 engine{1};
    for (auto& v : values) v = static_cast<float>(engine() % 1000) * 1e-4F - 0.05F;
    const host_matrix host{values.data(), dtype::f32, p.outputs, p.inputs, false};
    for (std::size_t bytes = 0; bytes < std::size_t{400} << 20; bytes += layers.back()->bytes()) {
      layers.push_back(b.pack(host, kind));
    }
    b.measure_limits(layers[0]->input_type());
    std::printf("%s, %lld x %lld: limits %.1f GB/s, %.0f GOP/s\n", p.name, static_cast<long long>(p.outputs),
                static_cast<long long>(p.inputs), b.bandwidth * 1e-9, b.peak * 1e-9);
    for (const auto rows : row_counts) {
      const auto in = b.view(rows, p.inputs, layers[0]->input_type());
      const auto out = b.view(rows, p.outputs, dtype::f32);
      std::size_t next = 0;
      const double seconds = seconds_of([&] {
        b.ops->linear(out, in, *layers[next], {}, false, *b.on);
        next = (next + 1) % layers.size();
      });
      b.report("linear", rows, seconds, static_cast<double>(layers[0]->bytes()),
               2.0 * static_cast<double>(rows * p.outputs * p.inputs));
    }
  }
}

void bench_rows(dtype type, int threads) {
  bench b{threads};
  b.measure_limits(dtype::f32);
  const auto gain = b.view(1, hidden, dtype::f32);
  const norm_weights norm{norm_kind::rms, 1e-5F, gain, {}};
  const double width = static_cast<double>(size_of(type));
  std::printf("by rows: limits %.1f GB/s\n", b.bandwidth * 1e-9);
  for (const auto rows : row_counts) {
    const auto in = b.view(rows, hidden, dtype::f32);
    const auto out = b.view(rows, hidden, type);
    const auto both = b.view(rows, 2 * feed_forward, dtype::f32);
    const auto active = b.view(rows, feed_forward, type);
    const auto elements = static_cast<double>(rows * hidden);
    b.report("rms norm", rows, seconds_of([&] { b.ops->norm(out, in, norm, *b.on); }), elements * (4 + width),
             0);
    b.report("gated silu", rows,
             seconds_of([&] { b.ops->activate(active, both, activation::silu, true, *b.on); }),
             static_cast<double>(rows * feed_forward) * (8 + width), 0);
  }
}

void bench_attention(dtype type, int threads) {
  bench b{threads};
  b.measure_limits(dtype::f32);
  std::printf("attention: limits %.1f GB/s, %.0f GOP/s\n", b.bandwidth * 1e-9, b.peak * 1e-9);
  struct batch : attention_batch {
    std::int32_t kv_heads = ::kv_heads;
  };
  const batch batches[] = {{{"decode at 512", 1, 512, 1}},
                           {{"decode at 8192", 1, 8192, 1}},
                           {{"decode at 32768", 1, 32768, 1}},
                           {{"decode at 1024", 32, 1024, 1}},
                           {{"decode at 32768, MHA", 1, 32768, 1}, heads},
                           {{"prefill 512", 1, 0, 512}},
                           {{"prefill 512 at 8192", 1, 8192, 512}}};
  rope_table rope{rope_kind::half, std::vector<float>(head_dim / 2, 0.5F), 1.0F};
  for (const auto& c : batches) {
    const std::int32_t kv_heads = c.kv_heads;
    const attention_shape shape{heads, kv_heads, head_dim, 0.125F, 0};
    const std::int32_t tokens = c.tokens();
    // Layers in turn, as in a pass.
    const double token_bytes = 2.0 * kv_heads * static_cast<double>(kv_vector_bytes(head_dim, type));
    const double bytes = c.sequences * tokens * token_bytes;
    const auto layers = static_cast<std::int32_t>(std::clamp(2e8 / bytes, 2.0, 64.0));
    const auto kv = b.ops->make_kv_store({layers, c.blocks() * c.sequences, kv_heads, head_dim, type});
    const auto host = std::vector<std::byte>(kv->shape().block_bytes());
    for (std::int32_t i = 0; i < kv->shape().blocks; ++i) b.ops->write_block(*kv, i, host.data(), *b.on);
    const auto layout = layout_of(c);
    const auto rows = static_cast<std::int64_t>(layout.positions.size());
    const auto qkv = b.view(rows, (heads + 2 * kv_heads) * head_dim, dtype::f32);
    const auto query = qkv.col_range(0, std::int64_t{heads} * head_dim);
    const auto out = b.view(rows, query.cols, dtype::f32);
    std::unique_ptr<step_plan> plan;
    const double planning = seconds_of([&] { plan = b.ops->plan_step(layout, rope, shape, *b.on); });
    std::int32_t layer = 0;
    const auto next = [&] { return layer = (layer + 1) % layers; };
    const double rotating =
        seconds_of([&] { b.ops->rotate_and_store(qkv, nullptr, nullptr, *kv, next(), shape, *plan, *b.on); });
    const double seconds =
        seconds_of([&] { b.ops->attention(out, query, *kv, next(), shape, *plan, *b.on); });
    const double pairs = c.rows == 1 ? tokens : c.rows * (c.before + (c.rows + 1) / 2.0);
    b.report(c.name, rows, seconds, bytes, 4.0 * c.sequences * pairs * heads * head_dim);
    std::printf("  %-22s %4lld rows %9.1f us; plan %.1f us\n", "  rotate and store",
                static_cast<long long>(rows), rotating * 1e6, planning * 1e6);
  }
}

}  // namespace

int main(int argc, char** argv) {
  cpu::bound_idle_spinning(argv);
  int threads = cpu::granted_cpus();
  std::vector<weights_kind> kinds;
  std::int32_t group = -1;
  const weights_kind int8{"int8", dtype::q8, {8, 128, zero_kind::none, dtype::f16}};
  const weights_kind int4{"int4", dtype::q8, {4, 32, zero_kind::none, dtype::f16}};
  std::vector<std::string> parts;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (const int count = std::atoi(argv[i]); count > 0) threads = count;
    for (const auto type : {dtype::f32, dtype::f16, dtype::bf16}) {
      if (name_of(type) == word) kinds.push_back({word, type, {}});
    }
    for (const auto& kind : {int8, int4}) {
      if (kind.name == word) kinds.push_back(kind);
    }
    if (word == "group" && i + 1 < argc) group = std::atoi(argv[++i]);
    if (word == "products" || word == "rows" || word == "attention") parts.push_back(word);
    take_best = take_best || word == "best";
    count_cpu = count_cpu || word == "cpu";
  }
  if (kinds.empty()) kinds = {{"f32", dtype::f32, {}}, {"bf16", dtype::bf16, {}}, int8, int4};
  const auto wanted = [&](const char* part) {
    return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end();
  };
  for (auto& kind : kinds) {
    if (group >= 0) kind.format.group = group;
    const bool integers = kind.type == dtype::q8;
    std::printf("== %s, %s\n", integers ? to_string(kind.format).c_str() : kind.name.c_str(),
                make_cpu_backend(threads)->info().name.c_str());
    if (wanted("products")) bench_products(kind, threads);
    if (wanted("rows")) bench_rows(kind.type, threads);
    // The int8 of attention is that of keys and values.
    if (wanted("attention") && kind.format.bits == 8)
      bench_attention(integers ? dtype::i8 : kind.type, threads);
  }
  return 0;
}
