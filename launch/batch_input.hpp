#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "launch/batch_done_set.hpp"
#include "launch/batch_file.hpp"

namespace fastserve::launch {

/// What tells one input file from another.
struct input_facts {
  std::uint64_t size_bytes = 0;
  std::string changed;  ///< time of the last change, "SECONDS.NANOSECONDS" since 1970
  std::string content;  ///< checksums of its first and its last megabyte
};

/// One line of the input that is not blank.
struct input_line {
  std::string_view text;     ///< without its newline; empty when too long. Valid until the next call
  std::uint64_t number = 0;  ///< from 1, blank lines counted, as an editor shows it
  input_position end;        ///< behind it
  std::uint64_t bytes = 0;   ///< of the line with its newline
  bool too_long = false;     ///< longer than batch_input::most_line_bytes
};

/// Reads a file line by line in bounded memory, from any place on. What is appended to the file while it is
/// read is not seen.
class batch_input {
 public:
  /// The longest line that is read. Holds a prompt of a million token ids.
  static constexpr std::size_t most_line_bytes = std::size_t{8} << 20;

  /// Throws std::runtime_error for what is not there, cannot be read or is no regular file: a batch that is
  /// started again has to find its place in it.
  explicit batch_input(const std::filesystem::path& path);

  const input_facts& facts() const { return facts_; }
  /// Goes on at `place`, the end of a line.
  void seek(input_position place);
  /// The next line that is not blank. False at the end. Throws std::runtime_error when the file became
  /// shorter.
  bool next(input_line& out);

 private:
  bool fill();

  batch_file file_;
  input_facts facts_;
  input_position place_;  // of buffer_[taken_]
  std::string buffer_;
  std::size_t taken_ = 0;    // bytes of buffer_ that were given out
  std::size_t scanned_ = 0;  // bytes of buffer_ known to hold no newline
};

}  // namespace fastserve::launch
