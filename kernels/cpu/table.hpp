#pragma once

#include <cstdint>

// The border between code compiled for one instruction set (isa/) and the rest, compiled with baseline flags.
// Only plain data and function pointers cross it: an inline function of a shared header, compiled with
// AVX-512 and merged by the linker into baseline code, would crash older processors.

namespace fastserve::kernels::cpu {

/// Index of an element type in the tables below; equals kernels::dtype.
enum element : std::uint8_t { element_f32 = 0, element_f16 = 1, element_bf16 = 2 };
inline constexpr int elements = 3;

/// Keys and values may also be i8, with a scale for each token.
inline constexpr int element_i8 = 3;
inline constexpr int kv_elements = 4;

/// Activation rows are packed by tiles of rows in lines of this many units, so that the rows of one tile lie
/// side by side: [block of k][tile][lines of the block][rows of the tile][16]. A unit is one f32, or
/// two bf16 where bf16 is multiplied as such.
inline constexpr int line_units = 16;

/// Tokens that one KV block holds (kernels/step.hpp).
inline constexpr int block_tokens = 16;

/// Tokens between two rescalings of online softmax: aligned in absolute position, hence the same in any
/// chunking.
inline constexpr int chunk_tokens = 64;

/// 128 columns of one row of int8 activations: x = scale * code. Rows lie [record of columns][row], so that
/// the rows of a tile are at constant distances and one k block of all rows is one piece of memory.
struct q8_record {
  std::int8_t codes[128];  ///< within +-127; 0 beyond the row's last column
  std::int32_t sums[15];   ///< of the codes by 16 (8 of them), by 32 (4), by 64 (2), and of all
  float scale;
};
inline constexpr int record_columns = 128;
inline constexpr std::int64_t record_bytes = sizeof(q8_record);
static_assert(record_bytes == 192);

/// Where the sums over pieces of `columns` columns begin in q8_record::sums.
constexpr int first_sum(int columns) {
  return columns == 16 ? 0 : columns == 32 ? 8 : columns == 64 ? 12 : 14;
}

/// First row of tile `i`, where `rows` rows are dealt evenly to `tiles` tiles.
constexpr std::int64_t tile_begin(std::int64_t rows, std::int64_t tiles, std::int64_t i) {
  return rows * i / tiles;
}

/// Lines [line_first, line_last) of the packed rows of one tile.
struct pack_job {
  std::int64_t stride_bytes = 0;  ///< from one row of the input to the next
  std::int64_t row_bytes = 0;     ///< the rest of a row's last line is zero
  std::int64_t total_rows = 0;
  std::int64_t lines = 0;  ///< of a whole row
  std::int64_t row = 0;    ///< first row of the tile
  int rows = 0;
  std::int64_t line_first = 0, line_last = 0;
};

/// What processors of one instruction set differ in. No bit of a result depends on it.
struct processor_habits {
  /// What is read from end to end (weights of a single tile, rows of any) is asked for ahead. AMD's cores see
  /// such streams by themselves; asked, too, a Zen 4 read 22 GB/s of 33.
  bool fetch_ahead = true;
  /// 4-bit codes that many tiles multiply are taken apart once for all of them. AMD's take them apart beside
  /// the products, in units that these do not use.
  bool open_nibbles = true;
};

/// One thread's part of out = in * w^T: tiles [tile_first, tile_last) by panels [panel_first, panel_last).
struct gemm_job {
  const float* input = nullptr;   ///< packed rows, all tiles
  const void* weights = nullptr;  ///< packed panels, all
  float* out = nullptr;           ///< [rows, columns]
  const float* bias = nullptr;    ///< [columns] or null
  float* partials = nullptr;      ///< gemm_shape::partial_floats of this thread's own
  std::int64_t out_stride = 0;
  std::int64_t rows = 0;
  std::int64_t tiles = 0;
  std::int64_t columns = 0;
  std::int64_t units = 0;
  std::int64_t tile_first = 0, tile_last = 0;
  std::int64_t panel_first = 0, panel_last = 0;
  bool accumulate = false;  ///< add to `out`
  processor_habits habits;
};

enum zeros : std::uint8_t { zeros_none = 0, zeros_integer = 1, zeros_offset = 2 };

/// Panels of grouped integers. A panel is a run of folds, each `columns` input features of all output
/// features of the panel: codes [columns / 4][panel columns][4], or of 4 bits [columns / 8][panel columns][4]
/// with the second four columns in the high nibbles; then a scale for each output feature, then zeros (as
/// f16) or offsets. Where one scale serves the whole row, scales and zeros stand once, after the last fold.
struct integer_panels {
  const char* data = nullptr;
  std::int64_t panel_bytes = 0;
  std::int64_t folds = 0;
  std::int64_t fold_bytes = 0;   ///< from one fold to the next
  std::int64_t scales_at = 0;    ///< of the panel's first scales
  std::int64_t scales_step = 0;  ///< to those of the next fold; 0 where they are of the whole row
  int columns = 0;               ///< of one fold: 16, 32, 64 or 128
  int bits = 0;
  std::int32_t shift = 0;    ///< stored code = code + shift
  bool wide_scales = false;  ///< f32 and not f16
  zeros zero = zeros_none;
};

/// One thread's part of out = in * w^T for grouped integers, otherwise as gemm_job.
struct integer_job {
  integer_panels weights;
  const char* input = nullptr;  ///< records [record][row]
  std::int64_t input_step = 0;  ///< bytes from a record to the next of the same row
  float* out = nullptr;         ///< [rows, columns]
  const float* bias = nullptr;  ///< [columns] or null
  float* partials = nullptr;    ///< integer_shape::partial_floats of this thread's own
  std::int64_t out_stride = 0;
  std::int64_t rows = 0;
  std::int64_t tiles = 0;
  std::int64_t columns = 0;
  std::int64_t tile_first = 0, tile_last = 0;
  std::int64_t panel_first = 0, panel_last = 0;
  bool accumulate = false;  ///< add to `out`
  processor_habits habits;
};

/// Tile sizes of an instruction set.
struct gemm_shape {
  int panel_columns = 0;  ///< output features of one panel
  int tile_rows = 0;      ///< most rows of one tile
  int block_rows = 0;     ///< most rows of one job
  int block_panels = 0;   ///< most panels of one job of several tiles
  int few_tiles = 1;      ///< up to so many share one stream of weights
  int tile_panels = 1;    ///< that each of several tiles multiplies at once
  int stream_panels = 1;  ///< most that one tile multiplies at once
  std::int64_t partial_floats = 0;
};

/// Attention of some query rows of one sequence over the keys of one KV head in [token_first, token_last).
struct attention_job {
  const float* query = nullptr;  ///< first row, first head of the KV head's group
  std::int64_t query_stride = 0;
  int rows = 0;
  int group = 0;  ///< query heads to this KV head
  int head_dim = 0;
  int first_position = 0;  ///< of the first row
  int window = 0;
  float scale = 1.0F;
  const char* keys = nullptr;    ///< this layer's and KV head's keys in block 0, as host_kv_store has them
  const char* values = nullptr;  ///< likewise
  std::int64_t block_bytes = 0;  ///< from one block to the next
  const std::int32_t* blocks = nullptr;
  int token_first = 0;  ///< a multiple of chunk_tokens
  int token_last = 0;
  float* states = nullptr;   ///< [rows * group] records of state_floats()
  float* scratch = nullptr;  ///< rows * group * head_dim floats
};

/// An online softmax in flight: head_dim sums padded to a multiple of 16, then maximum, then denominator.
constexpr int padded_dim(int head_dim) { return (head_dim + 15) / 16 * 16; }
constexpr int state_floats(int head_dim) { return padded_dim(head_dim) + 16; }

enum gate : std::uint8_t { gate_silu = 0, gate_gelu = 1, gate_gelu_tanh = 2, gate_relu = 3 };
inline constexpr int gates = 4;

/// Everything an instruction set offers: functions of one thread. Arrays are indexed by `element`.
struct kernel_table {
  const char* name = nullptr;
  const char* title = nullptr;
  bool bf16_products = false;  ///< bf16 weights take bf16 input (two bf16 to a unit)
  gemm_shape gemm_tiles;
  gemm_shape integer_tiles;
  bool stored_unsigned = false;  ///< 8-bit codes are multiplied as unsigned bytes

  using convert_fn = void (*)(void* out, const void* in, std::int64_t count);
  convert_fn convert[elements][elements];  ///< [to][from]; to nearest even
  convert_fn add_to_f32[elements];         ///< out += in

  void (*pack_rows)(float* out, const void* in, const pack_job& job);
  void (*gemm[elements])(const gemm_job& job);  ///< by weight type

  void (*gemm_integers)(const integer_job& job);

  /// One row to records `step` bytes apart.
  void (*quantize)(void* out, std::int64_t step, const float* in, std::int64_t cols);
  void (*rms_norm_q8)(void* out, std::int64_t step, const float* in, const float* gain, float epsilon,
                      std::int64_t cols);
  void (*layer_norm_q8)(void* out, std::int64_t step, const float* in, const float* gain, const float* bias,
                        float epsilon, std::int64_t cols);
  void (*activate_q8)(void* out, std::int64_t step, const float* in, const float* up, gate f,
                      std::int64_t count);

  /// One row. `bias` may be null.
  void (*rms_norm[elements])(void* out, const float* in, const float* gain, float epsilon, std::int64_t cols);
  void (*layer_norm[elements])(void* out, const float* in, const float* gain, const float* bias,
                               float epsilon, std::int64_t cols);
  /// out = f(in), times `up` unless that is null. By output type.
  void (*activate[elements])(void* out, const float* in, const float* up, gate f, std::int64_t count);

  void (*rotate_half)(float* head, const float* cosine, const float* sine, int pairs);
  void (*rotate_interleaved)(float* head, const float* cosine, const float* sine, int pairs);
  /// One token of one KV head into slot `slot` of a block.
  void (*store_kv[kv_elements])(void* keys, void* values, const float* key, const float* value, int slot,
                                int head_dim);

  void (*attention[kv_elements])(const attention_job& job);  ///< by KV type; starts from empty states
  void (*clear_states)(float* states, int count, int head_dim);
  void (*merge_states)(float* into, const float* from, int count, int head_dim);
  void (*finish_state[elements])(void* out, const float* state, int head_dim);  ///< by output type

  /// Probes for kernels/limits.hpp: a sum over memory; multiply-adds from registers (returns how many were
  /// done).
  float (*read_memory)(const void* data, std::int64_t bytes, int streams);
  double (*multiply_f32)(std::int64_t rounds);
  double (*multiply_bf16)(std::int64_t rounds);
  double (*multiply_i8)(std::int64_t rounds);
};

const kernel_table& portable_table();
const kernel_table& avx2_table();
const kernel_table& avxvnni_table();
const kernel_table& avx512_table();
const kernel_table& avx512vnni_table();
const kernel_table& avx512bf16_table();

}  // namespace fastserve::kernels::cpu
