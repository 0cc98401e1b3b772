#pragma once

#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "model/mapped_file.hpp"

namespace fastserve::model {

/// Brings parts of mapped files into memory, in the order given, on threads of its own, while another thread
/// uses those that are there. Stays at most `window` bytes ahead of what has been waited for.
class read_ahead {
 public:
  static constexpr std::size_t piece_bytes = std::size_t{8} << 20;
  static constexpr std::size_t default_window = std::size_t{1} << 30;
  static constexpr int default_threads = 4;

  /// The files must outlive it.
  explicit read_ahead(const std::vector<file_part>& in_order, int threads = default_threads,
                      std::size_t window = default_window);
  read_ahead(const read_ahead&) = delete;
  read_ahead& operator=(const read_ahead&) = delete;
  ~read_ahead();

  /// Blocks until all of a part that was given is in memory. Throws std::runtime_error naming its file when
  /// it cannot be read. Any other part comes at once.
  void wait_for(const file_part& part);
  std::size_t bytes() const { return total_; }

 private:
  struct piece {
    file_part part;
    std::size_t end = 0;  ///< bytes of this piece and all before it
    bool done = false;
    int error = 0;
  };
  void read();

  std::vector<piece> pieces_;
  std::map<const std::byte*, std::vector<std::size_t>> places_;  ///< pieces of the part that begins there
  std::size_t window_;
  std::size_t total_ = 0;
  std::mutex mutex_;
  std::condition_variable room_, arrived_;
  std::size_t next_ = 0;
  std::size_t reached_ = 0;  ///< bytes up to the last piece that was waited for
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace fastserve::model
