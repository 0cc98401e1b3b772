#include "model/gguf.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <stdexcept>

#include "model/text.hpp"

namespace fastserve::model {
namespace {

constexpr std::string_view magic = "GGUF";
constexpr std::uint64_t longest_name = 65535;
constexpr std::uint64_t least_value_bytes = 8 + 4 + 1;           // an empty key, its type, a byte
constexpr std::uint64_t least_tensor_bytes = 8 + 4 + 8 + 4 + 8;  // an empty name, one dimension
constexpr std::uint32_t most_dimensions = 4;
constexpr std::int64_t most_alignment = 1 << 20;

/// Bytes of a scalar of the type; 0 for those without a fixed size.
std::size_t scalar_bytes(gguf_type type) {
  static constexpr std::size_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return bytes[static_cast<std::size_t>(type)];
}

/// Reads the file's bytes one after another, never beyond their end.
class cursor {
 public:
  cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_{bytes}, file_{file} {}

  std::size_t position() const { return at_; }
  std::uint64_t left() const { return bytes_.size() - at_; }

  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(file_ + ": " + what); }

  std::span<const std::byte> take(std::uint64_t count, const std::string& what) {
    if (count > left())
      fail(what + " at byte " + std::to_string(at_) + " takes " + std::to_string(count) + " bytes, but " +
           std::to_string(left()) + " are left (is the file truncated?)");
    const auto out = bytes_.subspan(at_, count);
    at_ += count;
    return out;
  }
  template <class T>
  T number(const std::string& what) {
    T out;
    std::memcpy(&out, take(sizeof out, what).data(), sizeof out);
    return out;
  }
  std::string_view text(const std::string& what, std::uint64_t longest = ~std::uint64_t{0}) {
    const auto length = number<std::uint64_t>(what);
    if (length > longest)
      fail(what + " at byte " + std::to_string(at_) + " has " + std::to_string(length) +
           " bytes, expected at most " + std::to_string(longest));
    const auto bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::size_t at_ = 0;
};

gguf_type read_type(cursor& in, std::string_view key) {
  const auto type = in.number<std::uint32_t>("the type of key " + in_quotes(key));
  if (type > static_cast<std::uint32_t>(gguf_type::f64))
    in.fail("key " + in_quotes(key) + " is of type " + std::to_string(type) + ", expected 0 to 12");
  return static_cast<gguf_type>(type);
}

void check_boolean(cursor& in, std::span<const std::byte> bytes, std::string_view key) {
  for (const auto b : bytes)
    if (b > std::byte{1})
      in.fail("key " + in_quotes(key) + " holds " + std::to_string(std::to_integer<int>(b)) +
              " as a truth value, expected 0 or 1");
}

gguf_value read_value(cursor& in, std::uint64_t number) {
  gguf_value v;
  v.key = in.text("key " + std::to_string(number), longest_name);
  const auto what = "the value of key " + in_quotes(v.key);
  v.type = v.element = read_type(in, v.key);
  if (v.type == gguf_type::string) {
    const auto text = in.text(what);
    v.bytes = std::as_bytes(std::span(text.data(), text.size()));
    return v;
  }
  if (v.type != gguf_type::array) {
    v.bytes = in.take(scalar_bytes(v.type), what);
    if (v.type == gguf_type::boolean) check_boolean(in, v.bytes, v.key);
    return v;
  }
  v.element = read_type(in, v.key);
  if (v.element == gguf_type::array) in.fail("key " + in_quotes(v.key) + " is an array of arrays");
  v.count = in.number<std::uint64_t>(what);
  const auto least = v.element == gguf_type::string ? 8 : scalar_bytes(v.element);
  if (v.count > in.left() / least)
    in.fail("key " + in_quotes(v.key) + " claims " + std::to_string(v.count) + " elements, but only " +
            std::to_string(in.left()) + " bytes are left (is the file truncated?)");
  if (v.element == gguf_type::string) {
    auto counting = in;
    for (std::uint64_t i = 0; i < v.count; ++i) counting.text(what);
    v.bytes = in.take(counting.position() - in.position(), what);
  } else {
    v.bytes = in.take(v.count * least, what);
    if (v.element == gguf_type::boolean) check_boolean(in, v.bytes, v.key);
  }
  return v;
}

/// A tensor's place, relative to the data until the header's end is known.
gguf_tensor read_tensor_info(cursor& in, std::uint64_t number) {
  gguf_tensor out;
  out.name = in.text("the name of tensor " + std::to_string(number), longest_name);
  const auto what = "tensor " + in_quotes(out.name);
  const auto dimensions = in.number<std::uint32_t>(what);
  if (dimensions < 1 || dimensions > most_dimensions)
    in.fail(what + " has " + std::to_string(dimensions) + " dimensions, expected 1 to " +
            std::to_string(most_dimensions));
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto size = in.number<std::uint64_t>(what);
    if (size < 1 || __builtin_mul_overflow(elements, size, &elements) ||
        elements > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / 512)
      in.fail(what + ": dimension " + std::to_string(i) + " is " + std::to_string(size) +
              ", expected at least 1 and a tensor that fits a file");
    out.shape.push_back(static_cast<std::int64_t>(size));
  }
  const auto type = in.number<std::uint32_t>(what);
  out.type = ggml_type_of(type);
  if (out.type == nullptr)
    in.fail(what + " is of type " + std::to_string(type) +
            ", which no tensor has; expected one of: " + std::string(computed_ggml_types()));
  if (out.shape.front() % out.type->elements != 0)
    in.fail(what + ": rows of " + std::to_string(out.shape.front()) + " values, expected a multiple of " +
            std::to_string(out.type->elements) + " for " + std::string(out.type->name));
  out.begin = in.number<std::uint64_t>(what);
  out.end = elements / out.type->elements * out.type->bytes;  // a size for now
  std::reverse(out.shape.begin(), out.shape.end());
  return out;
}

/// Turns offsets and sizes into places in the file.
void place(std::vector<gguf_tensor>& tensors, std::uint64_t data_begin, std::uint64_t file_bytes,
           std::uint64_t alignment, const cursor& in) {
  const auto room = file_bytes - std::min(file_bytes, data_begin);
  for (auto& t : tensors) {
    const auto what = "tensor " + in_quotes(t.name) + ": data at offset " + std::to_string(t.begin);
    if (t.begin % alignment != 0)
      in.fail(what + ", expected a multiple of the alignment " + std::to_string(alignment));
    if (t.begin > room || t.end > room - t.begin)
      in.fail(what + " of " + std::to_string(t.end) + " bytes, but the file has " + std::to_string(room) +
              " bytes of data (is it truncated?)");
    t.begin += data_begin;
    t.end += t.begin;
  }
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  for (std::size_t i = 1; i < tensors.size(); ++i)
    if (tensors[i].begin < tensors[i - 1].end)
      in.fail("tensor " + in_quotes(tensors[i].name) + ": data at offset " +
              std::to_string(tensors[i].begin - data_begin) + ", expected " +
              std::to_string(tensors[i - 1].end - data_begin) + " or more, the end of " +
              in_quotes(tensors[i - 1].name) + " (they overlap)");
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (std::size_t i = 1; i < tensors.size(); ++i)
    if (tensors[i].name == tensors[i - 1].name)
      in.fail("tensor " + in_quotes(tensors[i].name) + " appears twice in the header");
}

void check_count(const cursor& in, std::uint64_t count, std::uint64_t least, const char* what) {
  if (count > in.left() / least)
    in.fail("claims " + std::to_string(count) + " " + what + ", but only " + std::to_string(in.left()) +
            " bytes are left (is the file truncated?)");
}

}  // namespace

gguf_header parse_gguf_header(std::span<const std::byte> file_bytes, const std::string& file) {
  cursor in(file_bytes, file);
  if (file_bytes.size() < 4 || std::memcmp(file_bytes.data(), magic.data(), 4) != 0)
    in.fail("does not begin with 'GGUF' (not a GGUF file?)");
  in.take(4, "the magic");
  gguf_header out;
  out.version = in.number<std::uint32_t>("the version");
  if (out.version != 0 && (out.version & 0xFFFFU) == 0) in.fail("big-endian GGUF, expected little-endian");
  if (out.version != 2 && out.version != 3)
    in.fail("GGUF version " + std::to_string(out.version) + ", expected 2 or 3");
  const auto tensors = in.number<std::uint64_t>("the number of tensors");
  const auto keys = in.number<std::uint64_t>("the number of keys");
  check_count(in, keys, least_value_bytes, "keys");
  std::vector<gguf_value> values;
  for (std::uint64_t i = 0; i < keys; ++i) values.push_back(read_value(in, i));
  out.metadata = gguf_metadata(std::move(values), file);
  check_count(in, tensors, least_tensor_bytes, "tensors");
  for (std::uint64_t i = 0; i < tensors; ++i) out.tensors.push_back(read_tensor_info(in, i));

  const auto alignment =
      static_cast<std::uint64_t>(out.metadata.integer("general.alignment", 8, most_alignment, 32));
  if (!std::has_single_bit(alignment)) out.metadata.fail("general.alignment", "a power of two");
  const auto data_begin = (in.position() + alignment - 1) / alignment * alignment;
  place(out.tensors, data_begin, file_bytes.size(), alignment, in);
  return out;
}

gguf_file::gguf_file(const std::filesystem::path& file)
    : path_{file}, mapping_{file}, header_{parse_gguf_header(mapping_.bytes(), file.string())} {}

const gguf_tensor* gguf_file::find(std::string_view name) const {
  const auto& all = header_.tensors;
  const auto it = std::lower_bound(all.begin(), all.end(), name,
                                   [](const gguf_tensor& t, std::string_view n) { return t.name < n; });
  return it == all.end() || it->name != name ? nullptr : &*it;
}

bool is_gguf(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return false;
  if (path.extension() == ".gguf") return true;
  char start[4] = {};
  std::ifstream(path, std::ios::binary).read(start, sizeof start);
  return std::string_view(start, sizeof start) == magic;
}

}  // namespace fastserve::model
