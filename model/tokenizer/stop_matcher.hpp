#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::model {

/// Watches a stream of text for stop strings. Text is let through as soon as it cannot be the start of a stop
/// string; the stop string itself never is.
///
/// The stop that counts is the one that is complete first; of several complete at the same place, the
/// longest. So the outcome does not depend on how the text is cut into pieces. Work: one step a byte and stop
/// string.
class stop_matcher {
 public:
  /// Empty stop strings are ignored.
  explicit stop_matcher(std::vector<std::string> stops);

  /// Takes the next piece and returns what may be shown. After a stop: nothing any more.
  std::string push(std::string_view piece);

  /// The stream has ended without a stop: returns what was held back.
  std::string flush();

  /// Which stop string was hit, as an index into those given.
  std::optional<std::size_t> hit() const { return hit_; }
  bool stopped() const { return hit_.has_value(); }

 private:
  struct needle {
    std::string text;
    std::size_t index;                 // in the list given
    std::vector<std::size_t> borders;  // Knuth-Morris-Pratt: longest border of each prefix
    std::size_t matched = 0;           // bytes of the needle that the stream now ends with
  };
  static void step(needle& which, char byte);

  std::vector<needle> needles_;
  std::string held_;
  std::optional<std::size_t> hit_;
};

}  // namespace fastserve::model
