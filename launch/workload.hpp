#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

namespace fastserve::launch {

/// A request of a trace: lengths, never text.
struct workload_item {
  double at_s = 0;  ///< since the first one; 0 where the trace has no times
  std::int32_t prompt_tokens = 1;
  std::int32_t output_tokens = 1;
  std::vector<std::uint64_t> prefix_ids;  ///< what each prefix_tokens tokens of the prompt are; may be empty
};

/// Lengths (and, if known, times and shared prefixes) of many requests, in the order of the file.
struct trace {
  std::vector<workload_item> items;
  bool timed = false;
  bool prefixes = false;
};

/// Tokens that one id of a Mooncake trace stands for.
inline constexpr std::int32_t prefix_tokens = 512;

/// Reads a trace: a CSV with a header that names the columns (ShareGPT lengths: num_prefill_tokens,
/// num_decode_tokens; Azure: TIMESTAMP, ContextTokens, GeneratedTokens; or prompt_tokens, output_tokens), or
/// JSON lines with input_length, output_length and maybe timestamp (ms) and hash_ids (Mooncake). Answers of
/// no tokens count as one token. Throws std::runtime_error naming `name` and the line.
trace read_trace(std::istream& in, const std::string& name);
trace read_trace_file(const std::string& path);

/// How a load is made of lengths.
struct load_shape {
  std::int32_t requests = 100;
  double scale = 1;              ///< of all lengths
  double prompt_scale = 1;       ///< of prompts, on top of it
  std::int32_t max_context = 0;  ///< prompt and answer are cut to fit in it; 0 = no limit
  std::uint64_t seed = 1;
};

/// Requests of a load that did not fit into the context, and their lengths on average.
struct load_cut {
  std::size_t requests = 0;
  std::int32_t context = 0;
  double prompt_before = 0, output_before = 0;
  double prompt_after = 0, output_after = 0;
  /// "3 of 100 requests do not fit ...", without a newline.
  std::string text(std::size_t of) const;
};

/// A length times a scale, at least one token.
std::int32_t scaled(std::int32_t tokens, double scale);

/// `shape.requests` requests. Of a trace without prefixes they are drawn at random, with replacement only
/// when there are more than the trace has; a trace with times or prefixes is taken from its start, and over
/// again when it is too short. Prefix blocks are scaled like lengths (see prompt_of).
/// `cut` is told what was shortened.
std::vector<workload_item> make_load(const trace& from, const load_shape& shape, bool keep_order,
                                     load_cut* cut = nullptr);

/// When requests come.
struct arrival_shape {
  double rate = 1;  ///< requests a second on average
  double cv = 1;  ///< standard deviation of the gaps over their mean; 1 = Poisson, gamma otherwise, 0 = even
  std::uint64_t seed = 1;
};

/// Sets at_s. The same seed gives the same pattern at every rate, only denser.
void set_arrivals(std::vector<workload_item>& load, const arrival_shape& shape);

/// The token ids of request `index`, in [0, vocab). Equal prefix ids give equal tokens; `block` is
/// prefix_tokens times the scale, at least one.
std::vector<std::int32_t> prompt_of(const workload_item& item, std::uint64_t index, std::int32_t vocab,
                                    std::int32_t block);

}  // namespace fastserve::launch
