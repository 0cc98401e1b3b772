#include "compress/folder_writer.hpp"

#include <cassert>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "model/tensor_names.hpp"

namespace fastserve::compress {
namespace {

namespace fs = std::filesystem;
using kernels::dtype;
using kernels::zero_kind;

std::string_view name_in_file(dtype type) {
  return type == dtype::f16 ? "F16" : type == dtype::bf16 ? "BF16" : "F32";
}

std::int64_t divided_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Codes of one line, `bits` each, the first in the lowest bits of the first word.
void pack(std::uint32_t* words, std::int64_t count, int bits, auto code) {
  const auto per_word = 32 / bits;
  const auto mask = (1U << bits) - 1;
  for (std::int64_t i = 0; i < count; ++i)
    words[i / per_word] |= (static_cast<std::uint32_t>(code(i)) & mask) << (i % per_word * bits);
}

nlohmann::json quantization_config(const kernels::quantized_format& format) {
  nlohmann::json weights{{"num_bits", format.bits},
                         {"type", "int"},
                         {"symmetric", format.zero == zero_kind::none},
                         {"strategy", format.group == 0 ? "channel" : "group"},
                         {"dynamic", false},
                         {"observer", "minmax"},
                         {"actorder", nullptr}};
  if (format.group > 0) weights["group_size"] = format.group;
  return {{"quant_method", "compressed-tensors"},
          {"format", "pack-quantized"},
          {"quantization_status", "compressed"},
          {"ignore", {"lm_head"}},
          {"kv_cache_scheme", nullptr},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights", weights},
              {"input_activations", nullptr},
              {"output_activations", nullptr}}}}}};
}

bool is_weights(const fs::path& file) {
  const auto name = file.filename().string();
  return file.extension() == ".safetensors" || name.ends_with(".safetensors.index.json") ||
         file.extension() == ".bin" || file.extension() == ".pt" || file.extension() == ".pth" ||
         file.extension() == ".gguf";
}

}  // namespace

folder_writer::folder_writer(fs::path to, const fs::path& original, const model::architecture& arch,
                             const compress_options& options, model::weight_source& source)
    : to_{std::move(to)}, original_{original}, options_{options}, dense_{arch.stored_type} {
  std::error_code error;
  if (!fs::is_regular_file(original_ / "config.json", error))
    throw std::runtime_error(original_.string() +
                             ": no config.json, expected a Hugging Face folder to compress");
  if (fs::exists(to_, error) && !(fs::is_directory(to_, error) && fs::is_empty(to_, error)))
    throw std::runtime_error(to_.string() + ": exists, expected a new or empty folder");
  fs::create_directories(to_, error);
  if (error) throw std::runtime_error(to_.string() + ": cannot be made: " + error.message());

  const auto prefix = model::resolve_prefix(source, arch.model_type);
  for (const auto& spec : model::tensors_of(arch, model::whole_range(arch), prefix)) {
    const bool of_a_layer =
        spec.name.starts_with(prefix + std::string(model::names_of(arch.model_type).layers) + ".");
    if (!of_a_layer) {
      const auto about = source.describe(spec.name);
      plan(spec.name, name_in_file(about.type), spec.shape, kernels::size_of(about.type));
    } else if (spec.vector) {
      plan(spec.name, "F32", spec.shape, sizeof(float));
    } else if (options_.format) {
      plan_matrix(spec);
    } else {
      plan(spec.name, name_in_file(dense_), spec.shape, kernels::size_of(dense_));
    }
  }
  write_header();
}

void folder_writer::plan(const std::string& name, std::string_view dtype, std::vector<std::int64_t> shape,
                         std::size_t element_bytes) {
  auto bytes = element_bytes;
  for (const auto dim : shape) bytes *= static_cast<std::size_t>(dim);
  plan_.push_back({name, std::string(dtype), std::move(shape), bytes});
}

void folder_writer::plan_matrix(const model::tensor_spec& spec) {
  const auto& format = *options_.format;
  const auto stem = spec.name.substr(0, spec.name.size() - std::string_view("weight").size());
  const auto rows = spec.shape[0];
  const auto cols = spec.shape[1];
  const auto per_word = 32 / format.bits;
  const auto groups = format.groups(cols);
  plan(stem + "weight_packed", "I32", {rows, divided_up(cols, per_word)}, 4);
  plan(stem + "weight_scale", name_in_file(format.scale), {rows, groups}, kernels::size_of(format.scale));
  if (format.zero == zero_kind::integer)
    plan(stem + "weight_zero_point", "I32", {divided_up(rows, per_word), groups}, 4);
  plan(stem + "weight_shape", "I64", {2}, 8);
}

void folder_writer::write_header() {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  for (const auto& tensor : plan_) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data_bytes_, data_bytes_ + tensor.bytes}}};
    data_bytes_ += tensor.bytes;
  }
  auto text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  out_.open(to_ / "model.safetensors", std::ios::binary);
  const std::uint64_t length = text.size();
  out_.write(reinterpret_cast<const char*>(&length), sizeof length);
  out_ << text;
}

void folder_writer::put(std::string_view name, const void* data, std::size_t bytes) {
  assert(next_ < plan_.size() && plan_[next_].name == name && plan_[next_].bytes == bytes);
  (void)name;
  ++next_;
  out_.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  if (!out_)
    throw std::runtime_error((to_ / "model.safetensors").string() +
                             ": cannot be written (is the disk full?)");
}

void folder_writer::matrix(std::string_view name, const kernels::quantized_tensor& q) {
  const auto& format = q.format;
  const std::string stem(name.substr(0, name.size() - std::string_view("weight").size()));
  const auto per_word = 32 / format.bits;
  const int shift = format.zero == zero_kind::none ? 1 << (format.bits - 1) : 0;
  const auto view = q.view();
  const auto row_words = divided_up(q.cols, per_word);
  std::vector<std::uint32_t> words(static_cast<std::size_t>(q.rows * row_words));
  for (std::int64_t r = 0; r < q.rows; ++r)
    pack(words.data() + r * row_words, q.cols, format.bits,
         [&](std::int64_t c) { return view.code(r, c) + shift; });
  put(stem + "weight_packed", words.data(), words.size() * sizeof(std::uint32_t));

  std::vector<std::byte> scales(q.scales.size() * kernels::size_of(format.scale));
  kernels::from_f32(scales.data(), format.scale, q.scales.data(), q.scales.size());
  put(stem + "weight_scale", scales.data(), scales.size());

  if (format.zero == zero_kind::integer) {
    // packed along the rows
    const auto groups = q.view().groups();
    std::vector<std::uint32_t> zeros(static_cast<std::size_t>(divided_up(q.rows, per_word) * groups));
    const auto mask = (1U << format.bits) - 1;
    for (std::int64_t r = 0; r < q.rows; ++r)
      for (std::int64_t g = 0; g < groups; ++g)
        zeros[static_cast<std::size_t>(r / per_word * groups + g)] |=
            (q.zeros[static_cast<std::size_t>(r * groups + g)] & mask) << (r % per_word * format.bits);
    put(stem + "weight_zero_point", zeros.data(), zeros.size() * sizeof(std::uint32_t));
  }
  const std::int64_t shape[] = {q.rows, q.cols};
  put(stem + "weight_shape", shape, sizeof shape);
}

void folder_writer::numbers(std::string_view name, const std::vector<std::int64_t>&,
                            const std::vector<float>& values, bool vector) {
  const auto type = vector ? dtype::f32 : dense_;
  std::vector<std::byte> bytes(values.size() * kernels::size_of(type));
  kernels::from_f32(bytes.data(), type, values.data(), values.size());
  put(name, bytes.data(), bytes.size());
}

void folder_writer::copy(std::string_view name, const model::host_tensor& tensor) {
  put(name, tensor.data, tensor.bytes());
}

std::size_t folder_writer::finish() {
  assert(next_ == plan_.size());
  out_.close();
  if (!out_)
    throw std::runtime_error((to_ / "model.safetensors").string() +
                             ": cannot be written (is the disk full?)");
  auto config = nlohmann::ordered_json::parse(std::ifstream(original_ / "config.json"));
  config.erase("compression_config");
  config.erase("quantization_config");
  if (options_.format) config["quantization_config"] = quantization_config(*options_.format);
  std::ofstream to(to_ / "config.json");
  to << config.dump(2) << "\n";
  if (!to.flush()) throw std::runtime_error((to_ / "config.json").string() + ": cannot be written");
  for (const auto& entry : fs::directory_iterator(original_)) {
    if (!entry.is_regular_file() || is_weights(entry.path()) || entry.path().filename() == "config.json")
      continue;
    const auto kind = entry.path().extension();
    if (kind != ".json" && kind != ".model" && kind != ".txt" && kind != ".bpe" && kind != ".jinja" &&
        kind != ".jsonl")
      continue;
    std::error_code error;
    fs::copy_file(entry.path(), to_ / entry.path().filename(), fs::copy_options::overwrite_existing, error);
    if (error) throw std::runtime_error(entry.path().string() + ": cannot be copied: " + error.message());
  }
  return data_bytes_;
}

}  // namespace fastserve::compress
