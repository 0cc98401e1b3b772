#pragma once

#include <filesystem>
#include <memory>

#include "model/tokenizer/bpe_model.hpp"
#include "model/tokenizer/gguf_vocabulary.hpp"
#include "model/tokenizer/pipeline_tokenizer.hpp"
#include "model/tokenizer/tokenizer_config.hpp"

/// One loader for each kind of file. All throw std::runtime_error without the file's name, which
/// load_tokenizer puts in front, except for files that cannot be read or parsed at all.
namespace fastserve::model {

tokenizer_parts read_tokenizer_json(const std::filesystem::path& file, const tokenizer_config& config);

/// GPT-2's two files: tokens to ids as JSON, and merges line by line.
tokenizer_parts read_vocab_and_merges(const std::filesystem::path& vocab_file,
                                      const std::filesystem::path& merges_file,
                                      const tokenizer_config& config);

/// BERT's vocab.txt: one token a line, in order of id.
tokenizer_parts read_wordpiece(const std::filesystem::path& file, const tokenizer_config& config);

/// True for text of lines "base64 rank".
bool is_tiktoken(std::string_view content);
/// tiktoken's file with Llama 3's pattern; its special tokens come from the configuration or are Llama 3's
/// own.
tokenizer_parts read_tiktoken(std::string_view content, const tokenizer_config& config);

/// SentencePiece's serialized model.
tokenizer_parts read_sentencepiece(const std::string& content, const tokenizer_config& config);

/// The keys of a GGUF file.
tokenizer_parts read_gguf_vocabulary(const gguf_vocabulary& from);

/// Adds the configuration's tokens, and marks those it calls special.
void add_configured_tokens(tokenizer_parts& parts, const tokenizer_config& config);
/// Finds BOS and EOS, and obeys add_bos_token and add_eos_token. The last step of every loader.
void settle_bos_and_eos(tokenizer_parts& parts, const tokenizer_config& config);

/// The merges of a file as pairs of ids. Throws std::runtime_error for a name that is no token.
bpe_merge find_merge(const vocabulary& tokens, std::string_view left, std::string_view right,
                     std::size_t rank);

}  // namespace fastserve::model
