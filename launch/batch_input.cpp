#include "launch/batch_input.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "launch/batch_crc.hpp"

namespace fastserve::launch {

namespace {

constexpr std::size_t read_bytes = std::size_t{1} << 20;
constexpr std::string_view blanks = " \t\r\v\f";

std::string checksum_of(const batch_file& file, std::uint64_t size) {
  const auto head = crc32c(file.read_at(0, read_bytes));
  const auto tail = crc32c(file.read_at(size - std::min<std::uint64_t>(size, read_bytes), read_bytes));
  char text[32];
  std::snprintf(text, sizeof text, "%08x-%08x", head, tail);
  return text;
}

}  // namespace

batch_input::batch_input(const std::filesystem::path& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) throw std::runtime_error(path.string() + ": no such input file");
  if (!S_ISREG(facts.st_mode))
    throw std::runtime_error(
        path.string() +
        ": the input must be a regular file: a batch that is started again looks for its "
        "place in it");
  file_ = batch_file{path, O_RDONLY};
  char changed[64];
  std::snprintf(changed, sizeof changed, "%lld.%09ld", static_cast<long long>(facts.st_mtim.tv_sec),
                static_cast<long>(facts.st_mtim.tv_nsec));
  facts_.size_bytes = static_cast<std::uint64_t>(facts.st_size);
  facts_.changed = changed;
  facts_.content = checksum_of(file_, facts_.size_bytes);
}

void batch_input::seek(input_position place) {
  place_ = place;
  buffer_.clear();
  taken_ = scanned_ = 0;
}

// More of the file into the buffer. False at its end.
bool batch_input::fill() {
  buffer_.erase(0, taken_);
  scanned_ -= taken_;
  taken_ = 0;
  const auto from = place_.offset_bytes + buffer_.size();
  if (from >= facts_.size_bytes) return false;
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(read_bytes, facts_.size_bytes - from));
  const auto more = file_.read_at(from, wanted);
  if (more.size() < wanted)
    throw std::runtime_error(file_.path().string() + ": became shorter while it was read");
  buffer_ += more;
  return true;
}

bool batch_input::next(input_line& out) {
  std::uint64_t dropped = 0;  // bytes of a line that is too long
  for (;;) {
    const auto newline = buffer_.find('\n', scanned_);
    bool ended = newline != std::string::npos;
    std::size_t length = (ended ? newline : buffer_.size()) - taken_;
    if (!ended) {
      scanned_ = buffer_.size();
      if (dropped + length > most_line_bytes) {
        // Nobody will read it: only its length goes on counting.
        dropped += length;
        place_.offset_bytes += length;
        taken_ = buffer_.size();
      }
      if (fill()) continue;
      if (dropped + buffer_.size() == 0) return false;
      length = buffer_.size() - taken_;
    }
    const std::string_view text{buffer_.data() + taken_, length};
    const auto consumed = length + (ended ? 1 : 0);
    taken_ += consumed;
    scanned_ = taken_;
    place_.offset_bytes += consumed;
    ++place_.line;
    const bool too_long = dropped + length > most_line_bytes;
    if (!too_long && text.find_first_not_of(blanks) == std::string_view::npos) {
      if (!ended) return false;
      continue;
    }
    out = {too_long ? std::string_view{} : text, place_.line, place_, dropped + consumed, too_long};
    return true;
  }
}

}  // namespace fastserve::launch
