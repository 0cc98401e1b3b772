#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/quantized.hpp"

namespace fastserve::model {

/// The numbers that a matrix of grouped integers stands for. [rows, cols]
void write_numbers(float* out, const kernels::quantized_tensor& from);

/// Tensors that a source had to turn into numbers of its own, each kept until it was released as often as it
/// was asked for.
class unpacked_tensors {
 public:
  /// The numbers of a tensor; `make` is called for those that are not there.
  const float* use(std::string_view name, const std::function<std::vector<float>()>& make) {
    const auto [it, fresh] = tensors_.try_emplace(std::string(name));
    if (fresh) it->second.values = make();
    ++it->second.users;
    return it->second.values.data();
  }
  void release(std::string_view name) {
    const auto it = tensors_.find(name);
    if (it != tensors_.end() && --it->second.users == 0) tensors_.erase(it);
  }

 private:
  struct tensor {
    std::vector<float> values;
    int users = 0;
  };
  std::map<std::string, tensor, std::less<>> tensors_;
};

}  // namespace fastserve::model
