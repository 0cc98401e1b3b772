#include "model/gguf_source.hpp"

#include <algorithm>
#include <cstdio>
#include <set>
#include <stdexcept>

#include "model/extra_tensors.hpp"
#include "model/gguf_names.hpp"
#include "model/tensor_names.hpp"
#include "model/text.hpp"

namespace fastserve::model {
namespace {

constexpr std::int32_t most_parts = 9999;
constexpr std::size_t part_digits = 5;

/// "x-00002-of-00003.gguf" is "x" and 3; anything else is nothing.
struct part_name {
  std::string stem;
  std::int32_t parts;
};

std::optional<part_name> parse_part_name(const std::string& name) {
  const std::string_view pattern = "-00000-of-00000.gguf";
  if (name.size() <= pattern.size()) return {};
  const auto tail = name.substr(name.size() - pattern.size());
  for (std::size_t i = 0; i < pattern.size(); ++i)
    if (pattern[i] == '0' ? tail[i] < '0' || tail[i] > '9' : tail[i] != pattern[i]) return {};
  return part_name{name.substr(0, name.size() - pattern.size()), std::stoi(tail.substr(10, part_digits))};
}

std::string numbered(const part_name& name, std::int32_t number) {
  char tail[32];
  std::snprintf(tail, sizeof tail, "-%05d-of-%05d.gguf", number, name.parts);
  return name.stem + tail;
}

}  // namespace

std::vector<std::unique_ptr<gguf_file>> open_gguf(const std::filesystem::path& file) {
  std::vector<std::unique_ptr<gguf_file>> out;
  out.push_back(std::make_unique<gguf_file>(file));
  const auto parts = out.front()->metadata().integer32("split.count", 0, most_parts, 0);
  if (parts <= 1) return out;
  const auto name = parse_part_name(file.filename().string());
  if (!name || name->parts != parts)
    throw std::runtime_error(file.string() + ": one of " + std::to_string(parts) +
                             " parts, expected a name that ends in -00001-of-" +
                             numbered({"", parts}, 1).substr(10));
  out.clear();
  for (std::int32_t i = 1; i <= parts; ++i) {
    out.push_back(std::make_unique<gguf_file>(file.parent_path() / numbered(*name, i)));
    const auto& metadata = out.back()->metadata();
    if (metadata.integer32("split.no", 0, most_parts) != i - 1)
      metadata.fail("split.no", std::to_string(i - 1) + " by the file's name");
  }
  return out;
}

gguf_source::gguf_source(const std::filesystem::path& file)
    : files_{open_gguf(file)}, arch_{gguf_architecture(files_)} {
  std::unordered_map<std::string_view, place> by_own_name;
  for (const auto& part : files_) {
    paths_.push_back(part->path());
    for (const auto& tensor : part->tensors())
      if (!by_own_name.emplace(tensor.name, place{part.get(), &tensor}).second)
        throw std::runtime_error(part->path().string() + ": tensor " + in_quotes(tensor.name) +
                                 " is in another part too");
  }
  for (const auto& [ours, theirs] : gguf_modules(arch_.model_type, arch_.layers))
    for (const auto* suffix : {".weight", ".bias"})
      if (const auto it = by_own_name.find(theirs + suffix); it != by_own_name.end())
        places_.emplace(ours + suffix, it->second);
  refuse_extra_tensors();
}

void gguf_source::refuse_extra_tensors() const {
  std::set<const gguf_tensor*> used;
  for (const auto& spec : tensors_of(arch_, whole_range(arch_), names_of(arch_.model_type).prefix))
    if (const auto it = places_.find(spec.name); it != places_.end()) used.insert(it->second.tensor);
  for (const auto& part : files_)
    for (const auto& tensor : part->tensors()) {
      const bool divisors = tensor.name == "rope_freqs.weight" && !arch_.learned_positions;
      // converters keep a table of the rotation that the metadata describes
      const bool table = tensor.name.starts_with("blk.") && tensor.name.ends_with(".attn_rot_embd.weight");
      if (!used.contains(&tensor) && !divisors && !table)
        throw std::runtime_error(part->path().string() + ": tensor " + in_quotes(tensor.name) +
                                 extra_tensor_text(arch_.model_type));
    }
}

const gguf_source::place& gguf_source::find(std::string_view name) const {
  const auto it = places_.find(std::string(name));
  if (it == places_.end())
    throw std::runtime_error(where(name) + ": tensor " + in_quotes(name) + " is missing");
  return it->second;
}

std::string gguf_source::where(std::string_view name) const {
  const auto it = places_.find(std::string(name));
  return (it == places_.end() ? paths_.front() : it->second.file->path()).string();
}

host_tensor gguf_source::describe(std::string_view name) {
  const auto [file, tensor] = find(name);
  const auto& type = *tensor->type;
  if (!type.plain && !type.quantized)
    throw std::runtime_error(file->path().string() + ": tensor " + in_quotes(tensor->name) + " is " +
                             std::string(type.name) +
                             ", expected one of: " + std::string(computed_ggml_types()));
  host_tensor out{nullptr, type.plain.value_or(kernels::dtype::f32), tensor->shape, {}};
  // a vector is too short to be worth it
  if (type.quantized && tensor->shape.size() == 2) out.quantized = type.quantized;
  return out;
}

host_tensor gguf_source::tensor(std::string_view name) {
  auto out = describe(name);
  const auto [file, stored] = find(name);
  const auto bytes = file->bytes(*stored);
  if (stored->type->plain) {
    out.data = bytes.data();
    return out;
  }
  out.data = unpacked_.use(name, [&, stored = stored] {
    const auto& type = *stored->type;
    const auto columns = static_cast<std::size_t>(stored->shape.back());
    const auto row_bytes = columns / type.elements * type.bytes;
    const auto rows = bytes.size() / row_bytes;
    kernels::quantized_tensor row(*type.quantized, 1, stored->shape.back());
    std::vector<float> values(rows * columns);
    for (std::size_t r = 0; r < rows; ++r) {
      unpack_blocks(type, bytes.subspan(r * row_bytes, row_bytes), row.codes.data(), row.scales.data(),
                    row.offsets.data());
      write_numbers(values.data() + r * columns, row);
    }
    return values;
  });
  return out;
}

kernels::quantized_tensor gguf_source::quantized(std::string_view name) {
  const auto about = describe(name);
  if (!about.quantized) return weight_source::quantized(name);
  const auto [file, stored] = find(name);
  kernels::quantized_tensor out(*about.quantized, about.shape[0], about.shape[1]);
  unpack_blocks(*stored->type, file->bytes(*stored), out.codes.data(), out.scales.data(), out.offsets.data());
  return out;
}

std::vector<file_part> gguf_source::file_parts(std::string_view name) {
  if (!has(name)) return {};
  const auto [file, tensor] = find(name);
  return {{&file->mapping(), file->bytes(*tensor)}};
}

void gguf_source::release(std::string_view name) {
  if (!has(name)) return;
  unpacked_.release(name);
  const auto [file, tensor] = find(name);
  file->mapping().dont_need(file->bytes(*tensor));
}

std::vector<stored_tensor> gguf_source::all_tensors() {
  std::unordered_map<const gguf_tensor*, const std::string*> names;
  for (const auto& [name, place] : places_) names.emplace(place.tensor, &name);
  std::vector<stored_tensor> out;
  for (const auto& file : files_)
    for (const auto& tensor : file->tensors()) {
      if (tensor.name == "rope_freqs.weight") continue;  // part of the architecture
      const auto it = names.find(&tensor);
      out.push_back({it == names.end() ? std::string(tensor.name) : *it->second,
                     std::string(tensor.type->name), tensor.end - tensor.begin});
    }
  return out;
}

}  // namespace fastserve::model
