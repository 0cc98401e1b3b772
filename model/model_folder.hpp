#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/architecture.hpp"
#include "model/stored_weights.hpp"
#include "model/tokenizer/tokenizer.hpp"

namespace fastserve::model {

/// What `fastserve inspect` shows of a model folder. Values only; printing is elsewhere.
struct model_description {
  std::string model_type;
  std::int64_t parameters = 0;
  std::int64_t layer_parameters = 0;
  std::int64_t embedding_parameters = 0;
  std::int64_t head_parameters = 0;
  std::size_t weight_file_bytes = 0;  ///< of all tensors in the files
  std::size_t layer_bytes = 0;        ///< of one layer, as stored
  /// Tensors and bytes of each dtype in the files, by name of the dtype.
  struct dtype_share {
    std::string dtype;
    std::size_t tensors = 0;
    std::size_t bytes = 0;
  };
  std::vector<dtype_share> dtypes;
  std::int32_t files = 0;
  /// Tensors in the files that the model does not use, and need not: see refuse_extra_tensors().
  std::vector<std::string> unused;

  std::int32_t layers = 0, hidden_size = 0, intermediate_size = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::int32_t vocab_size = 0;
  std::int32_t context_tokens = 0;
  bool tied_head = false;
  bool query_key_norm = false;
  bool qkv_bias = false;
  bool gated_mlp = false;
  std::string norm;                ///< "RMSNorm", "LayerNorm"
  std::string activation;          ///< "silu", "gelu", ...
  std::string positions;           ///< "rope llama3, theta 500000, factor 32" or "learned"
  std::int32_t window_tokens = 0;  ///< smallest sliding window, 0 = none
  std::int32_t window_layers = 0;  ///< layers that have one
  std::int32_t bos_id = -1;
  std::vector<std::int32_t> eos_ids;
  std::string tokenizer;  ///< file(s) that hold it, empty when there are none
  bool chat_template = false;

  std::size_t kv_token_bytes_f32 = 0;  ///< of one token over all layers
  std::size_t kv_token_bytes_16bit = 0;
  /// Weight bytes, as stored, of the largest of N stages, for N = 1, 2, 4, ... up to the number of layers
  /// and 64.
  std::vector<std::pair<std::int32_t, std::size_t>> stage_bytes;
};

/// A model as it is on disk: a Hugging Face folder with config.json and weights, or a GGUF file.
class model_folder {
 public:
  /// Reads what the model is and finds the weights. Throws std::runtime_error with one line.
  explicit model_folder(std::filesystem::path model);

  const std::filesystem::path& path() const { return path_; }
  const architecture& arch() const { return arch_; }
  /// To be used by one thread; must outlive the stages made from it.
  stored_weights& weights() { return *weights_; }

  /// Reads all headers and checks that every tensor of the model is there with its shape, and no more.
  /// Throws std::runtime_error as weight_source does.
  model_description describe();

 private:
  std::filesystem::path path_;
  architecture arch_;
  std::unique_ptr<stored_weights> weights_;
};

/// What a model is, of a folder or a GGUF file. Throws std::runtime_error with one line.
architecture read_model(const std::filesystem::path& model);

/// The weights of a folder or a GGUF file. Throws std::runtime_error with one line.
std::unique_ptr<stored_weights> open_weights(const std::filesystem::path& model);

/// The tokenizer of a folder or a GGUF file; null when there is none. Throws std::runtime_error for one that
/// is malformed.
std::unique_ptr<tokenizer> open_tokenizer(const std::filesystem::path& model);

/// What holds the tokenizer: "tokenizer.json", "tokenizer.model", "vocab.json + merges.txt", "vocab.txt",
/// "GGUF metadata"; empty when there is none.
std::string tokenizer_files(const std::filesystem::path& model);

}  // namespace fastserve::model
