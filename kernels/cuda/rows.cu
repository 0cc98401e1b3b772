#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/rows.hpp"

// Norms, activations, embedding, rounding to 8 bits. A row's sums run over the threads of one block in an
// order that its length alone decides.

namespace fastserve::kernels::cuda {
namespace {

constexpr int row_threads = 256;

bool fours(const tensor_view& v) {
  const auto bytes = static_cast<std::int64_t>(size_of(v.type)) * 4;
  return v.stride % 4 == 0 && v.cols % 4 == 0 && reinterpret_cast<std::uintptr_t>(v.data) % bytes == 0;
}

struct norm_parameters {
  void* out;
  const float* in;
  const float* gain;
  const float* bias;
  std::int64_t out_stride, in_stride, cols;
  float epsilon;
  dtype type;
  bool layer, whole_in, whole_out, whole_gain;
};

/// Four columns of every 1024: a thread's first ones of a row, kept in registers.
constexpr int kept_fours = 8;

__global__ void __launch_bounds__(row_threads) norm_rows(norm_parameters p) {
  const std::int64_t first = 4 * thread_index();
  constexpr std::int64_t step = 4 * row_threads;
  constexpr std::int64_t kept = kept_fours * step;
  // Gains are there already, rows only when the kernel before is done.
  float4v gain[kept_fours];
#pragma unroll
  for (int k = 0; k < kept_fours; ++k)
    if (first + k * step < p.cols) gain[k] = load_four(p.gain, first + k * step, p.cols, p.whole_gain);
  wait_for_previous();
  auto* room = static_cast<float*>(shared_memory());
  const float* in = p.in + block_x() * p.in_stride;
  char* out = row_at(p.out, block_x(), p.out_stride, p.type == dtype::f32 ? 4 : 2);
  const auto count = static_cast<float>(p.cols);

  float4v row[kept_fours];
#pragma unroll
  for (int k = 0; k < kept_fours; ++k)
    if (first + k * step < p.cols) row[k] = load_four(in, first + k * step, p.cols, p.whole_in);
  // A thread's fours in rising order, f(column, four).
  const auto for_fours = [&](auto&& f) {
#pragma unroll
    for (int k = 0; k < kept_fours; ++k)
      if (first + k * step < p.cols) f(first + k * step, row[k]);
    for (std::int64_t i = first + kept; i < p.cols; i += step) f(i, load_four(in, i, p.cols, p.whole_in));
  };

  float mean = 0;
  if (p.layer) {
    float sum = 0;
    for_fours([&](std::int64_t, const float4v& v) {
      for (int j = 0; j < 4; ++j) sum += v.x[j];
    });
    mean = block_sum(sum, room) / count;
  }
  float squares = 0;
  for_fours([&](std::int64_t i, const float4v& v) {
    for (int j = 0; j < 4; ++j) {
      const float x = i + j < p.cols ? v.x[j] - mean : 0;
      squares = fma(x, x, squares);
    }
  });
  const float factor = 1.0F / sqrtf(block_sum(squares, room) / count + p.epsilon);
  const auto put = [&](std::int64_t i, float4v v, const float4v& g) {
    for (int j = 0; j < 4; ++j) {
      v.x[j] = (v.x[j] - mean) * factor * g.x[j];
      if (p.bias != nullptr && i + j < p.cols) v.x[j] += p.bias[i + j];
    }
    store_four(out, p.type, i, p.cols, p.whole_out, v);
  };
#pragma unroll
  for (int k = 0; k < kept_fours; ++k)
    if (first + k * step < p.cols) put(first + k * step, row[k], gain[k]);
  for (std::int64_t i = first + kept; i < p.cols; i += step)
    put(i, load_four(in, i, p.cols, p.whole_in), load_four(p.gain, i, p.cols, p.whole_gain));
}

struct activate_parameters {
  void* out;
  const float* in;
  std::int64_t out_stride, in_stride, rows, cols;
  dtype type;
  activation f;
  bool gated, whole_in, whole_out;
};

__global__ void __launch_bounds__(row_threads) activate_elements(activate_parameters p) {
  wait_for_previous();
  const std::int64_t row_fours = (p.cols + 3) / 4;
  for (std::int64_t n = block_x() * row_threads + thread_index(); n < p.rows * row_fours;
       n += grid_x() * row_threads) {
    const std::int64_t r = n / row_fours;
    const std::int64_t i = n % row_fours * 4;
    const float* in = p.in + r * p.in_stride;
    auto v = load_four(in, i, p.cols, p.whole_in);
    for (int j = 0; j < 4; ++j) v.x[j] = activated(v.x[j], p.f);
    if (p.gated) {
      const auto up = load_four(in + p.cols, i, p.cols, p.whole_in);
      for (int j = 0; j < 4; ++j) v.x[j] *= up.x[j];
    }
    store_four(row_at(p.out, r, p.out_stride, p.type == dtype::f32 ? 4 : 2), p.type, i, p.cols, p.whole_out,
               v);
  }
}

struct quantize_parameters {
  char* out;
  const float* in;
  std::int64_t out_step;  // bytes from a record to the next of the same row
  std::int64_t in_stride, rows, cols, records;
  dtype type;
};

/// A warp to a record, four columns to a lane.
__global__ void __launch_bounds__(row_threads) quantize_records(quantize_parameters p) {
  wait_for_previous();
  const std::int64_t n = block_x() * (row_threads / warp_lanes) + thread_index() / warp_lanes;
  if (n >= p.rows * p.records) return;  // whole warps
  const std::int64_t r = n / p.records;
  const std::int64_t record = n % p.records;
  const int lane = thread_index() % warp_lanes;
  const auto v = load_four(p.in + r * p.in_stride, record * q8_columns + 4 * lane, p.cols, false);
  float largest = 0;
  for (int j = 0; j < 4; ++j) largest = larger(fabsf(v.x[j]), largest);
  largest = warp_max(largest);
  // Infinite or no number: the scale says so, whatever the codes.
  const bool number = largest <= 3.4e38F;
  std::uint32_t codes = 0x01010101U;
  float scale = largest - largest;
  if (number && p.type == dtype::f8) {
    // Zeros and what is almost zero have a scale whose inverse is a number.
    const float top = larger(largest, 1e-30F);
    const float inverse = largest_e4m3 / top;
    codes = pack2_e4m3(v.x[0] * inverse, v.x[1] * inverse) | pack2_e4m3(v.x[2] * inverse, v.x[3] * inverse)
                                                                 << 16;
    scale = top * (1.0F / largest_e4m3);
  } else if (number) {
    const float inverse = largest > 0 ? 127.0F / largest : 0;
    codes = 0;
    for (int j = 0; j < 4; ++j)
      codes |= (static_cast<std::uint32_t>(round_to_int(v.x[j] * inverse)) & 0xffU) << (8 * j);
    scale = largest * (1.0F / 127.0F);
  }
  char* out = p.out + record * p.out_step + r * q8_record_bytes;
  reinterpret_cast<std::uint32_t*>(out)[lane] = codes;
  if (lane == 0) *reinterpret_cast<float*>(out + q8_record_bytes - 4) = scale;
}

struct embed_parameters {
  float* out;
  const void* tokens;
  const void* positions;
  const std::int32_t* ids;
  const std::int32_t* at;
  std::int64_t out_stride, cols;
  dtype token_type, position_type;
};

__global__ void __launch_bounds__(row_threads) embed_rows(embed_parameters p) {
  wait_for_previous();
  const std::int64_t r = block_x();
  const std::int64_t token = std::int64_t{p.ids[r]} * p.cols;
  const std::int64_t position = p.positions != nullptr ? std::int64_t{p.at[r]} * p.cols : 0;
  for (std::int64_t i = thread_index(); i < p.cols; i += row_threads) {
    float x = load_element(p.tokens, p.token_type, token + i);
    if (p.positions != nullptr) x += load_element(p.positions, p.position_type, position + i);
    p.out[r * p.out_stride + i] = x;
  }
}

struct gather_parameters {
  float* out;
  const float* in;
  const std::int32_t* rows;
  std::int64_t out_stride, in_stride, cols;
};

__global__ void __launch_bounds__(row_threads) gather_rows(gather_parameters p) {
  wait_for_previous();
  const float* in = p.in + p.rows[block_x()] * p.in_stride;
  for (std::int64_t i = thread_index(); i < p.cols; i += row_threads)
    p.out[block_x() * p.out_stride + i] = in[i];
}

struct pad_parameters {
  void* out;
  const void* in;
  std::int64_t in_stride, cols, columns;
  int size;
};

__global__ void __launch_bounds__(row_threads) pad_rows(pad_parameters p) {
  wait_for_previous();
  for (std::int64_t i = thread_index(); i < p.columns; i += row_threads) {
    const std::int64_t from = block_x() * p.in_stride + i;
    const std::int64_t to = block_x() * p.columns + i;
    if (p.size == 4) {
      static_cast<float*>(p.out)[to] = i < p.cols ? static_cast<const float*>(p.in)[from] : 0.0F;
    } else {
      static_cast<std::uint16_t*>(p.out)[to] =
          i < p.cols ? static_cast<const std::uint16_t*>(p.in)[from] : std::uint16_t{0};
    }
  }
}

std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

}  // namespace

void launch_norm(tensor_view out, tensor_view in, const norm_weights& by, cudaStream_t on) {
  if (in.rows == 0) return;
  const norm_parameters p{out.data,
                          static_cast<const float*>(in.data),
                          static_cast<const float*>(by.gain.data),
                          static_cast<const float*>(by.bias.data),
                          out.stride,
                          in.stride,
                          in.cols,
                          by.epsilon,
                          out.type,
                          by.kind == norm_kind::layer,
                          fours(in),
                          fours(out),
                          fours(by.gain)};
  launch("norm", norm_rows, {in.rows, 1, row_threads, sizeof(float) * row_threads / warp_lanes, on, true}, p);
}

void launch_activate(tensor_view out, tensor_view in, activation f, bool gated, cudaStream_t on) {
  if (out.rows == 0 || out.cols == 0) return;
  const bool whole_in = fours(in) && out.cols % 4 == 0;
  const activate_parameters p{out.data,   static_cast<const float*>(in.data),
                              out.stride, in.stride,
                              out.rows,   out.cols,
                              out.type,   f,
                              gated,      whole_in,
                              fours(out)};
  const std::int64_t blocks = parts(out.rows * parts(out.cols, 4), row_threads);
  launch("activate", activate_elements, {std::min(blocks, largest_grid_x), 1, row_threads, 0, on, true}, p);
}

void launch_quantize(tensor_view out, tensor_view in, cudaStream_t on) {
  if (in.rows == 0) return;
  const std::int64_t records = parts(in.cols, q8_columns);
  const quantize_parameters p{static_cast<char*>(out.data),
                              static_cast<const float*>(in.data),
                              out.stride * q8_record_bytes,
                              in.stride,
                              in.rows,
                              in.cols,
                              records,
                              out.type};
  launch("quantize", quantize_records,
         {parts(in.rows * records, row_threads / warp_lanes), 1, row_threads, 0, on, true}, p);
}

void launch_embed(tensor_view out, tensor_view tokens, const std::int32_t* ids, const tensor_view* positions,
                  const std::int32_t* at, cudaStream_t on) {
  if (out.rows == 0) return;
  const embed_parameters p{static_cast<float*>(out.data),
                           tokens.data,
                           positions == nullptr ? nullptr : positions->data,
                           ids,
                           at,
                           out.stride,
                           out.cols,
                           tokens.type,
                           positions == nullptr ? dtype::f32 : positions->type};
  launch("embed", embed_rows, {out.rows, 1, row_threads, 0, on, true}, p);
}

void launch_gather(tensor_view out, tensor_view in, const std::int32_t* rows, cudaStream_t on) {
  if (out.rows == 0) return;
  const gather_parameters p{static_cast<float*>(out.data),
                            static_cast<const float*>(in.data),
                            rows,
                            out.stride,
                            in.stride,
                            in.cols};
  launch("gather", gather_rows, {out.rows, 1, row_threads, 0, on, true}, p);
}

void launch_pad(void* out, std::int64_t columns, tensor_view in, cudaStream_t on) {
  if (in.rows == 0) return;
  const pad_parameters p{out, in.data, in.stride, in.cols, columns, static_cast<int>(size_of(in.type))};
  launch("pad", pad_rows, {in.rows, 1, row_threads, 0, on, true}, p);
}

}  // namespace fastserve::kernels::cuda
