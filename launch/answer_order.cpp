#include "launch/answer_order.hpp"

#include <algorithm>
#include <utility>

namespace fastserve::launch {

void answer_order::expect(std::uint64_t request) {
  answers_.emplace_back();
  answers_.back().answer.request = request;
}

answer_order::entry* answer_order::find(std::uint64_t request) {
  // Ids rise in the order of the prompts.
  const auto it = std::lower_bound(answers_.begin(), answers_.end(), request,
                                   [](const entry& e, std::uint64_t id) { return e.answer.request < id; });
  return it == answers_.end() || it->answer.request != request ? nullptr : &*it;
}

void answer_order::on_token(const actors::answer_token& token) {
  auto* e = find(token.request);
  if (e == nullptr || e->ended) return;
  e->answer.tokens.push_back(token.token);
  e->answer.text += token.text;
  advance();
}

void answer_order::on_done(const actors::answer_done& done) {
  auto* e = find(done.request);
  if (e == nullptr || e->ended) return;
  e->answer.text += done.text;
  e->answer.done = done;
  e->ended = true;
  advance();
}

void answer_order::advance() {
  while (!answers_.empty()) {
    auto& e = answers_.front();
    if (e.shown_bytes < e.answer.text.size()) {
      to_.text(e.answer.text.substr(e.shown_bytes));
      e.shown_bytes = e.answer.text.size();
    }
    if (!e.ended) return;
    const auto finished = std::move(e.answer);
    answers_.pop_front();
    to_.finished(finished);
  }
}

}  // namespace fastserve::launch
