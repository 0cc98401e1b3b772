#include "launch/prefix_hit.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <random>
#include <stdexcept>
#include <vector>

#include "launch/serve_report.hpp"

namespace fastserve::launch {

namespace {

using clock = std::chrono::steady_clock;

// Times one answer token by token.
class token_clock final : public actors::answer_sink {
 public:
  void start() {
    const std::lock_guard lock{mutex_};
    at_.clear();
    ended_ = false;
    error_.clear();
    begin_ = clock::now();
  }
  void on_token(const actors::answer_token&) override {
    const std::lock_guard lock{mutex_};
    at_.push_back(clock::now());
  }
  void on_done(const actors::answer_done& done) override {
    const std::lock_guard lock{mutex_};
    error_ = done.error;
    ended_ = true;
    done_.notify_all();
  }
  std::string wait() {
    std::unique_lock lock{mutex_};
    done_.wait(lock, [this] { return ended_; });
    return error_;
  }
  double first_us() const { return us(begin_, at_.front()); }
  std::vector<double> gaps_us() const {
    std::vector<double> out;
    for (std::size_t i = 1; i < at_.size(); ++i) out.push_back(us(at_[i - 1], at_[i]));
    return out;
  }

 private:
  static double us(clock::time_point from, clock::time_point to) {
    return std::chrono::duration<double, std::micro>(to - from).count();
  }
  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<clock::time_point> at_;
  clock::time_point begin_;
  bool ended_ = false;
  std::string error_;
};

}  // namespace

// The same prompt again and again, alone: all but the first find it in the prefix cache.
prefix_hit measure_prefix_hit(engine& e, std::int32_t prompt_tokens) {
  constexpr int hits = 15;
  constexpr std::int32_t answer_tokens = 9;
  token_clock watch;
  const struct closer {
    engine& e;
    ~closer() { e.close_front_ends(); }
  } close{e};
  const auto front_end = e.spawn_front_end(watch);
  actors::submit s;
  std::mt19937 random{2};
  const auto vocab = static_cast<std::uint32_t>(e.architecture().vocab_size);
  for (std::int32_t i = 0; i < prompt_tokens; ++i)
    s.prompt.push_back(static_cast<std::int32_t>(random() % vocab));
  s.sampling.temperature = 0;
  s.stop.max_tokens = answer_tokens;
  s.stop.ignore_eos = true;
  std::vector<double> first, gaps;
  for (int i = 0; i <= hits; ++i) {
    watch.start();
    front_end->send(s);
    if (const auto error = watch.wait(); !error.empty()) throw std::runtime_error(error);
    if (i == 0) continue;
    first.push_back(watch.first_us());
    for (const double gap : watch.gaps_us()) gaps.push_back(gap);
  }
  return {spread_of(std::move(first)).median, spread_of(std::move(gaps)).median};
}

}  // namespace fastserve::launch
