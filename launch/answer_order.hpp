#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "actors/messages.hpp"

namespace fastserve::launch {

/// An answer with everything that was said about it.
struct full_answer {
  std::uint64_t request = 0;
  std::string text;
  std::vector<model::sampled_token> tokens;
  actors::answer_done done;
};

/// Puts answers, which come in any order, back into the order of their prompts. The text of the oldest open
/// answer is passed on as it comes; the others wait. Not thread-safe.
class answer_order {
 public:
  struct outlets {
    std::function<void(const std::string& text)> text;        ///< more of the oldest answer
    std::function<void(const full_answer& answer)> finished;  ///< after all its text
  };

  explicit answer_order(outlets to) : to_{std::move(to)} {}

  /// A prompt was submitted. Its id is larger than those before.
  void expect(std::uint64_t request);
  void on_token(const actors::answer_token& token);
  void on_done(const actors::answer_done& done);

  std::size_t open() const { return answers_.size(); }

 private:
  struct entry {
    full_answer answer;
    std::size_t shown_bytes = 0;
    bool ended = false;
  };
  entry* find(std::uint64_t request);
  void advance();

  outlets to_;
  std::deque<entry> answers_;  // in order of the prompts
};

}  // namespace fastserve::launch
