#include <stdexcept>
#include <string>
#include <utility>

#include "model/tokenizer/tokenizer_files.hpp"

namespace fastserve::model {

namespace {

// Puts the file's name in front of what a loader says, and keeps it on one line.
template <typename Read>
std::unique_ptr<tokenizer> load_from(const std::filesystem::path& file, const tokenizer_config& config,
                                     Read read) {
  try {
    tokenizer_parts parts = read();
    settle_bos_and_eos(parts, config);
    return std::make_unique<pipeline_tokenizer>(std::move(parts));
  } catch (const std::runtime_error& error) {
    std::string message = error.what();
    if (!message.starts_with(file.string())) message = file.string() + ": " + message;
    for (char& c : message) {
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    }
    throw std::runtime_error(message);
  }
}

}  // namespace

std::unique_ptr<tokenizer> load_tokenizer(const gguf_vocabulary& from, const std::string& file) {
  return load_from(file, tokenizer_config{}, [&] { return read_gguf_vocabulary(from); });
}

std::unique_ptr<tokenizer> load_tokenizer(const std::filesystem::path& model_dir) {
  const auto there = [&](const char* name) { return std::filesystem::is_regular_file(model_dir / name); };
  const tokenizer_config config = read_tokenizer_config(model_dir);
  if (there("tokenizer.json")) {
    const auto file = model_dir / "tokenizer.json";
    return load_from(file, config, [&] { return read_tokenizer_json(file, config); });
  }
  if (there("tokenizer.model")) {
    const auto file = model_dir / "tokenizer.model";
    return load_from(file, config, [&] {
      const std::string content = read_file(file);
      return is_tiktoken(content) ? read_tiktoken(content, config) : read_sentencepiece(content, config);
    });
  }
  for (const auto& names : {std::pair("vocab.json", "merges.txt"), {"encoder.json", "vocab.bpe"}}) {
    if (!there(names.first) || !there(names.second)) continue;
    const auto file = model_dir / names.first;
    return load_from(file, config,
                     [&] { return read_vocab_and_merges(file, model_dir / names.second, config); });
  }
  if (there("vocab.txt")) {
    const auto file = model_dir / "vocab.txt";
    return load_from(file, config, [&] { return read_wordpiece(file, config); });
  }
  throw std::runtime_error(model_dir.string() +
                           ": no tokenizer found, expected tokenizer.json, tokenizer.model, vocab.json with "
                           "merges.txt, encoder.json with vocab.bpe, or vocab.txt");
}

}  // namespace fastserve::model
