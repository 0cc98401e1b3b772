#include "model/token_drawer.hpp"

#include <algorithm>
#include <cassert>

#include "model/philox.hpp"

namespace fastserve::model {
namespace {

// Logits from which on they are looked through by all threads: a parallel region costs as much as a small
// vocabulary.
constexpr std::size_t parallel_logits = 1 << 15;

}  // namespace

token_drawer::token_drawer(kernels::backend& backend)
    : backend_{backend}, scratch_(static_cast<std::size_t>(backend.info().threads)) {}

void token_drawer::begin(std::span<const draw_request> requests, kernels::tensor_view logits,
                         kernels::stream& on) {
  assert(begun_ - ended_ < batches_.size());
  auto& b = batch_of(begun_++);
  b.tokens.assign(requests.size(), {});
  b.on_device.clear();
  on_host_.clear();
  rows_.clear();
  names_.assign(requests.size(), 0);
  const bool device_draws = backend_.draws();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto& how = *requests[i].how;
    const bool on_device = device_draws && !how.penalizes() && how.logprobs == 0;
    (on_device ? b.on_device : on_host_).push_back(i);
  }
  if (!b.on_device.empty()) begin_on_device(b, requests, logits, on);
  if (!on_host_.empty()) draw_on_host(b, requests, logits, on);
}

bool token_drawer::done() {
  assert(ended_ < begun_);
  return batch_of(ended_).on_device.empty() || backend_.draw_done();
}

std::span<sampled_token> token_drawer::end() {
  assert(ended_ < begun_);
  auto& b = batch_of(ended_++);
  if (!b.on_device.empty()) {
    b.drawn.resize(b.on_device.size());
    backend_.finish_draw(b.drawn);
  }
  for (std::size_t i = 0; i < b.on_device.size(); ++i) {
    auto& token = b.tokens[b.on_device[i]];
    token.token = b.drawn[i].token;
    token.valid = b.drawn[i].valid;
  }
  return b.tokens;
}

void token_drawer::begin_on_device(batch& of, std::span<const draw_request> requests,
                                   kernels::tensor_view logits, kernels::stream& on) {
  for (const auto i : of.on_device) {
    const auto& r = requests[i];
    names_[i] = ~static_cast<std::int32_t>(rows_.size());
    rows_.push_back({uniform_at(r.how->seed, r.position), r.row, r.how->top_k, r.how->temperature,
                     r.how->top_p, r.how->min_p});
  }
  backend_.start_draw(rows_, logits, on);
}

void token_drawer::draw_on_host(batch& of, std::span<const draw_request> requests,
                                kernels::tensor_view logits, kernels::stream& on) {
  const auto vocab = static_cast<std::size_t>(logits.cols);
  const auto rows = static_cast<std::size_t>(logits.rows);
  host_rows_.assign(rows, nullptr);
  if (of.on_device.empty()) {
    const auto* whole = static_cast<const float*>(backend_.host_read(logits, on));
    for (std::size_t row = 0; row < rows; ++row) host_rows_[row] = whole + row * vocab;
  } else {
    const auto room = std::min(on_host_.size(), rows) * vocab * sizeof(float);
    if (row_copies_.bytes() < room) row_copies_ = backend_.allocate_host(room);
    auto* next = static_cast<float*>(row_copies_.data());
    for (const auto i : on_host_) {
      auto& row = host_rows_[static_cast<std::size_t>(requests[i].row)];
      if (row != nullptr) continue;
      backend_.download(next, logits.row_range(requests[i].row, 1), on);
      row = next;
      next += vocab;
    }
  }
  const auto one = [&](std::int64_t i, int thread) {
    const auto at = on_host_[static_cast<std::size_t>(i)];
    const auto& r = requests[at];
    of.tokens[at] = sample({host_rows_[static_cast<std::size_t>(r.row)], vocab}, *r.how, r.position, r.prompt,
                           r.answer, scratch_[static_cast<std::size_t>(thread)]);
  };
  const auto count = static_cast<std::int64_t>(on_host_.size());
  if (on_host_.size() * vocab < parallel_logits)
    for (std::int64_t i = 0; i < count; ++i) one(i, 0);
  else
    backend_.each_on_host(count, one);
  // An answer whose token means nothing ends; a row of it that has begun has to be computed all the same.
  for (const auto i : on_host_) names_[i] = of.tokens[i].valid ? of.tokens[i].token : 0;
}

}  // namespace fastserve::model
