#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace fastserve::launch {

/// The prompts typed so far, oldest first, and the file that keeps them.
///
/// The file has an entry a line (line breaks as \n, backslashes doubled), mode 0600 in a folder of mode 0700.
/// A history that cannot be read or written is a pity and no error: the functions say so and nothing throws.
class prompt_history {
 public:
  static constexpr std::size_t max_entries = 1000;
  static constexpr std::size_t max_entry_bytes = 65536;  ///< longer prompts are not kept

  /// $XDG_STATE_HOME/fastserve/history, or ~/.local/state/fastserve/history; empty without a home.
  static std::filesystem::path default_path();

  /// Reads the newest entries of `path` and appends to it from now on.
  bool open(const std::filesystem::path& path);

  /// Empty entries and repetitions of the newest one are not kept.
  void add(const std::string& entry);

  const std::vector<std::string>& entries() const { return entries_; }

 private:
  bool append_to_file(const std::string& entry) const;
  bool rewrite_file() const;

  std::vector<std::string> entries_;
  std::filesystem::path path_;
};

}  // namespace fastserve::launch
