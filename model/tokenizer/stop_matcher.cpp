#include "model/tokenizer/stop_matcher.hpp"

#include <algorithm>
#include <utility>

namespace fastserve::model {

stop_matcher::stop_matcher(std::vector<std::string> stops) {
  for (std::size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) continue;
    needle next{std::move(stops[i]), i, {}, 0};
    next.borders.assign(next.text.size() + 1, 0);
    std::size_t border = 0;
    for (std::size_t at = 1; at < next.text.size(); ++at) {
      while (border > 0 && next.text[at] != next.text[border]) border = next.borders[border];
      if (next.text[at] == next.text[border]) ++border;
      next.borders[at + 1] = border;
    }
    needles_.push_back(std::move(next));
  }
}

void stop_matcher::step(needle& which, char byte) {
  while (which.matched > 0 && which.text[which.matched] != byte) {
    which.matched = which.borders[which.matched];
  }
  if (which.text[which.matched] == byte) ++which.matched;
}

std::string stop_matcher::push(std::string_view piece) {
  if (stopped()) return {};
  for (const char byte : piece) {
    held_.push_back(byte);
    const needle* longest = nullptr;
    for (needle& which : needles_) {
      step(which, byte);
      const bool complete = which.matched == which.text.size();
      if (complete && (longest == nullptr || which.text.size() > longest->text.size())) longest = &which;
    }
    if (longest != nullptr) {
      hit_ = longest->index;
      held_.resize(held_.size() - longest->text.size());
      return std::exchange(held_, {});
    }
  }
  std::size_t keep = 0;
  for (const needle& which : needles_) keep = std::max(keep, which.matched);
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return out;
}

std::string stop_matcher::flush() {
  for (needle& which : needles_) which.matched = 0;
  return std::exchange(held_, {});
}

}  // namespace fastserve::model
