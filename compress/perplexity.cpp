#include "compress/perplexity.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/stage.hpp"

namespace fastserve::compress {
namespace {

using kernels::dtype;

constexpr std::int32_t rows_together = 64;  // logits of so many tokens are in memory

/// A model and one sequence.
class reader {
 public:
  reader(const judged_model& m, std::int32_t longest, kernels::backend& on)
      : stage_(m.arch, m.source, {model::whole_range(m.arch), dtype::f32, rows_together, rows_together}, on),
        backend_{on},
        stream_{on.make_stream()},
        blocks_{(longest + kernels::kv_block_tokens - 1) / kernels::kv_block_tokens},
        kv_{on.make_kv_store(stage_.kv_shape(blocks_, m.kv))},
        vocab_{m.arch.vocab_size} {}

  /// Logits of tokens [first, first + count) of a sequence whose earlier tokens were fed. [count, vocab]
  const float* feed(std::span<const std::int32_t> sequence, std::int32_t first, std::int32_t count) {
    kernels::step_layout step;
    const auto tokens = sequence.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    step.token_ids.assign(tokens.begin(), tokens.end());
    step.positions.resize(tokens.size());
    std::iota(step.positions.begin(), step.positions.end(), first);
    step.sampled_rows.resize(tokens.size());
    std::iota(step.sampled_rows.begin(), step.sampled_rows.end(), 0);
    auto& s = step.sequences.emplace_back();
    s.first_row = 0;
    s.rows = count;
    s.first_position = first;
    for (std::int32_t b = 0; b < blocks_; ++b) s.blocks.push_back(b);
    stage_.forward(step, *kv_, *stream_);
    return static_cast<const float*>(backend_.host_read(stage_.logits(count), *stream_));
  }

 private:
  model::stage stage_;
  kernels::backend& backend_;
  std::unique_ptr<kernels::stream> stream_;
  std::int32_t blocks_;
  std::unique_ptr<kernels::kv_store> kv_;
  std::int32_t vocab_;
};

double log_of_sum(const float* logits, std::int32_t count) {
  const double most = *std::max_element(logits, logits + count);
  double sum = 0;
  for (std::int32_t i = 0; i < count; ++i) sum += std::exp(logits[i] - most);
  return most + std::log(sum);
}

}  // namespace

text_score compare_on_text(const judged_model& model, const judged_model& other,
                           const std::vector<std::vector<std::int32_t>>& sequences, kernels::backend& on,
                           const std::function<void(std::int64_t, std::int64_t)>& progress) {
  std::size_t longest = 1;
  std::int64_t total = 0;
  for (const auto& s : sequences) {
    longest = std::max(longest, s.size());
    total += static_cast<std::int64_t>(s.size());
  }
  reader first(model, static_cast<std::int32_t>(longest), on);
  reader second(other, static_cast<std::int32_t>(longest), on);
  const auto vocab = std::min(model.arch.vocab_size, other.arch.vocab_size);
  text_score out;
  double loss = 0;
  double other_loss = 0;
  std::int64_t done = 0;
  std::int64_t same = 0;
  for (const auto& s : sequences) {
    const auto length = static_cast<std::int32_t>(s.size());
    for (std::int32_t at = 0; at < length; at += rows_together) {
      const auto count = std::min(rows_together, length - at);
      if (progress) progress(done, total);
      done += count;
      const auto* a = first.feed(s, at, count);
      const auto* b = second.feed(s, at, count);
      for (std::int32_t r = 0; r < count && at + r + 1 < length; ++r) {
        const auto* x = a + std::int64_t{r} * model.arch.vocab_size;
        const auto* y = b + std::int64_t{r} * other.arch.vocab_size;
        const auto next = s[static_cast<std::size_t>(at + r + 1)];
        const double lx = log_of_sum(x, vocab);
        const double ly = log_of_sum(y, vocab);
        loss += lx - x[next];
        other_loss += ly - y[next];
        double divergence = 0;
        for (std::int32_t i = 0; i < vocab; ++i)
          divergence += std::exp(x[i] - lx) * ((x[i] - lx) - (y[i] - ly));
        out.divergence += divergence;
        same += std::max_element(x, x + vocab) - x == std::max_element(y, y + vocab) - y ? 1 : 0;
        ++out.tokens;
      }
    }
  }
  const auto tokens = static_cast<double>(std::max<std::int64_t>(1, out.tokens));
  out.perplexity = std::exp(loss / tokens);
  out.other_perplexity = std::exp(other_loss / tokens);
  out.divergence /= tokens;
  out.agreement = static_cast<double>(same) / tokens;
  if (progress) progress(total, total);
  return out;
}

std::vector<std::vector<std::int32_t>> cut_sequences(std::span<const std::int32_t> tokens,
                                                     std::int32_t length, std::int32_t most,
                                                     std::int32_t bos) {
  std::vector<std::vector<std::int32_t>> out;
  const std::size_t own = static_cast<std::size_t>(std::max(1, length - (bos >= 0 ? 1 : 0)));
  const auto whole = tokens.size() / own;
  const auto count =
      std::min<std::size_t>(whole == 0 && !tokens.empty() ? 1 : whole, static_cast<std::size_t>(most));
  for (std::size_t i = 0; i < count; ++i) {
    const auto part = tokens.subspan(whole * i / count * own);
    auto& s = out.emplace_back();
    if (bos >= 0) s.push_back(bos);
    s.insert(s.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(std::min(own, part.size())));
  }
  return out;
}

}  // namespace fastserve::compress
