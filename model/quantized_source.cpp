#include "model/quantized_source.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "model/text.hpp"

namespace fastserve::model {
namespace {

using kernels::quantized_format;
using kernels::quantized_tensor;
using kernels::zero_kind;
using packing = checkpoint_quantization::packing;

std::uint32_t word(std::span<const std::byte> bytes, std::int64_t i) {
  std::uint32_t out = 0;
  std::memcpy(&out, bytes.data() + static_cast<std::size_t>(i) * sizeof out, sizeof out);
  return out;
}

/// Column of the weight that code `i` of an AWQ word stands for, of 8.
constexpr std::array<int, 8> awq_order{0, 2, 4, 6, 1, 3, 5, 7};

constexpr std::int64_t tile = 64;

/// Calls use(row, column) for all of a matrix, tile by tile: both source and target stay in cache although
/// one of them is transposed.
template <class Use>
void by_tiles(std::int64_t rows, std::int64_t cols, Use use) {
  for (std::int64_t r0 = 0; r0 < rows; r0 += tile)
    for (std::int64_t c0 = 0; c0 < cols; c0 += tile)
      for (auto r = r0; r < std::min(rows, r0 + tile); ++r)
        for (auto c = c0; c < std::min(cols, c0 + tile); ++c) use(r, c);
}

std::int64_t divided_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

quantized_source::quantized_source(std::filesystem::path folder, const checkpoint_quantization& how)
    : inner_{std::move(folder)}, how_{how} {}

std::string quantized_source::stem_of(std::string_view name) const {
  constexpr std::string_view suffix = ".weight";
  if (!name.ends_with(suffix)) return {};
  auto stem = std::string(name.substr(0, name.size() - suffix.size()));
  const bool packed = how_.how == packing::compressed
                          ? inner_.has(stem + ".weight_packed") || inner_.has(stem + ".weight_scale")
                          : inner_.has(stem + ".qweight");
  return packed ? stem : std::string();
}

void quantized_source::fail(const std::string& tensor, const std::string& what) {
  throw std::runtime_error(inner_.where(tensor) + ": tensor " + in_quotes(tensor) + ": " + what);
}

quantized_source::parts quantized_source::find_parts(const std::string& stem) {
  parts out;
  const auto matrix = [&](const std::string& suffix, std::string_view dtype) {
    const auto raw = inner_.raw(stem + suffix);
    if (raw.entry->dtype != dtype || raw.entry->shape.size() != 2 || raw.entry->shape[0] < 1 ||
        raw.entry->shape[1] < 1)
      fail(stem + suffix, std::string(raw.entry->dtype) + " " + shape_text(raw.entry->shape) + ", expected " +
                              std::string(dtype) + " [rows, columns]");
    return raw;
  };
  const auto expect = [&](const raw_tensor& raw, const std::string& suffix, std::int64_t rows,
                          std::int64_t cols) {
    if (raw.entry->shape != std::vector<std::int64_t>{rows, cols})
      fail(stem + suffix, "shape is " + shape_text(raw.entry->shape) + ", expected [" + std::to_string(rows) +
                              ", " + std::to_string(cols) + "] for a matrix of " + std::to_string(out.rows) +
                              " x " + std::to_string(out.cols) + " in groups of " +
                              (how_.group == 0 ? "a row" : std::to_string(how_.group)));
  };
  const std::int64_t per_word = 32 / how_.bits;
  const bool compressed = how_.how == packing::compressed;
  const std::string scales = compressed ? ".weight_scale" : ".scales";
  const std::string zeros = compressed ? ".weight_zero_point" : ".qzeros";
  const std::string order = compressed ? ".weight_g_idx" : ".g_idx";
  const bool e4m3 = how_.codes == kernels::code_kind::e4m3;
  const bool bytes = compressed && (e4m3 || !inner_.has(stem + ".weight_packed"));
  out.codes = e4m3    ? matrix(".weight", "F8_E4M3")
              : bytes ? matrix(".weight", "I8")
                      : matrix(compressed ? ".weight_packed" : ".qweight", "I32");
  const auto& shape = out.codes.entry->shape;
  if (bytes && how_.bits != 8)
    fail(stem + ".weight", "I8, expected packed codes of 4 bits in " + in_quotes(stem + ".weight_packed"));
  switch (how_.how) {
    case packing::awq:
      out.rows = shape[1] * per_word;
      out.cols = shape[0];
      break;
    case packing::gptq:
      out.rows = shape[1];
      out.cols = shape[0] * per_word;
      break;
    case packing::compressed:
      out.rows = shape[0];
      out.cols = bytes ? shape[1] : shape[1] * per_word;
      if (!bytes && inner_.has(stem + ".weight_shape")) {
        // rows whose length is no multiple of the codes in a word
        const auto said = inner_.raw(stem + ".weight_shape");
        std::array<std::int64_t, 2> dims{};
        if (said.entry->dtype != "I64" || said.bytes.size() != sizeof dims)
          fail(stem + ".weight_shape", "expected I64 [2]");
        std::memcpy(dims.data(), said.bytes.data(), sizeof dims);
        if (dims[0] != out.rows || dims[1] > out.cols || dims[1] <= out.cols - per_word)
          fail(stem + ".weight_shape", "holds " + shape_text(dims) + ", but the codes are of " +
                                           shape_text(std::array{out.rows, out.cols}));
        out.cols = dims[1];
      }
      break;
  }
  out.groups = how_.group == 0 ? 1 : divided_up(out.cols, how_.group);
  out.scales = inner_.raw(stem + scales);
  if (!out.scales.entry->type)
    fail(stem + scales, "dtype is " + std::string(out.scales.entry->dtype) + ", expected F32, F16 or BF16");
  const bool one_scale =
      compressed && how_.group == 0 && out.scales.bytes.size() == kernels::size_of(*out.scales.entry->type);
  if (compressed && !one_scale) expect(out.scales, scales, out.rows, out.groups);
  if (!compressed) expect(out.scales, scales, out.groups, out.rows);
  if (!how_.symmetric) {
    out.zeros = matrix(zeros, bytes ? "I8" : "I32");
    if (bytes)
      expect(*out.zeros, zeros, out.rows, out.groups);
    else if (compressed)
      expect(*out.zeros, zeros, divided_up(out.rows, per_word), out.groups);
    else
      expect(*out.zeros, zeros, out.groups, divided_up(out.rows, per_word));
  }
  if (how_.ordered && how_.group != 0 && !inner_.has(stem + order))
    fail(stem + order, "missing, expected by the configuration's act-order");
  if (how_.how != packing::awq && inner_.has(stem + order)) {
    out.order = inner_.raw(stem + order);
    if (out.order->entry->dtype != "I32" || out.order->entry->shape != std::vector<std::int64_t>{out.cols})
      fail(stem + order, std::string(out.order->entry->dtype) + " " + shape_text(out.order->entry->shape) +
                             ", expected I32 [" + std::to_string(out.cols) + "]");
    for (std::int64_t i = 0; i < out.cols; ++i)
      if (word(out.order->bytes, i) >= static_cast<std::uint32_t>(out.groups))
        fail(stem + order, "names group " +
                               std::to_string(static_cast<std::int32_t>(word(out.order->bytes, i))) + " of " +
                               std::to_string(out.groups));
  }
  return out;
}

bool quantized_source::in_order(const parts& from) const {
  if (!from.order || how_.group == 0) return true;
  for (std::int64_t i = 0; i < from.cols; ++i)
    if (word(from.order->bytes, i) != static_cast<std::uint32_t>(i / how_.group)) return false;
  return true;
}

quantized_format quantized_source::format_of(const parts& from) const {
  if (how_.codes == kernels::code_kind::e4m3) return kernels::fp8_rows;
  quantized_format out;
  out.bits = how_.bits;
  out.group = how_.unpacked_group();
  out.zero = how_.symmetric ? zero_kind::none : zero_kind::integer;
  out.scale = from.scales.entry->type == kernels::dtype::f16 ? kernels::dtype::f16 : kernels::dtype::f32;
  return out;
}

host_tensor quantized_source::describe(std::string_view name) {
  const auto stem = stem_of(name);
  if (stem.empty()) return inner_.describe(name);
  const auto from = find_parts(stem);
  host_tensor out{nullptr, kernels::dtype::f32, {from.rows, from.cols}, {}};
  if (in_order(from)) out.quantized = format_of(from);
  return out;
}

quantized_tensor quantized_source::unpack(const parts& from, const std::string& stem) {
  quantized_tensor out(format_of(from), from.rows, from.cols);
  const int bits = how_.bits;
  const std::int64_t per_word = 32 / bits;
  const auto code_mask = (1U << bits) - 1;
  const int middle = 1 << (bits - 1);
  const bool bytes = from.codes.entry->dtype != "I32";
  const int shift = bytes ? (how_.symmetric ? 0 : middle) : how_.symmetric ? -middle : 0;
  const auto at = [&](std::uint32_t w, std::int64_t i) {
    return static_cast<int>(w >> (i * bits) & code_mask);
  };
  const auto put = [&](std::int64_t row, std::int64_t col, int code) {
    out.codes[static_cast<std::size_t>(row * from.cols + col)] = static_cast<std::uint8_t>(code + shift);
  };
  const auto words = from.codes.bytes;
  switch (how_.how) {
    case packing::awq:
      by_tiles(from.cols, from.rows / per_word, [&](std::int64_t in, std::int64_t c) {
        const auto w = word(words, in * (from.rows / per_word) + c);
        for (std::int64_t i = 0; i < 8; ++i)
          put(c * 8 + awq_order[static_cast<std::size_t>(i)], in, at(w, i));
      });
      break;
    case packing::gptq:
      by_tiles(from.cols / per_word, from.rows, [&](std::int64_t r, std::int64_t row) {
        const auto w = word(words, r * from.rows + row);
        for (std::int64_t i = 0; i < per_word; ++i) put(row, r * per_word + i, at(w, i));
      });
      break;
    case packing::compressed:
      const auto row_words = divided_up(from.cols, per_word);
      if (bytes && shift == 0) {
        std::memcpy(out.codes.data(), words.data(), out.codes.size());
        break;
      }
      for (std::int64_t r = 0; r < from.rows; ++r)
        for (std::int64_t c = 0; c < from.cols; ++c)
          put(r, c,
              bytes ? std::to_integer<std::int8_t>(words[static_cast<std::size_t>(r * from.cols + c)])
                    : at(word(words, r * row_words + c / per_word), c % per_word));
      break;
  }

  std::vector<float> scales(from.scales.bytes.size() / kernels::size_of(*from.scales.entry->type));
  kernels::to_f32(scales.data(), from.scales.bytes.data(), *from.scales.entry->type, scales.size());
  const auto groups = out.format.groups(from.cols);
  const auto of_stored = how_.group == 0 ? 1 : how_.group / out.format.group;
  const bool row_major = how_.how == packing::compressed;
  for (std::int64_t r = 0; r < from.rows; ++r)
    for (std::int64_t g = 0; g < groups; ++g) {
      const auto stored = g / of_stored;
      const auto to = static_cast<std::size_t>(r * groups + g);
      out.scales[to] = scales.size() == 1
                           ? scales[0]
                           : scales[static_cast<std::size_t>(row_major ? r * from.groups + stored
                                                                       : stored * from.rows + r)];
      if (!from.zeros) continue;
      int zero = 0;
      if (bytes) {
        zero = std::to_integer<std::int8_t>(
                   from.zeros->bytes[static_cast<std::size_t>(r * from.groups + stored)]) +
               middle;
      } else if (row_major) {
        zero = at(word(from.zeros->bytes, r / per_word * from.groups + stored), r % per_word);
      } else {
        auto i = r % per_word;
        if (how_.how == packing::awq)
          i = std::find(awq_order.begin(), awq_order.end(), i) - awq_order.begin();
        zero = at(word(from.zeros->bytes, stored * divided_up(from.rows, per_word) + r / per_word), i);
        if (how_.zeros_less_one) ++zero;
      }
      if (zero > 255)
        fail(stem + ".qzeros", "a zero point is " + std::to_string(zero) + ", expected at most 255");
      out.zeros[to] = static_cast<std::uint8_t>(zero);
    }
  return out;
}

/// Act-order: each input feature names its group.
std::vector<float> quantized_source::numbers_by_order(const parts& from, const std::string& stem) {
  const auto q = unpack(from, stem);
  const auto groups = q.format.groups(q.cols);
  const auto of_stored = how_.group / q.format.group;
  std::vector<float> out(q.codes.size());
  for (std::int64_t r = 0; r < q.rows; ++r)
    for (std::int64_t c = 0; c < q.cols; ++c) {
      const auto g =
          static_cast<std::size_t>(r * groups + std::int64_t{word(from.order->bytes, c)} * of_stored);
      const int zero = q.zeros.empty() ? 0 : q.zeros[g];
      out[static_cast<std::size_t>(r * q.cols + c)] =
          q.scales[g] * static_cast<float>(q.view().code(r, c) - zero);
    }
  return out;
}

host_tensor quantized_source::tensor(std::string_view name) {
  const auto stem = stem_of(name);
  if (stem.empty()) return inner_.tensor(name);
  auto out = describe(name);
  out.data = unpacked_.use(name, [&] {
    const auto from = find_parts(stem);
    if (!in_order(from)) return numbers_by_order(from, stem);
    const auto q = unpack(from, stem);
    std::vector<float> values(q.codes.size());
    write_numbers(values.data(), q);
    return values;
  });
  return out;
}

quantized_tensor quantized_source::quantized(std::string_view name) {
  if (!describe(name).quantized) return weight_source::quantized(name);
  const auto stem = stem_of(name);
  return unpack(find_parts(stem), stem);
}

std::string quantized_source::where(std::string_view name) const {
  const auto stem = stem_of(name);
  if (stem.empty()) return inner_.where(name);
  return inner_.where(how_.how != packing::compressed       ? stem + ".qweight"
                      : inner_.has(stem + ".weight_packed") ? stem + ".weight_packed"
                                                            : stem + ".weight");
}

std::vector<file_part> quantized_source::file_parts(std::string_view name) {
  const auto stem = stem_of(name);
  if (stem.empty()) return inner_.file_parts(name);
  std::vector<file_part> out;
  for (const auto* suffix : {".qweight", ".qzeros", ".scales", ".g_idx", ".weight_packed", ".weight",
                             ".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_g_idx"})
    for (const auto& part : inner_.file_parts(stem + suffix)) out.push_back(part);
  return out;
}

std::string quantized_source::fingerprint(std::string_view name) {
  // what config.json says of the codes is not in the tensors
  return weight_source::fingerprint(name) + "; packing " + std::to_string(static_cast<int>(how_.how)) +
         (how_.zeros_less_one ? ", zeros less one" : "");
}

void quantized_source::release(std::string_view name) {
  const auto stem = stem_of(name);
  if (stem.empty()) return inner_.release(name);
  unpacked_.release(name);
  for (const auto* suffix : {".qweight", ".qzeros", ".scales", ".weight_packed", ".weight", ".weight_scale"})
    inner_.release(stem + suffix);
}

std::string quantized_source::whole_name(std::string name) const {
  // Scales of activations are with their matrix, but not used: see read_quantization().
  static constexpr std::string_view suffixes[] = {".qweight",
                                                  ".qzeros",
                                                  ".scales",
                                                  ".g_idx",
                                                  ".weight_packed",
                                                  ".weight_scale",
                                                  ".weight_zero_point",
                                                  ".weight_shape",
                                                  ".weight_g_idx",
                                                  ".input_scale",
                                                  ".input_zero_point"};
  for (const auto suffix : suffixes)
    if (name.ends_with(suffix)) {
      auto whole = name.substr(0, name.size() - suffix.size()) + ".weight";
      if (!stem_of(whole).empty()) return whole;
    }
  return name;
}

std::vector<std::string> quantized_source::names() const {
  auto out = inner_.names();
  for (auto& name : out) name = whole_name(std::move(name));
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::vector<stored_tensor> quantized_source::all_tensors() {
  auto out = inner_.all_tensors();
  for (auto& tensor : out) tensor.name = whole_name(std::move(tensor.name));
  return out;
}

}  // namespace fastserve::model
