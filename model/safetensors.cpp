#include "model/safetensors.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "model/safetensors_claims.hpp"
#include "model/text.hpp"

namespace fastserve::model {
namespace {

constexpr std::uint64_t most_header_bytes = 100'000'000;

struct dtype_row {
  std::string_view name;
  std::uint8_t bits;
  std::optional<kernels::dtype> type;
};

constexpr std::array<dtype_row, 20> dtypes{{
    {"F32", 32, kernels::dtype::f32},
    {"F16", 16, kernels::dtype::f16},
    {"BF16", 16, kernels::dtype::bf16},
    {"F64", 64, {}},
    {"I64", 64, {}},
    {"U64", 64, {}},
    {"I32", 32, {}},
    {"U32", 32, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"I8", 8, {}},
    {"U8", 8, {}},
    {"BOOL", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
    {"C64", 64, {}},
}};

const dtype_row* find_dtype(std::string_view name) {
  const auto it =
      std::find_if(dtypes.begin(), dtypes.end(), [&](const auto& row) { return row.name == name; });
  return it == dtypes.end() ? nullptr : &*it;
}

/// Bytes of a tensor, nothing when they do not fit 64 bits or are no whole number.
std::optional<std::uint64_t> tensor_bytes(const std::vector<std::uint64_t>& shape, std::uint64_t bits) {
  std::uint64_t total = bits;
  if (std::find(shape.begin(), shape.end(), 0U) != shape.end()) return 0;
  for (const auto dim : shape)
    if (__builtin_mul_overflow(total, dim, &total)) return {};
  if (total % 8 != 0) return {};
  return total / 8;
}

safetensors_entry judge(tensor_claim&& c, std::uint64_t data_begin, std::uint64_t data_bytes,
                        const std::string& file) {
  const auto fail = [&](const std::string& what) {
    throw std::runtime_error(file + ": tensor " + in_quotes(c.name) + ": " + what);
  };
  const auto* row = find_dtype(c.dtype);
  if (row == nullptr) {
    std::vector<std::string_view> known;
    for (const auto& d : dtypes) known.push_back(d.name);
    fail("dtype is " + in_quotes(c.dtype, 20) + ", expected one of: " + joined(known));
  }
  safetensors_entry out;
  for (const auto dim : c.shape) {
    if (dim > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      fail("a dimension is " + std::to_string(dim) + ", more than any tensor has");
    out.shape.push_back(static_cast<std::int64_t>(dim));
  }
  const auto is = std::string(row->name) + " " + shape_text(out.shape);
  if (c.offsets.size() != 2)
    fail("data_offsets holds " + std::to_string(c.offsets.size()) + " numbers, expected 2");
  const auto begin = c.offsets[0];
  const auto end = c.offsets[1];
  const auto at = "data_offsets are [" + std::to_string(begin) + ", " + std::to_string(end) + "]";
  if (begin > end) fail(at + ", expected begin <= end");
  if (end > data_bytes)
    fail(at + ", but the file has " + std::to_string(data_bytes) + " bytes of data (is it truncated?)");
  const auto bytes = tensor_bytes(c.shape, row->bits);
  if (!bytes) fail(is + " has no size in whole bytes that fits 64 bits");
  if (*bytes != end - begin)
    fail(at + ", " + std::to_string(end - begin) + " bytes, expected " + std::to_string(*bytes) + " for " +
         is);
  out.name = std::move(c.name);
  out.dtype = row->name;
  out.type = row->type;
  out.begin = data_begin + begin;
  out.end = data_begin + end;
  return out;
}

/// Tensors, sorted by position, must fill [begin, end).
void check_coverage(const std::vector<safetensors_entry>& entries, std::size_t begin, std::size_t end,
                    const std::string& file) {
  auto expected = begin;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto& e = entries[i];
    if (e.begin != expected) {
      const bool overlap = e.begin < expected;
      throw std::runtime_error(file + ": tensor " + in_quotes(e.name) + ": data begins at byte " +
                               std::to_string(e.begin - begin) + ", expected " +
                               std::to_string(expected - begin) +
                               (overlap ? ", the end of " + in_quotes(entries[i - 1].name) + " (they overlap)"
                                        : " (a hole in the data)"));
    }
    expected = e.end;
  }
  if (expected != end)
    throw std::runtime_error(file + ": " + std::to_string(end - begin) + " bytes of data, expected " +
                             std::to_string(expected - begin) + " by the header");
}

/// Order of names over the entries' indices; duplicates are refused on the way.
std::vector<std::uint32_t> order_by_name(const std::vector<safetensors_entry>& entries,
                                         const std::string& file) {
  std::vector<std::uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return entries[a].name < entries[b].name; });
  for (std::size_t i = 1; i < order.size(); ++i)
    if (entries[order[i]].name == entries[order[i - 1]].name)
      throw std::runtime_error(file + ": tensor " + in_quotes(entries[order[i]].name) +
                               " appears twice in the header");
  return order;
}

}  // namespace

std::vector<safetensors_entry> parse_safetensors_header(std::span<const std::byte> file_bytes,
                                                        const std::string& file) {
  if (file_bytes.size() < 8)
    throw std::runtime_error(file + ": " + std::to_string(file_bytes.size()) +
                             " bytes, expected at least 8 for a safetensors header (is it truncated?)");
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | std::to_integer<std::uint64_t>(file_bytes[i]);
  if (length > most_header_bytes || length > file_bytes.size() - 8)
    throw std::runtime_error(
        file + ": header claims " + std::to_string(length) + " bytes, expected at most " +
        std::to_string(std::min<std::uint64_t>(most_header_bytes, file_bytes.size() - 8)) +
        " (not a safetensors file, or truncated)");
  const auto* text = reinterpret_cast<const char*>(file_bytes.data() + 8);
  if (length == 0 || *text != '{')
    throw std::runtime_error(file + ": header does not begin with '{' (not a safetensors file?)");

  const auto data_begin = 8 + length;
  const auto data_bytes = file_bytes.size() - data_begin;
  std::vector<safetensors_entry> entries;
  auto claims = read_claims({text, length}, file);
  entries.reserve(claims.size());
  for (auto& c : claims) entries.push_back(judge(std::move(c), data_begin, data_bytes, file));
  order_by_name(entries, file);
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair{a.begin, a.end} < std::pair{b.begin, b.end};
  });
  check_coverage(entries, data_begin, file_bytes.size(), file);
  return entries;
}

safetensors_file::safetensors_file(const std::filesystem::path& file)
    : path_{file}, mapping_{file}, entries_{parse_safetensors_header(mapping_.bytes(), file.string())} {
  by_name_ = order_by_name(entries_, file.string());
}

const safetensors_entry* safetensors_file::find(std::string_view name) const {
  const auto it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [&](auto index, std::string_view n) { return entries_[index].name < n; });
  return it == by_name_.end() || entries_[*it].name != name ? nullptr : &entries_[*it];
}

}  // namespace fastserve::model
