#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launch/batch_done_set.hpp"
#include "launch/batch_file.hpp"
#include "launch/batch_id_set.hpp"

namespace fastserve::launch {

/// What a batch must have in common with the run that it goes on from: names and values, compared in order.
using batch_identity = std::vector<std::pair<std::string, std::string>>;

/// Another process has the output.
struct batch_busy : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Another process has taken the batch over: this one's time is over.
struct batch_taken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The output of a batch and the journal beside it (OUTPUT.journal), so that a job that is killed at any
/// instant and started again writes every line once and none torn.
///
/// The output only grows. A group of lines is committed so: the lines are appended to the output, the output
/// is synced, a record for each line is appended to the journal, the journal is synced. A record therefore
/// never speaks of bytes that are not on the disk. Opening an existing pair keeps the longest run of records
/// that are whole, in order and agree with the output, and cuts both files behind it: what was committed is
/// kept, what was not is computed again.
///
/// Who takes a batch over from a leader that may only have been stopped or cut off claims it: a record that
/// makes the journal longer than the other one left it. A journal that is not as long as this object made it
/// takes nothing more from it (batch_taken): that is looked at before each commit.
///
/// The journal: 8 bytes "FSBATCH2", the length and the CRC-32C of a header text, the text (JSON: when the
/// batch began, its identity), then records of 72 bytes, each with a CRC-32C of its own. Little-endian.
///
/// Not thread-safe. Every failure is a std::runtime_error with one line; after a failed commit the object
/// takes no more.
class batch_journal {
 public:
  enum class kind : std::uint32_t { answer = 1, error = 2 };

  struct entry {
    std::uint64_t request = 0;      ///< from 0, in the order of the input
    input_position end;             ///< of the request's line
    std::uint64_t input_bytes = 0;  ///< of that line
    kind what = kind::answer;
    id_digest id{};  ///< of the custom_id that the line carries
  };

  /// Begins a batch, or goes on with one. `begun` is when this run began, in seconds since 1970. `overwrite`
  /// drops an earlier output and journal. So does a journal of another identity that holds no answer yet,
  /// unless this is the `successor` of the leader that began it.
  ///
  /// Refuses (std::runtime_error): another identity where there are answers, an output without its journal,
  /// one that another process writes (batch_busy, after `patience`), one whose first line or last 64 MiB
  /// begin otherwise than the journal says.
  batch_journal(const std::filesystem::path& output, const batch_identity& identity, std::int64_t begun,
                bool overwrite, std::chrono::milliseconds patience = lock_patience, bool successor = false);

  /// A job that was killed may take a moment to die, and its lock with it.
  static constexpr std::chrono::seconds lock_patience{10};

  static std::filesystem::path path_for(const std::filesystem::path& output);

  /// What is committed or waits to be.
  const done_set& done() const { return done_; }
  std::uint64_t failed() const { return failed_; }  ///< those of them that are error lines
  std::uint64_t input_bytes_done() const { return input_bytes_done_; }
  /// The batch is finished, nothing is left to do.
  bool complete() const { return complete_; }
  /// When the batch began; stays the same over all runs.
  std::int64_t begun() const { return begun_; }

  /// The custom_ids of the lines that were there when it was opened; to be taken once.
  batch_id_set take_ids() { return std::move(ids_); }

  /// Adds a line (without its newline) to the group. A request that is done already is a std::logic_error.
  void append(const entry& what, std::string_view line);
  std::size_t pending_bytes() const { return lines_.size(); }
  /// Writes the group, see above. Returns when it is on the disk.
  void commit();
  /// Commits and marks the batch as finished.
  void finish();
  /// Commits that rank `leader` writes from here on.
  void claim(std::uint64_t leader);

 private:
  void begin(const batch_identity& identity, std::int64_t begun);
  bool is_of_others(const batch_identity& identity, bool successor);
  std::string read_header(const batch_identity& identity);
  bool holds_answers() const;
  void replay();
  void require_ours() const;
  void add_record(std::uint32_t what, const entry& of, std::uint64_t offset, std::uint32_t bytes,
                  std::uint32_t crc);

  std::filesystem::path output_path_;
  batch_file output_;
  batch_file journal_;
  done_set done_;
  batch_id_set ids_;
  std::int64_t begun_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t input_bytes_done_ = 0;
  std::uint64_t output_end_ = 0;   // committed
  std::uint64_t journal_end_ = 0;  // committed
  std::string lines_;              // not committed
  std::string records_;            // not committed
  bool complete_ = false;
  bool broken_ = false;
};

}  // namespace fastserve::launch
