#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend.hpp"
#include "model/pack_cache.hpp"
#include "model/read_ahead.hpp"
#include "model/weight_source.hpp"

namespace fastserve::model {

/// Matrices stacked by rows into one product.
struct matrix_stack {
  struct part {
    std::string name;
    std::int64_t rows = 0;
  };
  std::vector<part> parts;
  std::int64_t cols = 0;
  bool transposed = false;  ///< as GPT-2's files have them
  std::int64_t turn = 0;    ///< this many rows of each part in turn; 0: one part after the other
};

/// Gets tensors from a source to a device: first it is told what will be asked for, in order, then files are
/// read ahead of the asking. Packed matrices come from the cache where they are kept there, and then nothing
/// of them is read from the model's files.
class tensor_loader {
 public:
  /// Numbers are packed for `compute`. `cache` may be null.
  tensor_loader(weight_source& source, kernels::dtype compute, kernels::backend& on, pack_cache* cache)
      : source_{source}, compute_{compute}, on_{on}, cache_{cache} {}

  /// What will be asked for, in groups; a group is read in the order of its files.
  void begin_group() { groups_.emplace_back(); }
  void expect(const std::string& name) { groups_.back().push_back(name); }
  /// Integers of the files stay what they are, if all of a stack are, and so does fp8 where the device
  /// multiplies it; numbers are rounded to `rounded`.
  void expect(const matrix_stack& stack, const std::optional<kernels::quantized_format>& rounded);
  /// Whether a stack comes as the codes of the files.
  bool keeps_codes(const matrix_stack& stack);
  /// Whether `turn` rows of each part can be stacked in turn: parts are alike.
  bool can_take_turns(const matrix_stack& stack, std::int64_t turn);
  /// Groups become those of one file after the other; returns their former numbers in the new order. Reading
  /// begins.
  std::vector<std::size_t> start();

  /// Throws std::runtime_error as the source does, or when a file cannot be read. One that was expected.
  std::shared_ptr<const kernels::weight> matrix(const matrix_stack& stack);
  std::vector<float> vector(const std::string& name, std::int64_t size);
  /// Rows that may stay where they are: not released.
  std::shared_ptr<const kernels::weight> table(const std::string& name, std::int64_t rows, std::int64_t cols);

  /// Bytes of files that were or will be read / of them from the cache.
  std::uint64_t bytes() const { return cached_bytes_ + (reading_ ? reading_->bytes() : 0); }
  std::uint64_t cached_bytes() const { return cached_bytes_; }

 private:
  struct plan {
    std::optional<kernels::quantized_format> rounded;
    bool stored = false;
    kernels::packed_form form;
    std::string key;  ///< empty: not kept
    std::optional<pack_cache::found> found;
  };
  std::string key_of(const matrix_stack& stack, const plan& how);
  std::shared_ptr<const kernels::weight> from_cache(const plan& how);
  std::unique_ptr<kernels::weight> make(const matrix_stack& stack, const plan& how);
  void wait_for(const std::string& name);

  weight_source& source_;
  kernels::dtype compute_;
  kernels::backend& on_;
  pack_cache* cache_;
  std::vector<std::vector<std::string>> groups_;
  std::map<std::string, plan> plans_;  ///< by a stack's first name
  std::unique_ptr<read_ahead> reading_;
  std::uint64_t cached_bytes_ = 0;
};

}  // namespace fastserve::model
