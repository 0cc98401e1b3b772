// The block layouts are those of ggml-common.h; "quantized exactly" means that every number that ggml's own
// dequantization gives is scale * code (+ offset) here, up to the rounding of that last expression.

#include "model/ggml_type.hpp"

#include <array>
#include <cassert>
#include <cstring>

namespace fastserve::model {
namespace {

using kernels::dtype;
using kernels::quantized_format;
using kernels::zero_kind;

constexpr std::uint32_t super = 256;  // values of a K-quant block

constexpr quantized_format signed_codes(int bits, std::int32_t group, dtype scale) {
  return {bits, group, zero_kind::none, scale};
}
constexpr quantized_format with_offsets(int bits, std::int32_t group, dtype scale) {
  return {bits, group, zero_kind::offset, scale};
}

enum id : std::uint32_t {
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
};

const std::array types{
    ggml_type{0, "F32", 1, 4, dtype::f32, {}},
    ggml_type{1, "F16", 1, 2, dtype::f16, {}},
    ggml_type{30, "BF16", 1, 2, dtype::bf16, {}},
    ggml_type{q8_0, "Q8_0", 32, 34, {}, signed_codes(8, 32, dtype::f16)},
    ggml_type{q4_0, "Q4_0", 32, 18, {}, signed_codes(4, 32, dtype::f16)},
    ggml_type{q4_1, "Q4_1", 32, 20, {}, with_offsets(4, 32, dtype::f16)},
    ggml_type{q5_0, "Q5_0", 32, 22, {}, signed_codes(8, 32, dtype::f16)},
    ggml_type{q5_1, "Q5_1", 32, 24, {}, with_offsets(8, 32, dtype::f16)},
    ggml_type{q2_k, "Q2_K", super, 84, {}, with_offsets(4, 16, dtype::f32)},
    ggml_type{q3_k, "Q3_K", super, 110, {}, signed_codes(4, 16, dtype::f32)},
    ggml_type{q4_k, "Q4_K", super, 144, {}, with_offsets(4, 32, dtype::f32)},
    ggml_type{q5_k, "Q5_K", super, 176, {}, with_offsets(8, 32, dtype::f32)},
    ggml_type{q6_k, "Q6_K", super, 210, {}, signed_codes(8, 16, dtype::f32)},
    // known so that sizes can be checked and the error can name them
    ggml_type{9, "Q8_1", 32, 36, {}, {}},
    ggml_type{15, "Q8_K", super, 292, {}, {}},
    ggml_type{16, "IQ2_XXS", super, 66, {}, {}},
    ggml_type{17, "IQ2_XS", super, 74, {}, {}},
    ggml_type{18, "IQ3_XXS", super, 98, {}, {}},
    ggml_type{19, "IQ1_S", super, 50, {}, {}},
    ggml_type{20, "IQ4_NL", 32, 18, {}, {}},
    ggml_type{21, "IQ3_S", super, 110, {}, {}},
    ggml_type{22, "IQ2_S", super, 82, {}, {}},
    ggml_type{23, "IQ4_XS", super, 136, {}, {}},
    ggml_type{24, "I8", 1, 1, {}, {}},
    ggml_type{25, "I16", 1, 2, {}, {}},
    ggml_type{26, "I32", 1, 4, {}, {}},
    ggml_type{27, "I64", 1, 8, {}, {}},
    ggml_type{28, "F64", 1, 8, {}, {}},
    ggml_type{29, "IQ1_M", super, 56, {}, {}},
    ggml_type{34, "TQ1_0", super, 54, {}, {}},
    ggml_type{35, "TQ2_0", super, 66, {}, {}},
    ggml_type{39, "MXFP4", 32, 17, {}, {}},
};

/// A block's bytes.
class block {
 public:
  explicit block(const std::byte* at) : at_{at} {}
  int byte(std::size_t i) const { return std::to_integer<int>(at_[i]); }
  int int8(std::size_t i) const { return static_cast<std::int8_t>(byte(i)); }
  float half(std::size_t i) const {
    float out = 0;
    kernels::to_f32(&out, at_ + i, dtype::f16, 1);
    return out;
  }
  std::uint32_t word(std::size_t i) const {
    return static_cast<std::uint32_t>(byte(i) | byte(i + 1) << 8 | byte(i + 2) << 16) |
           static_cast<std::uint32_t>(byte(i + 3)) << 24;
  }

 private:
  const std::byte* at_;
};

std::uint8_t code(int value) { return static_cast<std::uint8_t>(value); }

/// Blocks of 32 with low nibbles before high ones. `fifth`: where the fifth bits stand, 0 = none.
void unpack_nibbles(const block& b, std::size_t nibbles, std::size_t fifth, int minus, std::uint8_t* codes) {
  const std::uint32_t high = fifth == 0 ? 0 : b.word(fifth);
  for (std::size_t i = 0; i < 16; ++i) {
    const int both = b.byte(nibbles + i);
    const int low_bit = static_cast<int>(high >> i & 1U) << 4;
    const int high_bit = static_cast<int>(high >> (i + 16) & 1U) << 4;
    codes[i] = code(((both & 15) | low_bit) - minus);
    codes[i + 16] = code(((both >> 4) | high_bit) - minus);
  }
}

/// The eight 6-bit scales and eight 6-bit minima of Q4_K and Q5_K, in 12 bytes.
void unpack_scales(const block& b, std::size_t at, float* scales, float* offsets) {
  const float d = b.half(0);
  const float least = b.half(2);
  for (std::size_t g = 0; g < 8; ++g) {
    int scale = 0;
    int minimum = 0;
    if (g < 4) {
      scale = b.byte(at + g) & 63;
      minimum = b.byte(at + g + 4) & 63;
    } else {
      scale = (b.byte(at + g + 4) & 15) | (b.byte(at + g - 4) >> 6) << 4;
      minimum = b.byte(at + g + 4) >> 4 | (b.byte(at + g) >> 6) << 4;
    }
    scales[g] = d * static_cast<float>(scale);
    offsets[g] = -(least * static_cast<float>(minimum));
  }
}

void unpack_q2_k(const block& b, std::uint8_t* codes, float* scales, float* offsets) {
  const float d = b.half(80);
  const float least = b.half(82);
  for (std::size_t g = 0; g < 16; ++g) {
    scales[g] = d * static_cast<float>(b.byte(g) & 15);
    offsets[g] = -(least * static_cast<float>(b.byte(g) >> 4));
  }
  for (std::size_t i = 0; i < super; ++i)  // 128 values a half, 32 bytes of four 2-bit planes each
    codes[i] = code(b.byte(16 + i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3);
}

void unpack_q3_k(const block& b, std::uint8_t* codes, float* scales) {
  const float d = b.half(108);
  for (std::size_t g = 0; g < 16; ++g) {
    const int low = b.byte(96 + g % 8) >> (g / 8 * 4) & 15;
    const int high = b.byte(104 + g % 4) >> (g / 4 * 2) & 3;
    scales[g] = d * static_cast<float>((low | high << 4) - 32);
  }
  for (std::size_t i = 0; i < super; ++i) {
    const int low = b.byte(32 + i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3;
    const int high = b.byte(i % 32) >> (i / 32) & 1;
    codes[i] = code((low | high << 2) - 4);
  }
}

void unpack_q4_k(const block& b, std::uint8_t* codes, float* scales, float* offsets) {
  unpack_scales(b, 4, scales, offsets);
  for (std::size_t i = 0; i < super; ++i)
    codes[i] = code(b.byte(16 + i / 64 * 32 + i % 32) >> (i % 64 / 32 * 4) & 15);
}

void unpack_q5_k(const block& b, std::uint8_t* codes, float* scales, float* offsets) {
  unpack_scales(b, 4, scales, offsets);
  for (std::size_t i = 0; i < super; ++i) {
    const int low = b.byte(48 + i / 64 * 32 + i % 32) >> (i % 64 / 32 * 4) & 15;
    codes[i] = code(low | (b.byte(16 + i % 32) >> (i / 32) & 1) << 4);
  }
}

void unpack_q6_k(const block& b, std::uint8_t* codes, float* scales) {
  const float d = b.half(208);
  for (std::size_t g = 0; g < 16; ++g) scales[g] = d * static_cast<float>(b.int8(192 + g));
  for (std::size_t i = 0; i < super; ++i) {
    const auto half = i / 128;
    const int low = b.byte(half * 64 + i % 64) >> (i % 128 / 64 * 4) & 15;
    const int high = b.byte(128 + half * 32 + i % 32) >> (i % 128 / 32 * 2) & 3;
    codes[i] = code((low | high << 4) - 32);
  }
}

void unpack_block(std::uint32_t type, const block& b, std::uint8_t* codes, float* scales, float* offsets) {
  switch (type) {
    case q8_0:
      scales[0] = b.half(0);
      for (std::size_t i = 0; i < 32; ++i) codes[i] = code(b.byte(2 + i));
      break;
    case q4_0:
      scales[0] = b.half(0);
      unpack_nibbles(b, 2, 0, 8, codes);
      break;
    case q4_1:
      scales[0] = b.half(0);
      offsets[0] = b.half(2);
      unpack_nibbles(b, 4, 0, 0, codes);
      break;
    case q5_0:
      scales[0] = b.half(0);
      unpack_nibbles(b, 6, 2, 16, codes);
      break;
    case q5_1:
      scales[0] = b.half(0);
      offsets[0] = b.half(2);
      unpack_nibbles(b, 8, 4, 0, codes);
      break;
    case q2_k:
      unpack_q2_k(b, codes, scales, offsets);
      break;
    case q3_k:
      unpack_q3_k(b, codes, scales);
      break;
    case q4_k:
      unpack_q4_k(b, codes, scales, offsets);
      break;
    case q5_k:
      unpack_q5_k(b, codes, scales, offsets);
      break;
    case q6_k:
      unpack_q6_k(b, codes, scales);
      break;
    default:
      assert(false);
  }
}

}  // namespace

const ggml_type* ggml_type_of(std::uint32_t id) {
  for (const auto& type : types)
    if (type.id == id) return &type;
  return nullptr;
}

std::string_view computed_ggml_types() {
  return "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K";
}

void unpack_blocks(const ggml_type& type, std::span<const std::byte> blocks, std::uint8_t* codes,
                   float* scales, float* offsets) {
  assert(type.quantized && blocks.size() % type.bytes == 0);
  const auto groups = type.elements / static_cast<std::uint32_t>(type.quantized->group);
  const bool has_offsets = type.quantized->zero == zero_kind::offset;
  for (std::size_t at = 0; at < blocks.size(); at += type.bytes) {
    unpack_block(type.id, block(blocks.data() + at), codes, scales, offsets);
    codes += type.elements;
    scales += groups;
    if (has_offsets) offsets += groups;
  }
}

}  // namespace fastserve::model
