#include "model/gguf_tokenizer.hpp"

#include "model/tokenizer/gguf_vocabulary.hpp"

namespace fastserve::model {

std::unique_ptr<tokenizer> gguf_tokenizer(const gguf_file& file) {
  const auto& data = file.metadata();
  if (!data.has("tokenizer.ggml.tokens")) return nullptr;
  constexpr std::int64_t any = 0xFFFFFFFF;  // what some converters write for none
  const auto flag = [&](const char* key) {
    return data.has(key) ? std::optional(data.flag(key, false)) : std::nullopt;
  };
  gguf_vocabulary from;
  from.model = data.text("tokenizer.ggml.model");
  from.pre = data.text("tokenizer.ggml.pre", "default");
  from.tokens = data.texts("tokenizer.ggml.tokens");
  from.scores = data.floats("tokenizer.ggml.scores");
  from.types = data.integers("tokenizer.ggml.token_type");
  from.merges = data.texts("tokenizer.ggml.merges");
  from.bos = data.integer("tokenizer.ggml.bos_token_id", -1, any, -1);
  from.eos = data.integer("tokenizer.ggml.eos_token_id", -1, any, -1);
  from.add_bos = flag("tokenizer.ggml.add_bos_token");
  from.add_eos = flag("tokenizer.ggml.add_eos_token");
  from.add_space_prefix = data.flag("tokenizer.ggml.add_space_prefix", true);
  from.remove_extra_whitespaces = data.flag("tokenizer.ggml.remove_extra_whitespaces", false);
  return load_tokenizer(from, file.path().string());
}

}  // namespace fastserve::model
