#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/draw.hpp"
#include "kernels/quantized.hpp"
#include "kernels/step.hpp"
#include "kernels/tensor.hpp"

namespace fastserve::kernels {

/// An ordered queue of work on one device. On the CPU every op has finished when its call returns.
class stream {
 public:
  stream() = default;
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  virtual ~stream() = default;
  /// Blocks the caller until all work queued so far is done.
  virtual void synchronize() = 0;
};

/// A moment of a stream, for the host to ask after. This one is for devices that have done their work when
/// the call that queues it returns.
class stream_mark {
 public:
  stream_mark() = default;
  stream_mark(const stream_mark&) = delete;
  stream_mark& operator=(const stream_mark&) = delete;
  virtual ~stream_mark() = default;
  /// Now: behind all that is queued on `on`. Forgets an earlier moment.
  virtual void set(stream& /*on*/) {}
  /// Whether all that was queued before is done.
  virtual bool passed() { return true; }
  /// Blocks until it is.
  virtual void wait() {}
};

/// A matrix in host memory (typically a mapped file), [rows, cols] = [output features, input features].
struct host_matrix {
  const void* data = nullptr;
  dtype type = dtype::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  bool transposed = false;  ///< stored [cols, rows], as GPT-2's Conv1D is
};

/// What a packed weight is made of: stacked matrices of equal `cols`. Says with backend::packed_layout() how
/// many bytes it has and what they mean.
struct packed_form {
  std::int64_t cols = 0;
  std::vector<std::int64_t> rows;         ///< of each matrix
  dtype compute = dtype::f32;             ///< of numbers
  std::vector<quantized_format> formats;  ///< of each matrix; empty = numbers
};

/// A weight matrix in the layout its device multiplies fastest. Opaque above kernels/.
class weight {
 public:
  weight(std::int64_t rows, std::int64_t cols, dtype type) : rows_{rows}, cols_{cols}, type_{type} {}
  weight(const weight&) = delete;
  weight& operator=(const weight&) = delete;
  virtual ~weight() = default;

  std::int64_t rows() const { return rows_; }  ///< output features
  std::int64_t cols() const { return cols_; }  ///< input features
  dtype type() const { return type_; }
  /// Element type that backend::linear wants its input in. Where that is q8 or f8 it takes f32, too, and
  /// rounds.
  virtual dtype input_type() const = 0;
  /// What it is made of, for tables: "bf16"; "int4, group 32, f16 scales".
  virtual std::string format() const { return std::string(name_of(type_)); }
  /// Bytes that one use of the weight reads.
  virtual std::size_t bytes() const = 0;
  /// All of it as bytes, for backend::room_for(). Empty where the host cannot reach them or they are not its
  /// own.
  virtual std::span<const std::byte> storage() const { return {}; }

 private:
  std::int64_t rows_;
  std::int64_t cols_;
  dtype type_;
};

/// A weight whose bytes are to be filled in before its first use.
struct weight_room {
  std::unique_ptr<weight> made;
  std::span<std::byte> bytes;
};

/// Bytes of one key or value of `head_dim` elements. i8 has an f32 scale for each: x is about scale * q,
/// where scale = max |x| / 127 and q is rounded to nearest.
constexpr std::size_t kv_vector_bytes(std::int32_t head_dim, dtype type) {
  return static_cast<std::size_t>(head_dim) * size_of(type) + (type == dtype::i8 ? sizeof(float) : 0);
}

/// Shape of a KV store: the blocks of all layers of one stage.
struct kv_shape {
  std::int32_t layers = 0;
  std::int32_t blocks = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  dtype type = dtype::f32;  ///< f32, f16, bf16 or i8

  /// Bytes of one block over all layers, keys and values.
  std::size_t block_bytes() const {
    return std::size_t{2} * static_cast<std::size_t>(layers) * static_cast<std::size_t>(kv_heads) *
           kv_block_tokens * kv_vector_bytes(head_dim, type);
  }
};

/// The keys and values of one stage, by block. The layout inside a block is the back end's.
class kv_store {
 public:
  explicit kv_store(kv_shape shape) : shape_{shape} {}
  kv_store(const kv_store&) = delete;
  kv_store& operator=(const kv_store&) = delete;
  virtual ~kv_store() = default;
  const kv_shape& shape() const { return shape_; }

 private:
  kv_shape shape_;
};

/// Queues the steps that go through one stage's weights and buffers. A back end may tell its device a step
/// that is like one before in a single call; this one runs the ops.
class step_recorder {
 public:
  step_recorder() = default;
  step_recorder(const step_recorder&) = delete;
  step_recorder& operator=(const step_recorder&) = delete;
  virtual ~step_recorder() = default;
  /// Queues a step on `on`. `ops` calls the back end's ops with this plan, this store and this stream, and
  /// nothing else; for steps of equally many rows and sampled rows they are the same ops on the same weights
  /// and buffers. They need not be called then: the bits are the same either way.
  virtual void run(const step_plan& /*plan*/, const kv_store& /*kv*/, stream& /*on*/,
                   const std::function<void()>& ops) {
    ops();
  }
  /// Why steps are not recorded any more, so that each costs the host more; empty while nothing has failed.
  virtual std::string_view failure() const { return {}; }
};

enum class norm_kind : std::uint8_t { rms, layer };
enum class activation : std::uint8_t { silu, gelu, gelu_tanh, relu };
enum class rope_kind : std::uint8_t {
  none,
  half,        ///< pairs (i, i + dims/2): Hugging Face Llama, Qwen, Mistral
  interleaved  ///< pairs (2i, 2i + 1): the original Llama layout
};

/// Rotary position embedding. RoFormer (arXiv 2104.09864), eq. 34; scaling is folded into
/// `inverse_frequency`.
struct rope_table {
  rope_kind kind = rope_kind::none;
  std::vector<float> inverse_frequency;  ///< [rotated dims / 2]
  float magnitude = 1.0F;                ///< factor on cos and sin (YaRN and relatives)
};

/// Normalization weights on the device, f32.
struct norm_weights {
  norm_kind kind = norm_kind::rms;
  float epsilon = 1e-5F;
  tensor_view gain;  ///< [1, cols]
  tensor_view bias;  ///< [1, cols], data == nullptr where there is none
};

/// What attention needs to know of a layer besides its data.
struct attention_shape {
  std::int32_t heads = 0;  ///< query heads; a multiple of kv_heads (GQA)
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  float scale = 1.0F;       ///< usually 1 / sqrt(head_dim)
  std::int32_t window = 0;  ///< sliding window: a query sees the last `window` keys, itself included; 0 = all
};

/// Description of a device for start-up tables and the planner.
struct device_info {
  device where;
  std::string name;              ///< "AVX-512 BF16, 2 threads", "NVIDIA H200"
  std::size_t memory_bytes = 0;  ///< free for us at the time of asking
  int threads = 1;
};

/// Arithmetic on one device. The only door to it: nothing above kernels/ follows a tensor's pointer.
///
/// Guarantees that the rest of FastServe stands on:
///  - An output row is computed in an order of operations that does not depend on how many rows, sequences or
///    threads take part in the call: the same row gives the same bits in any batch and any prefill chunking.
///  - Ops on one stream run in order. Nothing allocates in the steady state.
///
/// Shape violations are programmer errors (assert). Device failures throw std::runtime_error.
class backend {
 public:
  backend() = default;
  backend(const backend&) = delete;
  backend& operator=(const backend&) = delete;
  virtual ~backend() = default;

  virtual device_info info() const = 0;

  // -- memory ---------------------------------------------------------------

  virtual std::unique_ptr<stream> make_stream() = 0;
  virtual std::unique_ptr<stream_mark> make_mark() { return std::make_unique<stream_mark>(); }
  /// Uninitialised memory, 64-byte aligned. Throws std::bad_alloc.
  virtual buffer allocate(std::size_t bytes) = 0;
  /// Uninitialised host memory, 64-byte aligned, of the kind that read_block() and write_block() are fastest
  /// with. Throws std::bad_alloc.
  virtual buffer allocate_host(std::size_t bytes) = 0;
  /// Host to device, contiguous. `from` may be reused when the call returns.
  virtual void upload(tensor_view to, const void* from, stream& on) = 0;
  /// Device to host, contiguous; complete when the call returns.
  virtual void download(void* to, tensor_view from, stream& on) = 0;
  /// The view's elements as host memory, complete when the call returns; valid until the next op writes it,
  /// or until the next call but one.
  virtual const void* host_read(tensor_view from, stream& on) = 0;
  virtual void copy(tensor_view to, tensor_view from, stream& on) = 0;

  // -- weights --------------------------------------------------------------

  /// Packs matrices of equal `cols`, stacked by rows in the order given (Q over K over V; gate over up), for
  /// products in `compute` (f32, f16 or bf16). Reads each source byte once; the sources are not kept.
  virtual std::unique_ptr<weight> pack(std::span<const host_matrix> stacked, dtype compute) = 0;
  /// The same for grouped integers, which are kept as they are. Parts of a stack may differ in format.
  virtual std::unique_ptr<weight> pack_quantized(std::span<const quantized_matrix> stacked) = 0;
  /// Rounds matrices to the nearest codes (quantize_row()) and packs those.
  virtual std::unique_ptr<weight> quantize(std::span<const host_matrix> stacked,
                                           const quantized_format& format) = 0;
  /// Whether these take fp8_rows. Where not they throw std::invalid_argument. Parts of a stack are all fp8 or
  /// none is.
  virtual bool multiplies_fp8() const { return false; }
  /// A table read by rows (embeddings). May keep the host memory: it must outlive the result.
  virtual std::unique_ptr<weight> table(const host_matrix& rows) = 0;
  /// Whether embed() takes the tokens' rows from packed integers, too.
  virtual bool embeds_packed() const { return false; }
  /// Names how packed weights are laid out and how numbers are rounded to integers: where this and the form
  /// are equal, weight::storage() of one makes another. Empty where weights cannot be made of bytes.
  virtual std::string packed_layout() const { return {}; }
  /// Room for a weight made elsewhere. Throws std::invalid_argument for a form that pack() would refuse,
  /// std::bad_alloc. Only where packed_layout() is not empty.
  virtual weight_room room_for(const packed_form&) {
    throw std::logic_error("no weights are made of bytes here");
  }

  /// How many rows of gate and of up a weight for linear_gated() has in turn, made for products in `compute`;
  /// 0 where there is no such op.
  virtual std::int64_t gated_turn(activation, dtype /*compute*/) const { return 0; }

  // -- KV -------------------------------------------------------------------

  /// Throws std::bad_alloc when the device has not that much.
  virtual std::unique_ptr<kv_store> make_kv_store(const kv_shape& shape) = 0;
  /// Copies one block over all layers (copy on write).
  virtual void copy_block(kv_store& kv, std::int32_t to, std::int32_t from, stream& on) = 0;
  /// A block over all layers to or from host memory of shape().block_bytes() (swapping). The memory belongs
  /// to the copy until `on` has been synchronized.
  virtual void read_block(void* to, const kv_store& kv, std::int32_t block, stream& on) = 0;
  virtual void write_block(kv_store& kv, std::int32_t block, const void* from, stream& on) = 0;

  // -- a step ---------------------------------------------------------------

  /// For one set of weights and buffers; goes before they do.
  virtual std::unique_ptr<step_recorder> make_recorder() { return std::make_unique<step_recorder>(); }
  /// Brings a step to the device. `rope` may be of kind none.
  virtual std::unique_ptr<step_plan> plan_step(const step_layout& layout, const rope_table& rope,
                                               const attention_shape& shape, stream& on) = 0;

  /// out[r, :] = tokens[token_ids[r], :] (+ positions[position[r], :] unless null). out: f32 [rows, hidden].
  /// `tokens` is of table(), or where embeds_packed() of pack_quantized() or quantize() (a head may be its
  /// model's embedding, too), `positions` of table().
  virtual void embed(tensor_view out, const weight& tokens, const weight* positions, const step_plan& plan,
                     stream& on) = 0;

  /// out[r, :] = norm(in[r, :]). in: f32; out: f32, f16, bf16, or q8 or f8 where weights want it, same shape.
  /// RMSNorm: arXiv 1910.07467, eq. 4; LayerNorm: arXiv 1607.06450, eq. 4 (biased variance).
  virtual void norm(tensor_view out, tensor_view in, const norm_weights& by, stream& on) = 0;

  /// out = in * w^T + bias, or out += in * w^T + bias with `accumulate` (the residual).
  /// in: w.input_type() (or f32 where that is q8 or f8) [rows, w.cols()]; out: f32 [rows, w.rows()]; bias:
  /// f32 [1, w.rows()] or data == nullptr.
  virtual void linear(tensor_view out, tensor_view in, const weight& w, tensor_view bias, bool accumulate,
                      stream& on) = 0;

  /// Optional RMS norm of every query and key head (Qwen3), rotation, then keys and values into the store.
  /// qkv: f32 [rows, (heads + 2 kv_heads) * head_dim]; queries are rewritten in place, keys and values are
  /// rounded to the store's type. `layer` counts from the store's first layer.
  virtual void rotate_and_store(tensor_view qkv, const norm_weights* query_norm, const norm_weights* key_norm,
                                kv_store& kv, std::int32_t layer, const attention_shape& shape,
                                const step_plan& plan, stream& on) = 0;

  /// Causal attention over the store: online softmax (arXiv 2205.14135, algorithm 1) block by block from the
  /// first visible block on. query: f32 [rows, heads * head_dim] (may be a column range of qkv); out: f32,
  /// f16 or bf16, same shape.
  virtual void attention(tensor_view out, tensor_view query, const kv_store& kv, std::int32_t layer,
                         const attention_shape& shape, const step_plan& plan, stream& on) = 0;

  /// Plain: out = f(in), same shape. Gated: in [rows, 2 n] holds gate then up, out [rows, n] = f(gate) * up.
  /// in: f32; out: as of norm().
  virtual void activate(tensor_view out, tensor_view in, activation f, bool gated, stream& on) = 0;

  /// linear() then activate(), gated, in one: what is between them stays in registers. w: of matrices stacked
  /// as gated_turn() says, its rows are 2 n; bias in the order of its rows; out as of activate().
  virtual void linear_gated(tensor_view /*out*/, tensor_view /*in*/, const weight&, tensor_view /*bias*/,
                            activation, stream&) {
    throw std::logic_error("no gated product here");
  }

  /// norm() of `in` into `normed`, then linear() or linear_gated() of that; the same bits. What `normed`
  /// holds afterwards is not said: the product may norm for itself.
  virtual void norm_linear(tensor_view out, tensor_view normed, tensor_view in, const norm_weights& by,
                           const weight& w, tensor_view bias, stream& on) {
    norm(normed, in, by, on);
    linear(out, normed, w, bias, false, on);
  }
  virtual void norm_linear_gated(tensor_view out, tensor_view normed, tensor_view in, const norm_weights& by,
                                 const weight& w, tensor_view bias, activation f, stream& on) {
    norm(normed, in, by, on);
    linear_gated(out, normed, w, bias, f, on);
  }

  /// Work of the host beside the device's: `work(i, thread)` once for each i below `count`, on up to
  /// info().threads threads at once, none of them with two `i` at a time. `work` must not throw.
  virtual void each_on_host(std::int64_t count, const std::function<void(std::int64_t, int)>& work) {
    for (std::int64_t i = 0; i < count; ++i) work(i, 0);
  }

  /// out[i, :] = in[sampled_rows[i], :]. f32.
  virtual void gather_sampled(tensor_view out, tensor_view in, const step_plan& plan, stream& on) = 0;

  /// Whether the device draws. Where logits are in host memory anyway, the host draws (model/sampler).
  virtual bool draws() const { return false; }
  /// Queues to draw, for each of `rows` (at least one), the token that model::sample() draws from its row of
  /// `logits`: f32 [rows, vocabulary], of fewer than 2^22 tokens. Steps that are planned from then on may
  /// name the tokens (step_layout::token_ids). Up to most_draws_begun may be begun and not finished.
  virtual void start_draw(std::span<const draw_row>, tensor_view /*logits*/, stream&) {
    throw std::logic_error("no tokens are drawn here");
  }
  /// Whether the oldest that was begun has been done.
  virtual bool draw_done() { throw std::logic_error("no tokens are drawn here"); }
  /// Its tokens, when they are there.
  virtual void finish_draw(std::span<drawn_row>) { throw std::logic_error("no tokens are drawn here"); }
  /// Both at once, while no other is begun: out[i] = the token that rows[i] draws.
  void draw(std::span<drawn_row> out, std::span<const draw_row> rows, tensor_view logits, stream& on) {
    start_draw(rows, logits, on);
    finish_draw(out);
  }
};

/// The host's processors: `threads` OpenMP threads. `isa`: "" picks the best that the processor has, or
/// FASTSERVE_ISA from the environment when that is set; otherwise "portable", "avx2", "avxvnni", "avx512",
/// "avx512vnni", "avx512bf16". Throws std::runtime_error naming the choices when `isa` is unknown or not
/// supported here.
std::unique_ptr<backend> make_cpu_backend(int threads, const std::string& isa = {});

/// Instruction sets compiled in that this processor supports, best last.
std::vector<std::string> supported_isas();

}  // namespace fastserve::kernels
