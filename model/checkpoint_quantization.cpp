#include "model/checkpoint_quantization.hpp"

#include <stdexcept>
#include <string>

#include "model/text.hpp"

namespace fastserve::model {
namespace {

using kernels::code_kind;
using packing = checkpoint_quantization::packing;

int read_bits(const json_object& from, std::string_view key) {
  const auto bits = from.integer32(key, 1, 64);
  if (bits != 4 && bits != 8) from.fail(key, "4 or 8");
  return bits;
}

std::int32_t read_group(const json_object& from, std::int32_t fallback) {
  const auto group = from.integer32("group_size", -1, 1 << 20, fallback);
  if (group == -1 || group == 0) return 0;
  if (group != 16 && group != 32 && group != 64 && group % 128 != 0)
    from.fail("group_size", "16, 32, 64, a multiple of 128, or -1 for the whole row");
  return group;
}

checkpoint_quantization read_awq(const json_object& from) {
  checkpoint_quantization out;
  out.bits = read_bits(from, from.has("w_bit") ? "w_bit" : "bits");
  if (out.bits != 4) from.fail(from.has("w_bit") ? "w_bit" : "bits", "4");
  out.group = read_group(from, 128);
  auto version = from.text("version", "gemm");
  for (auto& c : version)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (version != "gemm") from.fail("version", "gemm");
  if (!from.flag("zero_point", true)) from.fail("zero_point", "true");
  return out;
}

checkpoint_quantization read_gptq(const json_object& from) {
  checkpoint_quantization out;
  out.how = packing::gptq;
  out.bits = read_bits(from, "bits");
  out.group = read_group(from, 128);
  const auto* key = from.has("checkpoint_format") ? "checkpoint_format" : "format";  // older, newer
  const auto format = from.text(key, "gptq");
  if (format != "gptq" && format != "gptq_v2") from.fail(key, "gptq or gptq_v2");
  out.ordered = from.flag("desc_act", false);
  out.zeros_less_one = format == "gptq";
  return out;
}

checkpoint_quantization read_compressed(const json_object& from) {
  checkpoint_quantization out;
  out.how = packing::compressed;
  const auto format = from.text("format", "pack-quantized");
  if (format != "pack-quantized" && format != "int-quantized" && format != "float-quantized" &&
      format != "naive-quantized")
    from.fail("format", "pack-quantized, int-quantized, float-quantized or naive-quantized");
  const auto status = from.text("quantization_status", "compressed");
  if (status != "compressed") from.fail("quantization_status", "compressed");
  // rotations of activations between products, which a stage does not have
  if (!from.off("transform_config")) from.fail("transform_config", "none (no rotations of activations)");
  if (const auto sparsity = from.object("sparsity_config"))
    if (sparsity->text("format", "dense") != "dense") sparsity->fail("format", "dense");
  const auto groups = from.object("config_groups");
  if (!groups) from.fail("config_groups", "an object");
  const auto names = groups->keys();
  if (names.empty()) from.fail("config_groups", "at least one group");
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto weights = groups->object(names[i])->object("weights");
    if (!weights) groups->object(names[i])->fail("weights", "an object");
    checkpoint_quantization one = out;
    one.bits = read_bits(*weights, "num_bits");
    const auto type = weights->text("type", "int");
    if (type != "int" && type != "float") weights->fail("type", "int or float");
    one.symmetric = weights->flag("symmetric", true);
    if (type == "float") {
      one.codes = code_kind::e4m3;
      if (one.bits != 8) weights->fail("num_bits", "8 of type float");
      if (!one.symmetric) weights->fail("symmetric", "true of type float");
    }
    // "weight" and "static" order the columns while rounding and leave them where they were
    const auto order = weights->off("actorder") ? "none" : weights->text("actorder");
    if (order != "none" && order != "group" && order != "dynamic" && order != "weight" && order != "static")
      weights->fail("actorder", "group, dynamic, weight, static or none");
    one.ordered = order == "group" || order == "dynamic";
    const auto strategy = weights->text("strategy", weights->has("group_size") ? "group" : "tensor");
    if (one.codes == code_kind::e4m3 && strategy != "channel" && strategy != "tensor")
      weights->fail("strategy", "channel or tensor of type float");
    if (strategy == "group") {
      one.group = read_group(*weights, {});
      if (one.group == 0) weights->fail("group_size", "16, 32, 64 or a multiple of 128");
    } else if (strategy != "channel" && strategy != "tensor") {
      weights->fail("strategy", "group, channel or tensor");
    }
    if (i > 0 && (one.bits != out.bits || one.group != out.group || one.symmetric != out.symmetric ||
                  one.codes != out.codes || one.ordered != out.ordered))
      from.fail("config_groups", "one format for all matrices");
    out = one;
  }
  return out;
}

checkpoint_quantization read_fp8(const json_object& from) {
  if (from.has("weight_block_size")) from.fail("weight_block_size", "one scale a matrix");
  if (from.text("fmt", "e4m3") != "e4m3") from.fail("fmt", "e4m3");
  checkpoint_quantization out;
  out.how = packing::compressed;
  out.bits = 8;
  out.symmetric = true;
  out.codes = code_kind::e4m3;
  return out;
}

}  // namespace

std::optional<checkpoint_quantization> read_quantization(const json_object& config) {
  auto from = config.object("quantization_config");
  if (!from) from = config.object("compression_config");
  if (!from) return {};
  const auto method = from->text("quant_method");
  if (method == "awq") return read_awq(*from);
  if (method == "gptq") return read_gptq(*from);
  if (method == "compressed-tensors") return read_compressed(*from);
  if (method == "fp8") return read_fp8(*from);
  from->fail("quant_method", "one of: awq, gptq, compressed-tensors, fp8");
}

}  // namespace fastserve::model
