#include "model/token_drawer.hpp"

#include "model/philox.hpp"

namespace fastserve::model {
namespace {

// Logits from which on they are looked through by all threads: a parallel region costs as much as a small
// vocabulary.
constexpr std::size_t parallel_logits = 1 << 15;

}  // namespace

token_drawer::token_drawer(kernels::backend& backend)
    : backend_{backend}, scratch_(static_cast<std::size_t>(backend.info().threads)) {}

std::span<sampled_token> token_drawer::draw(std::span<const draw_request> requests,
                                            kernels::tensor_view logits, kernels::stream& on) {
  tokens_.assign(requests.size(), {});
  on_device_.clear();
  on_host_.clear();
  const bool device_draws = backend_.draws();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto& how = *requests[i].how;
    const bool on_device = device_draws && !how.penalizes() && how.logprobs == 0;
    (on_device ? on_device_ : on_host_).push_back(i);
  }
  if (!on_device_.empty()) draw_on_device(requests, logits, on);
  if (!on_host_.empty()) draw_on_host(requests, logits, on);
  return tokens_;
}

void token_drawer::draw_on_device(std::span<const draw_request> requests, kernels::tensor_view logits,
                                  kernels::stream& on) {
  rows_.clear();
  for (const auto i : on_device_) {
    const auto& r = requests[i];
    rows_.push_back({uniform_at(r.how->seed, r.position), r.row, r.how->top_k, r.how->temperature,
                     r.how->top_p, r.how->min_p});
  }
  drawn_.resize(rows_.size());
  backend_.draw(drawn_, rows_, logits, on);
  for (std::size_t i = 0; i < drawn_.size(); ++i) {
    auto& token = tokens_[on_device_[i]];
    token.token = drawn_[i].token;
    token.valid = drawn_[i].valid;
  }
}

void token_drawer::draw_on_host(std::span<const draw_request> requests, kernels::tensor_view logits,
                                kernels::stream& on) {
  const auto vocab = static_cast<std::size_t>(logits.cols);
  const auto rows = static_cast<std::size_t>(logits.rows);
  host_rows_.assign(rows, nullptr);
  if (on_device_.empty()) {
    const auto* whole = static_cast<const float*>(backend_.host_read(logits, on));
    for (std::size_t row = 0; row < rows; ++row) host_rows_[row] = whole + row * vocab;
  }
  for (const auto i : on_host_) {
    auto& row = host_rows_[static_cast<std::size_t>(requests[i].row)];
    if (row == nullptr)
      row = static_cast<const float*>(backend_.host_read(logits.row_range(requests[i].row, 1), on));
  }
  const auto one = [&](std::int64_t i, int thread) {
    const auto at = on_host_[static_cast<std::size_t>(i)];
    const auto& r = requests[at];
    tokens_[at] = sample({host_rows_[static_cast<std::size_t>(r.row)], vocab}, *r.how, r.position, r.prompt,
                         r.answer, scratch_[static_cast<std::size_t>(thread)]);
  };
  const auto count = static_cast<std::int64_t>(on_host_.size());
  if (on_host_.size() * vocab < parallel_logits)
    for (std::int64_t i = 0; i < count; ++i) one(i, 0);
  else
    backend_.each_on_host(count, one);
}

}  // namespace fastserve::model
