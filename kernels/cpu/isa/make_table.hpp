#pragma once

// The table of the instruction set that this header is compiled for. Included last.

#include "kernels/cpu/isa/attention.hpp"
#include "kernels/cpu/isa/elementwise.hpp"
#include "kernels/cpu/isa/gemm.hpp"
#include "kernels/cpu/isa/gemm_integers.hpp"
#include "kernels/cpu/isa/norm.hpp"
#include "kernels/cpu/isa/probe.hpp"
#include "kernels/cpu/isa/quantize.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

constexpr kernel_table make_table(const char* name, const char* title) {
  return {
      .name = name,
      .title = title,
      .bf16_products = has_dot,
      .gemm_tiles = {.panel_columns = panel_columns,
                     .tile_rows = tile_rows,
                     .block_rows = block_rows,
                     .block_panels = block_panels,
                     .stream_panels = stream_panels,
                     .partial_floats = partial_floats},
      .integer_tiles = {.panel_columns = panel_columns,
                        .tile_rows = integer_tile_rows,
                        .block_rows = integer_block_rows,
                        .block_panels = integer_block_panels,
                        .few_tiles = integer_few_tiles,
                        .tile_panels = tile_panels,
                        .stream_panels = few_row_panels,
                        .partial_floats = integer_partial_floats},
      .stored_unsigned = stored_unsigned,
      .convert = {{convert<float, float>, convert<float, f16>, convert<float, bf16>},
                  {convert<f16, float>, convert<f16, f16>, convert<f16, bf16>},
                  {convert<bf16, float>, convert<bf16, f16>, convert<bf16, bf16>}},
      .add_to_f32 = {add_to_f32<float>, add_to_f32<f16>, add_to_f32<bf16>},
      .pack_rows = pack_rows,
      .gemm = {gemm<plain_f32>, gemm<plain_f16>, gemm<bf16_weights>},
      .gemm_integers = gemm_integers,
      .quantize = quantize,
      .rms_norm_q8 = rms_norm_q8,
      .layer_norm_q8 = layer_norm_q8,
      .activate_q8 = activate_q8,
      .rms_norm = {rms_norm<float>, rms_norm<f16>, rms_norm<bf16>},
      .layer_norm = {layer_norm<float>, layer_norm<f16>, layer_norm<bf16>},
      .activate = {activate<float>, activate<f16>, activate<bf16>},
      .rotate_half = rotate_half,
      .rotate_interleaved = rotate_interleaved,
      .store_kv = {store_kv<float>, store_kv<f16>, store_kv<bf16>, store_kv_i8},
      .attention = {attention<float>, attention<f16>, attention<bf16>, attention<i8>},
      .clear_states = clear_states,
      .merge_states = merge_states,
      .finish_state = {finish_state<float>, finish_state<f16>, finish_state<bf16>},
      .read_memory = read_memory,
      .multiply_f32 = multiply_f32,
      .multiply_bf16 = multiply_bf16,
      .multiply_i8 = multiply_i8,
  };
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
