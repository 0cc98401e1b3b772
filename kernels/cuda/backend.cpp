#include "kernels/cuda/backend.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <stdexcept>

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/draw.hpp"
#include "kernels/cuda/hopper/hopper.hpp"
#include "kernels/cuda/kv.hpp"
#include "kernels/cuda/rows.hpp"

namespace fastserve::kernels {
namespace cuda {
namespace {

const cuda_plan& device(const step_plan& plan) {
  assert(dynamic_cast<const cuda_plan*>(&plan) != nullptr);
  return static_cast<const cuda_plan&>(plan);
}
const device_kv_store& device(const kv_store& kv) {
  assert(dynamic_cast<const device_kv_store*>(&kv) != nullptr);
  return static_cast<const device_kv_store&>(kv);
}
tensor_view rows_of(const weight& w) {
  assert(dynamic_cast<const cuda_table*>(&w) != nullptr);
  return static_cast<const cuda_table&>(w).view();
}

}  // namespace

cuda_backend::cuda_backend(int ordinal)
    : ordinal_{ordinal},
      hopper_{hopper::runs_on(ordinal)},
      packer_{ordinal, hopper_},
      slots_{ordinal, &scratch_moves_},
      unrounded_{ordinal, &scratch_moves_},
      input_{ordinal, &scratch_moves_},
      partial_sums_{ordinal, &scratch_moves_},
      opened_{ordinal, &scratch_moves_},
      states_{ordinal, &scratch_moves_},
      draws_{ordinal} {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  name_ = properties.name;
  check(cudaDeviceGetAttribute(&cuts_.multiprocessors, cudaDevAttrMultiProcessorCount, ordinal),
        "cudaDeviceGetAttribute");
  if (!hopper_) return;
  cuts_.pairs = hopper::prompt_pairs;
  arrivals_ = allocate_device(hopper::most_arrivals(cuts_.multiprocessors) * sizeof(std::uint32_t), ordinal);
  cuda_stream on{ordinal};
  check(cudaMemsetAsync(arrivals_.data(), 0, arrivals_.bytes(), on.handle()), "cudaMemsetAsync");
  on.synchronize();
}

cudaStream_t cuda_backend::use(stream& on) const {
  use_device(ordinal_);
  return handle_of(on);
}

device_info cuda_backend::info() const {
  use_device(ordinal_);
  std::size_t available = 0;
  std::size_t all = 0;
  check(cudaMemGetInfo(&available, &all), "cudaMemGetInfo");
  return {{device_kind::cuda, ordinal_}, name_, available, 1};
}

void cuda_backend::upload(tensor_view to, const void* from, stream& on) {
  assert(to.contiguous());
  upload_(to.data, from, to.bytes(), use(on));
}

void cuda_backend::download(void* to, tensor_view from, stream& on) {
  assert(from.contiguous());
  const auto handle = use(on);
  if (from.bytes() > 0)
    check(cudaMemcpyAsync(to, from.data, from.bytes(), cudaMemcpyDeviceToHost, handle),
          "cudaMemcpyAsync to the host");
  check(cudaStreamSynchronize(handle), "download");
}

const void* cuda_backend::host_read(tensor_view from, stream& on) {
  assert(from.contiguous());
  const auto handle = use(on);
  // no copy is in flight: each call waits for its own
  void* to = read_[next_read_++ % std::size(read_)].at_least(std::max<std::size_t>(from.bytes(), 1));
  if (from.bytes() > 0)
    check(cudaMemcpyAsync(to, from.data, from.bytes(), cudaMemcpyDeviceToHost, handle),
          "cudaMemcpyAsync to the host");
  check(cudaStreamSynchronize(handle), "host_read");
  return to;
}

void cuda_backend::copy(tensor_view to, tensor_view from, stream& on) {
  assert(to.type == from.type && to.rows == from.rows && to.cols == from.cols && !in_records(to.type));
  const auto size = size_of(to.type);
  const auto width = static_cast<std::size_t>(to.cols) * size;
  const auto handle = use(on);
  if (to.rows == 0 || width == 0) return;
  // In one piece: faster by a fifth than row by row, however large.
  if (to.contiguous() && from.contiguous()) {
    check(cudaMemcpyAsync(to.data, from.data, to.bytes(), cudaMemcpyDeviceToDevice, handle),
          "cudaMemcpyAsync");
    return;
  }
  // A single row may have any stride, even one that is shorter than it.
  const auto pitch = [&](const tensor_view& v) {
    return std::max(static_cast<std::size_t>(v.stride) * size, width);
  };
  check(cudaMemcpy2DAsync(to.data, pitch(to), from.data, pitch(from), width,
                          static_cast<std::size_t>(to.rows), cudaMemcpyDeviceToDevice, handle),
        "cudaMemcpy2DAsync");
}

std::unique_ptr<weight> cuda_backend::pack(std::span<const host_matrix> stacked, dtype compute) {
  use_device(ordinal_);
  return packer_.pack(stacked, compute);
}

std::unique_ptr<weight> cuda_backend::pack_quantized(std::span<const quantized_matrix> stacked) {
  use_device(ordinal_);
  return packer_.pack_quantized(stacked);
}

std::unique_ptr<weight> cuda_backend::quantize(std::span<const host_matrix> stacked,
                                               const quantized_format& format) {
  use_device(ordinal_);
  auto tensors = rounded_on_host(stacked, format);
  std::vector<quantized_matrix> views;
  for (const auto& t : tensors) views.push_back(t.view());
  return packer_.pack_quantized(views);
}

std::unique_ptr<weight> cuda_backend::table(const host_matrix& rows) {
  use_device(ordinal_);
  return packer_.table(rows);
}

std::unique_ptr<kv_store> cuda_backend::make_kv_store(const kv_shape& shape) {
  if (shape.layers < 0 || shape.blocks < 0 || shape.kv_heads <= 0 || shape.head_dim <= 0 ||
      shape.type == dtype::i32 || in_records(shape.type)) {
    throw std::invalid_argument("KV store of an impossible shape");
  }
  std::size_t bytes = kv_vector_bytes(shape.head_dim, shape.type) * 2 * kv_block_tokens;
  for (const auto factor : {shape.layers, shape.blocks, shape.kv_heads})
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(factor), &bytes)) throw std::bad_alloc{};
  if (shape.head_dim > largest_head)
    throw std::invalid_argument("KV store: heads of " + std::to_string(shape.head_dim) +
                                ", on a GPU at most " + std::to_string(largest_head));
  return std::make_unique<device_kv_store>(shape, ordinal_);
}

void cuda_backend::copy_block(kv_store& kv, std::int32_t to, std::int32_t from, stream& on) {
  if (to == from) return;
  const auto& store = device(kv);
  check(cudaMemcpyAsync(store.block(to), store.block(from), kv.shape().block_bytes(),
                        cudaMemcpyDeviceToDevice, use(on)),
        "cudaMemcpyAsync of a block");
}

void cuda_backend::read_block(void* to, const kv_store& kv, std::int32_t block, stream& on) {
  check(
      cudaMemcpyAsync(to, device(kv).block(block), kv.shape().block_bytes(), cudaMemcpyDeviceToHost, use(on)),
      "cudaMemcpyAsync of a block");
}

void cuda_backend::write_block(kv_store& kv, std::int32_t block, const void* from, stream& on) {
  check(cudaMemcpyAsync(device(kv).block(block), from, kv.shape().block_bytes(), cudaMemcpyHostToDevice,
                        use(on)),
        "cudaMemcpyAsync of a block");
}

std::unique_ptr<step_plan> cuda_backend::plan_step(const step_layout& layout, const rope_table& rope,
                                                   const attention_shape& shape, stream& on) {
  const auto handle = use(on);
  auto plan = std::make_unique<cuda_plan>(layout, rope, shape, cuts_, slots_, handle);
  if (std::any_of(layout.token_ids.begin(), layout.token_ids.end(), [](auto id) { return id < 0; }))
    launch_take_drawn(plan->token_ids(), plan->rows(), draws_.last(), handle);
  return plan;
}

void cuda_backend::embed(tensor_view out, const weight& tokens, const weight* positions,
                         const step_plan& step, stream& on) {
  const auto& plan = device(step);
  assert(out.type == dtype::f32 && out.cols == tokens.cols() && out.rows == plan.rows() && plan.has_tokens());
  const auto places = positions == nullptr ? tensor_view{} : rows_of(*positions);
  assert(positions == nullptr || places.cols == out.cols);
  launch_embed(out, rows_of(tokens), plan.token_ids(), positions == nullptr ? nullptr : &places,
               plan.positions(), use(on));
}

tensor_view cuda_backend::unrounded(const tensor_view& out) {
  return {unrounded_.at_least(kernels::bytes_of(dtype::f32, out.rows, out.cols)),
          dtype::f32,
          out.where,
          out.rows,
          out.cols,
          out.cols};
}

void cuda_backend::norm(tensor_view out, tensor_view in, const norm_weights& by, stream& on) {
  assert(in.type == dtype::f32 && out.rows == in.rows && out.cols == in.cols);
  assert(by.gain.type == dtype::f32 && by.gain.cols == in.cols);
  assert(by.kind == norm_kind::layer || by.bias.data == nullptr);
  const auto handle = use(on);
  if (!in_records(out.type)) return launch_norm(out, in, by, handle);
  const auto whole = unrounded(out);
  launch_norm(whole, in, by, handle);
  launch_quantize(out, whole, handle);
}

void cuda_backend::activate(tensor_view out, tensor_view in, activation f, bool gated, stream& on) {
  assert(in.type == dtype::f32 && out.rows == in.rows && in.cols == (gated ? 2 : 1) * out.cols);
  const auto handle = use(on);
  if (!in_records(out.type)) return launch_activate(out, in, f, gated, handle);
  const auto whole = unrounded(out);
  launch_activate(whole, in, f, gated, handle);
  launch_quantize(out, whole, handle);
}

void cuda_backend::gather_sampled(tensor_view out, tensor_view in, const step_plan& step, stream& on) {
  const auto& plan = device(step);
  assert(out.type == dtype::f32 && in.type == dtype::f32 && out.cols == in.cols &&
         out.rows == plan.sampled());
  launch_gather(out, in, plan.sampled_rows(), use(on));
}

void cuda_backend::start_draw(std::span<const draw_row> rows, tensor_view logits, stream& on) {
  assert(logits.type == dtype::f32 && logits.cols > 0 && !rows.empty());
  assert(std::all_of(rows.begin(), rows.end(),
                     [&](const draw_row& r) { return r.row >= 0 && r.row < logits.rows; }));
  draws_.start(rows, logits, use(on));
}

bool cuda_backend::draw_done() {
  use_device(ordinal_);
  return draws_.done();
}

void cuda_backend::finish_draw(std::span<drawn_row> out) {
  use_device(ordinal_);
  draws_.finish(out);
}

void cuda_backend::rotate_and_store(tensor_view qkv, const norm_weights* query_norm,
                                    const norm_weights* key_norm, kv_store& kv, std::int32_t layer,
                                    const attention_shape& shape, const step_plan& step, stream& on) {
  const auto& plan = device(step);
  assert(qkv.type == dtype::f32 && qkv.rows == plan.rows() && plan.has_sequences());
  assert(qkv.cols == std::int64_t{shape.heads + 2 * shape.kv_heads} * shape.head_dim);
  assert(shape.head_dim == kv.shape().head_dim && shape.kv_heads == kv.shape().kv_heads);
  assert(2 * plan.rotated_pairs() <= shape.head_dim);
  assert(query_norm == nullptr ||
         (query_norm->kind == norm_kind::rms && query_norm->gain.cols == shape.head_dim));
  assert(key_norm == nullptr || (key_norm->kind == norm_kind::rms && key_norm->gain.cols == shape.head_dim));
  if (qkv.rows == 0) return;
  const auto gain = [](const norm_weights* by) {
    return by == nullptr ? nullptr : static_cast<const float*>(by->gain.data);
  };
  rotate_job job{};
  job.qkv = static_cast<float*>(qkv.data);
  job.stride = qkv.stride;
  job.query_gain = gain(query_norm);
  job.key_gain = gain(key_norm);
  job.query_epsilon = query_norm == nullptr ? 0 : query_norm->epsilon;
  job.key_epsilon = key_norm == nullptr ? 0 : key_norm->epsilon;
  job.turns = plan.turns();
  job.kind = plan.rotation();
  job.pairs = plan.rotated_pairs();
  job.kv = device(kv).layer(layer);
  job.blocks = plan.blocks();
  job.positions = plan.positions();
  job.row_blocks_at = plan.row_blocks_at();
  job.heads = shape.heads;
  job.kv_heads = shape.kv_heads;
  job.head_dim = shape.head_dim;
  launch_rotate_and_store(job, qkv.rows, use(on));
}

void cuda_backend::attention(tensor_view out, tensor_view query, const kv_store& kv, std::int32_t layer,
                             const attention_shape& shape, const step_plan& step, stream& on) {
  const auto& plan = device(step);
  assert(shape.heads % shape.kv_heads == 0 && shape.head_dim == kv.shape().head_dim);
  assert(query.type == dtype::f32 && query.cols == std::int64_t{shape.heads} * shape.head_dim);
  assert(out.rows == query.rows && out.cols == query.cols && query.rows == plan.rows() && is_float(out.type));
  const auto handle = use(on);
  if (query.rows == 0) return;
  attention_job job{};
  job.query = static_cast<const float*>(query.data);
  job.query_stride = query.stride;
  job.out = out.data;
  job.out_stride = out.stride;
  job.out_type = out.type;
  job.kv = device(kv).layer(layer);
  job.merges = plan.merges();
  job.blocks = plan.blocks();
  job.positions = plan.positions();
  job.row_blocks_at = plan.row_blocks_at();
  job.heads = shape.heads;
  job.kv_heads = shape.kv_heads;
  job.group = shape.heads / shape.kv_heads;
  job.head_dim = shape.head_dim;
  job.window = shape.window;
  job.scale = shape.scale;
  if (job.kv.type == dtype::f32 || shape.head_dim > largest_mma_head)
    return launch_attention_plain(job, query.rows, handle);

  job.states = static_cast<float*>(
      states_.at_least(sizeof(float) * static_cast<std::size_t>(plan.states() * shape.kv_heads * warp_pairs *
                                                                state_floats(shape.head_dim)) +
                       1));
  if (plan.narrow_tasks() > 0) {
    job.tasks = plan.narrow();
    launch_attention_mma(job, plan.narrow_tasks(), true, handle);
  }
  if (plan.wide_tasks() > 0) {
    job.tasks = plan.wide();
    job.task_pairs = cuts_.pairs;
    if (hopper_ && hopper::attends(job.kv.type, shape.head_dim)) {
      hopper::launch_attention(job, plan.wide_tasks(), kv.shape().blocks, handle);
    } else {
      launch_attention_mma(job, plan.wide_tasks(), false, handle);
    }
  }
  if (plan.merge_count() > 0) launch_attention_merge(job, plan.merge_count(), handle);
}

}  // namespace cuda

std::vector<cuda_device> cuda_devices() {
  int count = 0;
  const auto error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
    cudaGetLastError();
    return {};
  }
  cuda::check(error, "cudaGetDeviceCount");
  std::vector<cuda_device> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    cuda::check(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties");
    std::string uuid = "GPU-";
    for (const char byte : properties.uuid.bytes) {
      constexpr std::string_view digits = "0123456789abcdef";
      uuid += digits[static_cast<unsigned char>(byte) >> 4U];
      uuid += digits[static_cast<unsigned char>(byte) & 15U];
    }
    devices.push_back({properties.name, std::move(uuid)});
  }
  return devices;
}

std::unique_ptr<backend> make_cuda_backend(int ordinal) {
  const auto devices = cuda_devices();
  if (ordinal < 0 || ordinal >= static_cast<int>(devices.size()))
    throw std::runtime_error("no CUDA device " + std::to_string(ordinal) + ": this process sees " +
                             std::to_string(devices.size()));
  return std::make_unique<cuda::cuda_backend>(ordinal);
}

}  // namespace fastserve::kernels
