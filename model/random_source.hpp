#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/architecture.hpp"
#include "model/tensor_names.hpp"
#include "model/weight_source.hpp"

namespace fastserve::model {

/// Weights made up on demand for an architecture: true shapes and dtype, so that a bench moves the bytes that
/// the model would. Matrices are uniform with variance 1 / columns (activations neither die nor explode),
/// norm gains 1, biases 0. A function of the tensor's name alone: the same on every rank and machine. Large
/// tensors repeat a block of 2^20 - 3 values (a prime, so that rows differ), which makes them as fast as a
/// copy.
class random_source : public weight_source {
 public:
  random_source(const architecture& arch, kernels::dtype type);

  bool has(std::string_view name) const override { return specs_.contains(name); }
  host_tensor tensor(std::string_view name) override;
  host_tensor describe(std::string_view name) override;
  std::string where(std::string_view) const override { return "random weights"; }
  std::string fingerprint(std::string_view name) override;
  void release(std::string_view name) override;

 private:
  const tensor_spec& spec_of(std::string_view name) const;

  kernels::dtype type_;
  std::map<std::string, tensor_spec, std::less<>> specs_;
  struct made_tensor {
    std::vector<std::byte> bytes;
    int users = 0;
  };
  std::map<std::string, made_tensor, std::less<>> made_;
};

}  // namespace fastserve::model
