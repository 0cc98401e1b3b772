#include "launch/prompt_history.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>
#include <system_error>

#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

constexpr std::size_t max_history_bytes = std::size_t{4} << 20;

std::string escaped(std::string_view entry) {
  std::string out;
  for (const char c : entry) {
    if (c == '\\')
      out += "\\\\";
    else if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

/// The file may be anybody's: no control character reaches the terminal from it.
std::string unescaped(std::string_view line) {
  std::string out;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const auto c = static_cast<unsigned char>(line[i]);
    if (c == '\\' && i + 1 < line.size())
      out += line[++i] == 'n' ? '\n' : line[i];
    else if ((c >= 0x20 && c != 0x7F) || c == '\t')
      out += line[i];
  }
  return repaired_utf8(out);
}

/// A file descriptor that closes itself.
class open_file {
 public:
  open_file(const std::filesystem::path& path, int flags)
      : fd_{::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, S_IRUSR | S_IWUSR)} {}
  open_file(const open_file&) = delete;
  open_file& operator=(const open_file&) = delete;
  ~open_file() {
    if (fd_ >= 0) ::close(fd_);
  }
  bool regular() const {
    struct stat facts {};
    return fd_ >= 0 && ::fstat(fd_, &facts) == 0 && S_ISREG(facts.st_mode);
  }
  bool write_all(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t n = ::write(fd_, text.data(), text.size());
      if (n <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  /// The last `limit` bytes.
  std::string read_tail(std::size_t limit) const {
    const off_t size = ::lseek(fd_, 0, SEEK_END);
    const auto bytes = static_cast<std::size_t>(size < 0 ? 0 : size);
    const off_t from = static_cast<off_t>(bytes > limit ? bytes - limit : 0);
    std::string text(bytes - static_cast<std::size_t>(from), '\0');
    const ssize_t n = ::pread(fd_, text.data(), text.size(), from);
    text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    if (from > 0) text.erase(0, text.find('\n') + 1);  // a line cut in half
    return text;
  }

 private:
  int fd_;
};

}  // namespace

std::filesystem::path prompt_history::default_path() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && *state == '/') return std::filesystem::path{state} / "fastserve" / "history";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/') return {};
  return std::filesystem::path{home} / ".local" / "state" / "fastserve" / "history";
}

bool prompt_history::open(const std::filesystem::path& path) {
  if (path.empty()) return false;
  std::error_code error;
  const bool fresh = std::filesystem::create_directories(path.parent_path(), error);
  if (error) return false;
  if (fresh) std::filesystem::permissions(path.parent_path(), std::filesystem::perms::owner_all, error);
  std::string text;
  {
    const open_file file{path, O_RDWR | O_CREAT};
    if (!file.regular()) return false;
    text = file.read_tail(max_history_bytes);
  }
  path_ = path;
  std::vector<std::string> read;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string entry = unescaped(std::string_view{text}.substr(at, end - at));
    if (!entry.empty() && entry.size() <= max_entry_bytes) read.push_back(std::move(entry));
    at = end + 1;
  }
  const std::size_t extra = read.size() > max_entries ? read.size() - max_entries : 0;
  entries_.assign(std::make_move_iterator(read.begin() + static_cast<std::ptrdiff_t>(extra)),
                  std::make_move_iterator(read.end()));
  if (extra > 0 || text.size() >= max_history_bytes) rewrite_file();
  return true;
}

void prompt_history::add(const std::string& entry) {
  if (entry.empty() || entry.size() > max_entry_bytes) return;
  if (!entries_.empty() && entries_.back() == entry) return;
  entries_.push_back(entry);
  if (entries_.size() > max_entries) entries_.erase(entries_.begin());
  if (!path_.empty() && !append_to_file(entry)) path_.clear();  // a full disk is not tried again
}

bool prompt_history::append_to_file(const std::string& entry) const {
  const open_file file{path_, O_WRONLY | O_CREAT | O_APPEND};
  return file.regular() && file.write_all(escaped(entry) + '\n');
}

bool prompt_history::rewrite_file() const {
  std::filesystem::path fresh = path_;
  fresh += ".new";
  std::error_code error;
  std::filesystem::remove(fresh, error);
  {
    const open_file file{fresh, O_WRONLY | O_CREAT | O_EXCL};
    if (!file.regular()) return false;
    std::string text;
    for (const std::string& entry : entries_) text += escaped(entry) + '\n';
    if (!file.write_all(text)) return false;
  }
  std::filesystem::rename(fresh, path_, error);
  return !error;
}

}  // namespace fastserve::launch
