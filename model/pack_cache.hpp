#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>

#include "kernels/backend.hpp"
#include "model/pack_file.hpp"

namespace fastserve::model {

/// Packed weights kept in a folder from one start to the next, a file for each. A key says all that decides a
/// weight's bytes; the file's name is its hash, the file begins with it. A file is written under another name
/// and renamed when it is whole, so ranks and jobs may share the folder. What cannot be used (damaged, cut
/// off, of something else) is reported in one line and written anew. Files are written on a thread of their
/// own, after the weights are in use. Whoever may write to the folder decides what the model says.
///
/// One thread calls it.
class pack_cache {
 public:
  /// A file whose head was read and is right.
  struct found {
    std::filesystem::path file;
    pack_header header;
  };
  struct counts {
    std::uint64_t read_files = 0, read_bytes = 0;
    std::uint64_t written_files = 0, written_bytes = 0;
    std::uint64_t damaged_files = 0;
  };

  /// Makes the folder. `notice` gets one line for each thing that goes wrong, from any thread: a cache that
  /// does not work is no error.
  pack_cache(std::filesystem::path folder, std::function<void(const std::string&)> notice);
  pack_cache(const pack_cache&) = delete;
  pack_cache& operator=(const pack_cache&) = delete;
  /// Writes what is to be kept.
  ~pack_cache();

  /// Looks for the file of a key; reads its head only.
  std::optional<found> find(const std::string& key);
  /// Reads the payload into `to` with the threads of `on`, checking it. False when it is not what it should
  /// be.
  bool read(const found& file, std::span<std::byte> to, kernels::backend& on);
  /// Keeps a weight, whose storage() must not change any more. Returns at once.
  void keep(std::string key, std::shared_ptr<const kernels::weight> what);
  /// Blocks until all that is to be kept is written.
  void flush();

  /// Where the payload for this key is kept.
  std::filesystem::path file_of(const std::string& key) const;
  counts total();

 private:
  struct order {
    std::string key;
    std::shared_ptr<const kernels::weight> what;
  };
  void write_all();
  void write(const order& what);
  void complain(const std::string& text);
  void remove_leftovers();

  std::filesystem::path folder_;
  std::function<void(const std::string&)> notice_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<order> waiting_;
  bool writing_ = false;
  bool broken_ = false;  ///< nothing more is written
  bool stopped_ = false;
  counts counts_;
  std::thread writer_;
};

}  // namespace fastserve::model
