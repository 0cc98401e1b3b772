#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_metadata.hpp"

namespace fastserve::model::test {

/// Writes GGUF files, and what only claims to be one.
class gguf_writer {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;  ///< of the data; say so with number("general.alignment", ...)

  template <class T>
  static std::string raw(T value) {
    std::string out(sizeof value, '\0');
    std::memcpy(out.data(), &value, sizeof value);
    return out;
  }
  static std::string raw_text(std::string_view text) {
    return raw(std::uint64_t{text.size()}) + std::string(text);
  }

  /// A key with the bytes of its value.
  void value(std::string_view key, gguf_type type, const std::string& bytes) {
    keys_ += raw_text(key) + raw(static_cast<std::uint32_t>(type)) + bytes;
    ++key_count_;
  }
  void number(std::string_view key, std::uint32_t x) { value(key, gguf_type::u32, raw(x)); }
  void number(std::string_view key, float x) { value(key, gguf_type::f32, raw(x)); }
  void flag(std::string_view key, bool x) { value(key, gguf_type::boolean, std::string(1, x ? '\1' : '\0')); }
  void text(std::string_view key, std::string_view x) { value(key, gguf_type::string, raw_text(x)); }
  void texts(std::string_view key, const std::vector<std::string>& all) {
    std::string bytes = raw(static_cast<std::uint32_t>(gguf_type::string)) + raw(std::uint64_t{all.size()});
    for (const auto& one : all) bytes += raw_text(one);
    value(key, gguf_type::array, bytes);
  }
  template <class T>
  void numbers(std::string_view key, gguf_type type, const std::vector<T>& all) {
    std::string bytes = raw(static_cast<std::uint32_t>(type)) + raw(std::uint64_t{all.size()});
    for (const auto& one : all) bytes += raw(one);
    value(key, gguf_type::array, bytes);
  }

  /// A tensor; `shape` is row-major, as the rest of the program has it.
  void tensor(std::string_view name, const std::vector<std::int64_t>& shape, std::uint32_t type,
              std::string_view bytes) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    tensor_at(name, shape, type, data_.size());
    data_ += bytes;
  }
  void tensor_at(std::string_view name, const std::vector<std::int64_t>& shape, std::uint32_t type,
                 std::uint64_t offset) {
    tensors_ += raw_text(name) + raw(static_cast<std::uint32_t>(shape.size()));
    for (auto i = shape.size(); i-- > 0;) tensors_ += raw(static_cast<std::uint64_t>(shape[i]));
    tensors_ += raw(type) + raw(offset);
    ++tensor_count_;
  }
  void f32_tensor(std::string_view name, const std::vector<std::int64_t>& shape,
                  std::span<const float> values) {
    tensor(name, shape, 0, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  std::string header() const { return header(tensor_count_, key_count_); }
  std::string header(std::uint64_t tensors, std::uint64_t keys) const {
    return "GGUF" + raw(version) + raw(tensors) + raw(keys) + keys_ + tensors_;
  }
  std::string bytes() const {
    auto out = header();
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data_;
  }

 private:
  std::string keys_, tensors_, data_;
  std::uint64_t key_count_ = 0;
  std::uint64_t tensor_count_ = 0;
};

}  // namespace fastserve::model::test
