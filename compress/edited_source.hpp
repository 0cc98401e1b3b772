#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "model/weight_source.hpp"

namespace fastserve::compress {

/// Weights of another source, some of them replaced.
class edited_source : public model::weight_source {
 public:
  explicit edited_source(model::weight_source& inner) : inner_{inner} {}

  /// From here on the tensor has these values, and the shape that it had.
  void replace(std::string_view name, std::vector<float> values) {
    edits_.insert_or_assign(std::string(name), std::move(values));
  }
  void forget_edits() { edits_.clear(); }

  bool has(std::string_view name) const override { return inner_.has(name); }
  model::host_tensor tensor(std::string_view name) override {
    const auto it = edits_.find(name);
    if (it == edits_.end()) return inner_.tensor(name);
    return {it->second.data(), kernels::dtype::f32, inner_.describe(name).shape, {}};
  }
  model::host_tensor describe(std::string_view name) override {
    auto out = inner_.describe(name);
    if (!edits_.contains(name)) return out;
    return {nullptr, kernels::dtype::f32, std::move(out.shape), {}};
  }
  kernels::quantized_tensor quantized(std::string_view name) override { return inner_.quantized(name); }
  std::string where(std::string_view name) const override { return inner_.where(name); }
  std::vector<model::file_part> file_parts(std::string_view name) override {
    return edits_.contains(name) ? std::vector<model::file_part>{} : inner_.file_parts(name);
  }
  /// Nothing of what is being edited is to be kept.
  std::string fingerprint(std::string_view) override { return {}; }
  void release(std::string_view name) override {
    if (!edits_.contains(name)) inner_.release(name);
  }

 private:
  model::weight_source& inner_;
  std::map<std::string, std::vector<float>, std::less<>> edits_;
};

}  // namespace fastserve::compress
