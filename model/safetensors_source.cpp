#include "model/safetensors_source.hpp"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "model/json_object.hpp"
#include "model/text.hpp"

namespace fastserve::model {
namespace {

constexpr auto single_name = "model.safetensors";
constexpr auto index_name = "model.safetensors.index.json";
constexpr std::size_t most_index_bytes = std::size_t{64} << 20;
constexpr int most_index_depth = 16;

/// Keeps {"weight_map": {tensor: shard}} and skips everything else without storing it.
class index_reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit index_reader(const std::string& file) : file_{file} {}
  bool seen() const { return seen_; }
  std::unordered_map<std::string, std::string> take() { return std::move(map_); }

  bool key(std::string& text) override {
    if (depth_ == 1) {
      in_map_ = text == "weight_map";
      if (in_map_ && std::exchange(seen_, true)) fail("weight_map appears twice");
    }
    key_ = text;
    return true;
  }
  bool string(std::string& text) override {
    if (!in_map_) return true;
    if (depth_ != 2) fail("weight_map holds a string, expected an object");
    if (text.empty() || text == "." || text == ".." ||
        text.find_first_of(std::string_view("/\\\0", 3)) != text.npos)
      fail("tensor " + in_quotes(key_) + " is said to be in " + in_quotes(text) +
           ", expected the name of a file in this folder");
    if (!map_.emplace(key_, text).second) fail("tensor " + in_quotes(key_) + " appears twice in weight_map");
    return true;
  }
  bool start_object(std::size_t) override {
    if (in_map_ && depth_ != 1) no_string("an object");
    enter();
    return true;
  }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override {
    if (depth_ == 0) fail("holds a list, expected an object");
    if (in_map_) no_string("a list");
    enter();
    return true;
  }
  bool end_array() override { return leave(); }
  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("true or false"); }
  bool number_integer(std::int64_t) override { return other("a number"); }
  bool number_unsigned(std::uint64_t) override { return other("a number"); }
  bool number_float(double, const std::string&) override { return other("a number"); }
  bool binary(nlohmann::json::binary_t&) override { return other("binary data"); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    fail("not valid JSON: " + json_error_text(error));
  }

 private:
  void enter() {
    if (++depth_ > most_index_depth)
      fail("nested more than " + std::to_string(most_index_depth) + " levels deep");
  }
  bool leave() {
    if (--depth_ == 1) in_map_ = false;
    return true;
  }
  bool other(const char* what) {
    if (depth_ == 0) fail(std::string("holds ") + what + ", expected an object");
    if (in_map_) no_string(what);
    return true;
  }
  [[noreturn]] void no_string(const char* what) const {
    if (depth_ == 1) fail(std::string("weight_map is ") + what + ", expected an object");
    fail("tensor " + in_quotes(key_) + " is said to be in " + what + ", expected the name of a file");
  }
  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(file_ + ": " + what); }

  const std::string& file_;
  int depth_ = 0;
  bool in_map_ = false;
  bool seen_ = false;
  std::string key_;
  std::unordered_map<std::string, std::string> map_;
};

bool is_file(const std::filesystem::path& path) {
  std::error_code ec;
  return std::filesystem::is_regular_file(path, ec);
}

}  // namespace

std::unordered_map<std::string, std::string> parse_shard_index(std::string_view json,
                                                               const std::string& file) {
  index_reader reader(file);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  if (!reader.seen()) throw std::runtime_error(file + ": weight_map is missing, expected an object");
  return reader.take();
}

safetensors_source::safetensors_source(std::filesystem::path folder) : folder_{std::move(folder)} {
  if (is_file(folder_ / single_name)) {
    files_.push_back(folder_ / single_name);
    open(files_.front());
    return;
  }
  const auto index = folder_ / index_name;
  if (!is_file(index))
    throw std::runtime_error(folder_.string() + ": no weights, expected " + single_name + " or " +
                             index_name);
  shards_ = parse_shard_index(read_text_file(index, most_index_bytes), index.string());
  std::set<std::string> names;
  for (const auto& [tensor, shard] : shards_) names.insert(shard);
  for (const auto& name : names) {
    if (!is_file(folder_ / name))
      throw std::runtime_error(index.string() + ": shard " + in_quotes(name) + " is missing from the folder");
    files_.push_back(folder_ / name);
  }
}

safetensors_file& safetensors_source::open(const std::filesystem::path& file) {
  auto& slot = open_[file];
  if (!slot) slot = std::make_unique<safetensors_file>(file);
  return *slot;
}

bool safetensors_source::has(std::string_view name) const {
  if (!shards_.empty()) return shards_.contains(std::string(name));
  return !files_.empty() && open_.at(files_.front())->find(name) != nullptr;
}

std::vector<std::string> safetensors_source::names() const {
  std::vector<std::string> out;
  for (const auto& [tensor, shard] : shards_) out.push_back(tensor);
  if (shards_.empty() && !files_.empty())
    for (const auto& entry : open_.at(files_.front())->entries()) out.push_back(entry.name);
  std::sort(out.begin(), out.end());
  return out;
}

std::string safetensors_source::where(std::string_view name) const {
  if (shards_.empty()) return files_.empty() ? (folder_ / index_name).string() : files_.front().string();
  const auto it = shards_.find(std::string(name));
  return (folder_ / (it == shards_.end() ? index_name : it->second)).string();
}

safetensors_source::place safetensors_source::find(std::string_view name) {
  if (!has(name)) throw std::runtime_error(where(name) + ": tensor " + in_quotes(name) + " is missing");
  auto& file = open(where(name));
  const auto* entry = file.find(name);
  if (entry == nullptr)
    throw std::runtime_error(file.path().string() + ": tensor " + in_quotes(name) + " is missing, but " +
                             index_name + " says it is here");
  return {&file, entry};
}

host_tensor safetensors_source::describe(std::string_view name) {
  const auto [file, entry] = find(name);
  if (!entry->type)
    throw std::runtime_error(file->path().string() + ": tensor " + in_quotes(name) + ": dtype is " +
                             std::string(entry->dtype) + ", expected F32, F16 or BF16");
  return {nullptr, *entry->type, entry->shape, {}};
}

host_tensor safetensors_source::tensor(std::string_view name) {
  auto out = describe(name);
  const auto [file, entry] = find(name);
  const auto bytes = file->bytes(*entry);
  out.data = bytes.data();
  // the format does not pad: a header of odd length puts floats at odd addresses
  if (reinterpret_cast<std::uintptr_t>(out.data) % kernels::size_of(out.type) != 0) {
    auto& copy = realigned_[std::string(name)];
    if (copy.users++ == 0) copy.bytes.assign(bytes.begin(), bytes.end());
    out.data = copy.bytes.data();
  }
  return out;
}

raw_tensor safetensors_source::raw(std::string_view name) {
  const auto [file, entry] = find(name);
  return {entry, file->bytes(*entry)};
}

std::vector<file_part> safetensors_source::file_parts(std::string_view name) {
  if (!has(name)) return {};
  const auto [file, entry] = find(name);
  return {{&file->mapping(), file->bytes(*entry)}};
}

void safetensors_source::release(std::string_view name) {
  if (!has(name)) return;
  if (const auto it = realigned_.find(name); it != realigned_.end() && --it->second.users == 0)
    realigned_.erase(it);
  const auto [file, entry] = find(name);
  file->mapping().dont_need(file->bytes(*entry));
}

std::vector<stored_tensor> safetensors_source::all_tensors() {
  std::vector<stored_tensor> out;
  for (const auto& entry : all_entries())
    out.push_back({entry.name, std::string(entry.dtype), entry.end - entry.begin});
  return out;
}

std::vector<safetensors_entry> safetensors_source::all_entries() {
  std::vector<safetensors_entry> out;
  for (const auto& path : files_) {
    const auto& entries = open(path).entries();
    out.insert(out.end(), entries.begin(), entries.end());
  }
  return out;
}

}  // namespace fastserve::model
