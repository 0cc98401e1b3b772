#include "actors/journal_feed.hpp"

#include <algorithm>
#include <utility>

namespace fastserve::actors {

namespace {

answer_part cut(const answer_part& from, std::size_t first, std::size_t count) {
  const auto slice = [&](const auto& all) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
    return std::decay_t<decltype(all)>(begin, begin + static_cast<std::ptrdiff_t>(count));
  };
  answer_part out;
  out.tokens = slice(from.tokens);
  if (!from.details.empty()) out.details = slice(from.details);
  return out;
}

}  // namespace

journal_feed::journal_feed(int leader, std::size_t part_tokens)
    : leader_{leader}, part_tokens_{part_tokens} {}

void journal_feed::add(std::uint64_t request, std::int32_t choice, const model::sampled_token& token,
                       bool details) {
  auto& r = open_[request];
  const auto index = static_cast<std::size_t>(choice);
  if (r.choices.size() <= index) r.choices.resize(index + 1);
  auto& all = r.choices[index].all;
  all.tokens.push_back(token.token);
  if (details) all.details.push_back(token);
  ++waiting_;
  if (!std::exchange(r.queued, true)) changed_.push_back(request);
}

void journal_feed::close(std::uint64_t request) {
  const auto it = open_.find(request);
  if (it == open_.end()) return;
  for (const auto& a : it->second.choices) waiting_ -= a.all.tokens.size() - a.sent;
  if (it->second.told) {
    closed_.push_back(request);
    ++waiting_;
  }
  open_.erase(it);
}

journal_part journal_feed::next() {
  journal_part out;
  out.leader = leader_;
  out.number = next_;
  out.anew = std::exchange(anew_, false);
  out.closed = std::exchange(closed_, {});
  waiting_ -= out.closed.size();

  std::size_t room = part_tokens_;
  std::size_t done = 0;
  for (; done < changed_.size() && room > 0; ++done) {
    const auto it = open_.find(changed_[done]);
    if (it == open_.end()) continue;  // closed meanwhile
    auto& r = it->second;
    for (std::size_t c = 0; c < r.choices.size(); ++c) {
      auto& a = r.choices[c];
      const auto count = std::min(room, a.all.tokens.size() - a.sent);
      if (count == 0) continue;
      out.entries.push_back({it->first, static_cast<std::int32_t>(c), static_cast<std::int32_t>(a.sent),
                             cut(a.all, a.sent, count)});
      a.sent += count;
      room -= count;
      waiting_ -= count;
    }
    r.told = true;
    r.queued = std::any_of(r.choices.begin(), r.choices.end(),
                           [](const answer& a) { return a.sent < a.all.tokens.size(); });
    if (r.queued) break;  // no room: the rest is for the next part
  }
  changed_.erase(changed_.begin(), changed_.begin() + static_cast<std::ptrdiff_t>(done));
  return out;
}

bool journal_feed::acknowledged(const journal_ack& ack) {
  if (ack.taken && ack.next == next_ + 1) {
    ++next_;
    return true;
  }
  begin_anew();
  return false;
}

void journal_feed::begin_anew() {
  anew_ = true;
  next_ = 0;
  closed_.clear();
  changed_.clear();
  waiting_ = 0;
  for (auto& [request, r] : open_) {
    for (auto& a : r.choices) {
      a.sent = 0;
      waiting_ += a.all.tokens.size();
    }
    r.queued = true;
    r.told = false;
    changed_.push_back(request);
  }
}

}  // namespace fastserve::actors
