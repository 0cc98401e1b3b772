#include "launch/batch_journal.hpp"

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <thread>

#include "launch/batch_crc.hpp"
#include "launch/batch_record.hpp"

namespace fastserve::launch {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t request_of_end = std::numeric_limits<std::uint64_t>::max();

// How much of the output's end is compared with its checksums.
constexpr std::uint64_t checked_output_bytes = std::uint64_t{64} << 20;

constexpr std::uint64_t records_a_read = 16384;

[[noreturn]] void refuse(const fs::path& file, const std::string& what) {
  throw std::runtime_error(file.string() + ": " + what + "; --overwrite starts anew");
}

std::string header_text(const batch_identity& identity, std::int64_t begun) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& [name, value] : identity) list.push_back({name, value});
  return nlohmann::ordered_json{{"begun", begun}, {"identity", std::move(list)}}.dump(
      -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::uint64_t size_if_there(const fs::path& path) {
  std::error_code none;
  const auto size = fs::file_size(path, none);
  return none ? 0 : size;
}

}  // namespace

fs::path batch_journal::path_for(const fs::path& output) { return output.string() + ".journal"; }

batch_journal::batch_journal(const fs::path& output, const batch_identity& identity, std::int64_t begun,
                             bool overwrite, std::chrono::milliseconds patience, bool successor)
    : output_path_{output} {
  const auto is_new = [&] {
    if (overwrite) return true;
    if (fs::exists(path_for(output))) return false;
    if (size_if_there(output) > 0)
      refuse(output, "is there already, and no journal says that a batch began it");
    return true;
  };
  // A refusal that can be known already comes before the output is made.
  if (!is_new() && !fs::exists(output)) is_of_others(identity, successor);
  if (fs::exists(output) && !fs::is_regular_file(output))
    throw std::runtime_error(output.string() + ": the output must be a regular file");

  output_ = batch_file{output, O_RDWR | O_CREAT};
  const auto give_up = std::chrono::steady_clock::now() + patience;
  while (!output_.lock()) {
    if (std::chrono::steady_clock::now() > give_up)
      throw batch_busy(output.string() + ": another process is writing it");
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }

  // Another process may have begun or finished it while this one waited.
  if (is_new()) {
    begin(identity, begun);
    return;
  }
  if (!is_of_others(identity, successor)) {
    replay();
    return;
  }
  // Whoever has the old journal open and whose lock is not seen here takes it for claimed.
  batch_record claim;
  claim.what = batch_record::record_of_claim;
  journal_.write_at(journal_.size(), encode_record(claim));
  journal_.sync();
  begin(identity, begun);
}

// Opens the journal and reads its header. True when it was begun with another identity and holds no answer,
// so that nothing depends on what it was begun with; with answers, or for a successor, that is refused.
bool batch_journal::is_of_others(const batch_identity& identity, bool successor) {
  journal_ = batch_file{path_for(output_path_), O_RDWR};
  const auto wrong = read_header(identity);
  if (!wrong.empty() && (successor || holds_answers())) refuse(output_path_, wrong);
  return !wrong.empty();
}

bool batch_journal::holds_answers() const {
  if (size_if_there(output_path_) > 0) return true;
  for (auto at = journal_end_; at + batch_record::bytes <= journal_.size(); at += batch_record::bytes) {
    const auto record = decode_record(journal_.read_at(at, batch_record::bytes));
    if (!record ||
        (record->what != batch_record::record_of_end && record->what != batch_record::record_of_claim))
      return true;
  }
  return false;
}

// The journal appears with its header whole, by the rename; the output is empty before.
void batch_journal::begin(const batch_identity& identity, std::int64_t begun) {
  const auto path = path_for(output_path_);
  output_.truncate(0);
  output_.sync();
  const fs::path draft = path.string() + ".new";
  const auto header = encode_header(header_text(identity, begun));
  journal_ = batch_file{draft, O_RDWR | O_CREAT | O_TRUNC};
  journal_.write_at(0, header);
  journal_.sync();
  fs::rename(draft, path);
  sync_folder(output_path_.parent_path());
  begun_ = begun;
  journal_end_ = header.size();
}

// What of the identity is not that of the header; empty when all is.
std::string batch_journal::read_header(const batch_identity& identity) {
  const auto path = path_for(output_path_);
  const auto header = decode_header(journal_.read_at(0, most_header_bytes));
  if (!header) refuse(path, "is no journal of a batch, or damaged");
  batch_identity before;
  try {
    const auto parsed = nlohmann::json::parse(header->text);
    begun_ = parsed.at("begun").get<std::int64_t>();
    for (const auto& pair : parsed.at("identity"))
      before.emplace_back(pair.at(0).get<std::string>(), pair.at(1).get<std::string>());
  } catch (const nlohmann::json::exception&) {
    refuse(path, "is no journal of a batch, or damaged");
  }
  journal_end_ = header->bytes;
  // What the header text made of this identity: broken UTF-8 in a setting does not come back as it was.
  const auto now = nlohmann::json::parse(header_text(identity, 0)).at("identity");
  for (std::size_t i = 0; i < std::max<std::size_t>(before.size(), now.size()); ++i) {
    if (i >= before.size() || i >= now.size() || before[i].first != now[i].at(0).get<std::string>())
      return "was begun by another version of FastServe";
    const auto value = now[i].at(1).get<std::string>();
    if (before[i].second != value)
      return "was begun with " + before[i].first + " " + before[i].second + ", now it is " + value;
  }
  return {};
}

void batch_journal::replay() {
  const auto output_size = output_.size();
  const auto journal_size = journal_.size();
  const auto first = journal_end_;
  const auto checked_from = output_size - std::min(output_size, checked_output_bytes);
  std::string block;
  std::uint64_t block_at = 0;
  for (auto at = first; at + batch_record::bytes <= journal_size; at += batch_record::bytes) {
    if (at >= block_at + block.size()) {
      block_at = at;
      block = journal_.read_at(at, static_cast<std::size_t>(batch_record::bytes * records_a_read));
    }
    const auto rest = std::string_view{block}.substr(static_cast<std::size_t>(at - block_at));
    const auto record = decode_record(rest.substr(0, batch_record::bytes));
    if (!record || record->output_offset != output_end_ || complete_) break;
    if (record->what == batch_record::record_of_end) {
      complete_ = true;
      journal_end_ = at + batch_record::bytes;
      continue;
    }
    if (record->what == batch_record::record_of_claim) {
      journal_end_ = at + batch_record::bytes;
      continue;
    }
    const bool first_line = output_end_ == 0;
    const auto end = output_end_ + record->output_bytes;
    if (record->output_bytes == 0 || end > output_size) break;
    if (first_line || output_end_ >= checked_from) {
      if (crc32c(output_.read_at(output_end_, record->output_bytes)) != record->output_crc) {
        // A disk that lost writes damages the end; who replaced the file changed its beginning.
        if (first_line) refuse(output_path_, "is not the file that its journal speaks of");
        break;
      }
    }
    if (!done_.add(record->request, {record->end_line, record->end_offset})) break;
    if (record->what == static_cast<std::uint32_t>(kind::error)) ++failed_;
    ids_.add({record->id_low, record->id_high});
    input_bytes_done_ += record->input_bytes;
    output_end_ = end;
    journal_end_ = at + batch_record::bytes;
  }
  // A finished batch is exactly what its journal says.
  if (complete_ && output_size != output_end_)
    refuse(output_path_, "was finished and then changed by someone else");
  // The journal first: it must never speak of what is not there.
  if (journal_size > journal_end_) journal_.truncate(journal_end_);
  journal_.sync();
  if (output_size > output_end_) output_.truncate(output_end_);
  output_.sync();
}

void batch_journal::add_record(std::uint32_t what, const entry& of, std::uint64_t offset, std::uint32_t bytes,
                               std::uint32_t crc) {
  batch_record record;
  record.request = of.request;
  record.end_line = of.end.line;
  record.end_offset = of.end.offset_bytes;
  record.input_bytes = of.input_bytes;
  record.id_low = of.id.low;
  record.id_high = of.id.high;
  record.output_offset = offset;
  record.output_bytes = bytes;
  record.output_crc = crc;
  record.what = what;
  records_ += encode_record(record);
}

void batch_journal::append(const entry& what, std::string_view line) {
  if (complete_ || broken_) throw std::logic_error("a batch's journal that is closed takes no more");
  if (line.size() >= std::numeric_limits<std::uint32_t>::max() || line.find('\n') != std::string_view::npos)
    throw std::logic_error("not one line for a batch's output");
  if (!done_.add(what.request, what.end)) throw std::logic_error("a request of a batch was answered twice");
  if (what.what == kind::error) ++failed_;
  input_bytes_done_ += what.input_bytes;
  const auto offset = output_end_ + lines_.size();
  lines_ += line;
  lines_ += '\n';
  add_record(static_cast<std::uint32_t>(what.what), what, offset, static_cast<std::uint32_t>(line.size() + 1),
             crc32c("\n", crc32c(line)));
}

void batch_journal::require_ours() const {
  if (journal_.size() != journal_end_)
    throw batch_taken(output_path_.string() + ": another process has taken the batch over");
}

void batch_journal::commit() {
  if (records_.empty()) return;
  if (broken_) throw std::logic_error("a batch's journal that is closed takes no more");
  broken_ = true;  // until all of it is done
  // Before either file is written: a successor cuts the output to what the journal speaks of, and then claims
  // the batch in the journal.
  require_ours();
  if (!lines_.empty()) {
    output_.write_at(output_end_, lines_);
    output_.sync();
    require_ours();
  }
  journal_.write_at(journal_end_, records_);
  journal_.sync();
  output_end_ += lines_.size();
  journal_end_ += records_.size();
  lines_.clear();
  records_.clear();
  broken_ = false;
}

void batch_journal::claim(std::uint64_t leader) {
  commit();
  entry mark;
  mark.request = leader;
  add_record(batch_record::record_of_claim, mark, output_end_, 0, 0);
  commit();
}

void batch_journal::finish() {
  // The lines first: the mark must not speak of what is not there.
  commit();
  if (complete_) return;
  entry end;
  end.request = request_of_end;
  add_record(batch_record::record_of_end, end, output_end_, 0, 0);
  commit();
  complete_ = true;
}

}  // namespace fastserve::launch
