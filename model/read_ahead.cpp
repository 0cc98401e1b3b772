#include "model/read_ahead.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace fastserve::model {

read_ahead::read_ahead(const std::vector<file_part>& in_order, int threads, std::size_t window)
    : window_{std::max(window, piece_bytes)} {
  for (const auto& part : in_order) {
    auto& mine = places_[part.bytes.data()];
    if (!mine.empty()) continue;  // asked for twice
    for (std::size_t at = 0; at < part.bytes.size(); at += piece_bytes) {
      const auto bytes = part.bytes.subspan(at, std::min(piece_bytes, part.bytes.size() - at));
      total_ += bytes.size();
      mine.push_back(pieces_.size());
      pieces_.push_back({{part.file, bytes}, total_});
    }
  }
  const auto wanted = std::min(static_cast<std::size_t>(std::max(threads, 1)), pieces_.size());
  for (std::size_t i = 0; i < wanted; ++i) threads_.emplace_back([this] { read(); });
}

read_ahead::~read_ahead() {
  {
    const std::lock_guard lock{mutex_};
    stopped_ = true;
  }
  room_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void read_ahead::read() {
  std::unique_lock lock{mutex_};
  for (;;) {
    room_.wait(lock, [&] {
      return stopped_ || next_ == pieces_.size() || pieces_[next_].end <= reached_ + window_;
    });
    if (stopped_ || next_ == pieces_.size()) return;
    auto& mine = pieces_[next_++];
    lock.unlock();
    const int error = mapped_file::fetch(mine.part.bytes);
    lock.lock();
    mine.error = error;
    mine.done = true;
    arrived_.notify_all();
  }
}

void read_ahead::wait_for(const file_part& part) {
  const auto it = places_.find(part.bytes.data());
  if (it == places_.end() || it->second.empty()) return;
  std::unique_lock lock{mutex_};
  reached_ = std::max(reached_, pieces_[it->second.back()].end);
  room_.notify_all();
  for (const auto i : it->second) {
    arrived_.wait(lock, [&] { return pieces_[i].done; });
    if (pieces_[i].error != 0)
      throw std::runtime_error(part.file->path().string() + ": cannot be read at byte " +
                               std::to_string(pieces_[i].part.offset()) + ": " +
                               (pieces_[i].error == EFAULT ? "the device fails, or the file became shorter"
                                                           : std::strerror(pieces_[i].error)));
  }
}

}  // namespace fastserve::model
