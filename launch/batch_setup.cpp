#include "launch/batch_setup.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <stdexcept>

#include "launch/batch_crc.hpp"
#include "launch/option_table.hpp"
#include "model/gguf_source.hpp"

namespace fastserve::launch {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t sampled_bytes = std::size_t{64} << 10;

// The files that a model is made of, by name.
std::map<std::string, fs::path> files_of(const fs::path& model) {
  static constexpr std::string_view kinds[] = {".json", ".safetensors", ".model", ".txt", ".bpe"};
  std::map<std::string, fs::path> files;
  if (model::is_gguf(model)) {
    for (const auto& part : model::open_gguf(model))
      files.emplace(part->path().filename().string(), part->path());
    return files;
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator{model, error})
    if (std::find(std::begin(kinds), std::end(kinds), entry.path().extension().string()) != std::end(kinds) &&
        entry.is_regular_file())
      files.emplace(entry.path().filename().string(), entry.path());
  if (error) throw std::runtime_error(model.string() + ": no such model");
  return files;
}

// Names, sizes, first and last bytes of what a model is made of: tells models apart without reading all of
// one.
std::string fingerprint(const fs::path& model) {
  std::uint32_t crc = 0;
  for (const auto& [name, path] : files_of(model)) {
    const batch_file file{path, O_RDONLY};
    const auto size = file.size();
    crc = crc32c(name + ' ' + std::to_string(size) + '\n', crc);
    crc = crc32c(file.read_at(0, sampled_bytes), crc);
    crc = crc32c(file.read_at(size - std::min<std::uint64_t>(size, sampled_bytes), sampled_bytes), crc);
  }
  char text[16];
  std::snprintf(text, sizeof text, "%08x", crc);
  return text;
}

}  // namespace

batch_identity identify_batch(const input_facts& input, const options& settings) {
  batch_identity out{{"an input of (bytes)", std::to_string(input.size_bytes)},
                     {"an input with checksum", input.content},
                     {"an input changed at", input.changed},
                     {"model files with checksum", fingerprint(settings.model)}};
  static constexpr std::string_view decisive[] = {"dtype", "quantize", "quantize_group", "kv_dtype",
                                                  "max_context"};
  for (const option_spec& spec : option_table()) {
    const bool counts = spec.section == "sampling" || spec.section == "stopping" ||
                        std::find(std::begin(decisive), std::end(decisive), spec.key) != std::end(decisive);
    if (!counts) continue;
    std::string value;
    for (const auto& part : spec.get(settings)) value += (value.empty() ? "'" : ", '") + part + "'";
    out.emplace_back(std::string{spec.key}, value.empty() ? "nothing" : value);
  }
  return out;
}

void check_batch_paths(const options& settings) {
  std::error_code none;
  const fs::path input{settings.batch.input};
  const fs::path output{settings.batch.output};
  for (const auto& written : {output, batch_journal::path_for(output)})
    if (fs::equivalent(input, written, none))
      throw std::runtime_error(input.string() + ": the input cannot be the output or its journal");
  if (output == "-")
    throw std::runtime_error("-: the output must be a file: a batch that is started again looks into it");
  if (output.filename().empty()) throw std::runtime_error(output.string() + ": the output must be a file");
}

std::string model_name(const options& settings) {
  const auto path = fs::absolute(settings.model).lexically_normal();
  const auto name = path.has_filename() ? path.filename() : path.parent_path().filename();
  return name.empty() ? settings.model : name.string();
}

}  // namespace fastserve::launch
