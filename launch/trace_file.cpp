#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "launch/parse_value.hpp"
#include "launch/workload.hpp"

namespace fastserve::launch {

namespace {

// What a file may make us hold.
constexpr std::size_t max_items = 10'000'000;
constexpr std::size_t max_line_bytes = 1U << 20U;
constexpr std::size_t max_prefix_ids = 1U << 16U;
constexpr std::int64_t max_item_tokens = 1 << 24;

class reader {
 public:
  reader(std::istream& in, const std::string& name) : in_{in}, name_{name} {}

  trace read() {
    if (!next_line()) fail("is empty");
    if (line_.starts_with('{'))
      read_json_lines();
    else
      read_csv();
    if (out_.items.empty()) fail("has no requests");
    if (out_.timed) {
      // Neighbours may be swapped in a log.
      std::stable_sort(out_.items.begin(), out_.items.end(),
                       [](const auto& a, const auto& b) { return a.at_s < b.at_s; });
      const double first = out_.items.front().at_s;
      for (auto& item : out_.items) item.at_s -= first;
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(name_ + ":" + std::to_string(number_) + ": " + what);
  }

  // getline without its unbounded growth; blank lines are passed over.
  bool next_line() {
    for (;;) {
      line_.clear();
      int c = in_.get();
      if (c == std::istream::traits_type::eof()) return false;
      ++number_;
      for (; c != '\n' && c != std::istream::traits_type::eof(); c = in_.get()) {
        if (line_.size() == max_line_bytes)
          fail("a line longer than " + std::to_string(max_line_bytes) + " bytes");
        line_ += static_cast<char>(c);
      }
      if (line_.ends_with('\r')) line_.pop_back();
      if (number_ == 1 && line_.starts_with("\xEF\xBB\xBF")) line_.erase(0, 3);
      if (!line_.empty()) return true;
    }
  }

  void add(workload_item item) {
    if (out_.items.size() == max_items) fail("more than " + std::to_string(max_items) + " requests");
    out_.items.push_back(std::move(item));
  }

  std::int32_t length(std::int64_t value, std::string_view what, std::int64_t least) const {
    if (value < least || value > max_item_tokens)
      fail(std::string{what} + ": expected a number of tokens from " + std::to_string(least) + " to " +
           std::to_string(max_item_tokens) + ", found " + std::to_string(value));
    return static_cast<std::int32_t>(std::max<std::int64_t>(value, 1));
  }

  // -- CSV --------------------------------------------------------------------

  static std::vector<std::string_view> cells(std::string_view line) {
    std::vector<std::string_view> out;
    for (std::size_t at = 0;;) {
      const auto end = std::min(line.find(',', at), line.size());
      out.push_back(line.substr(at, end - at));
      if (end == line.size()) return out;
      at = end + 1;
    }
  }

  static std::optional<std::size_t> column(const std::vector<std::string_view>& header,
                                           std::initializer_list<std::string_view> names) {
    for (std::size_t i = 0; i < header.size(); ++i)
      if (std::find(names.begin(), names.end(), header[i]) != names.end()) return i;
    return std::nullopt;
  }

  std::int64_t number(std::string_view cell, std::string_view what) const {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    if (error != std::errc{} || end != cell.data() + cell.size())
      fail(std::string{what} + ": expected a whole number, found " + in_quotes(cell));
    return value;
  }

  // Seconds, or "2023-11-16 18:15:46.6805900".
  double moment(std::string_view cell) const {
    const std::string text{cell};
    int year = 0, month = 0, day = 0, hour = 0, minute = 0, used = 0;
    double second = 0;
    if (std::sscanf(text.c_str(), "%4d-%2d-%2d%*1[ T]%2d:%2d:%lf%n", &year, &month, &day, &hour, &minute,
                    &second, &used) == 6 &&
        static_cast<std::size_t>(used) == text.size() && month >= 1 && month <= 12 && day >= 1 && day <= 31 &&
        std::isfinite(second)) {
      // Days since a fixed one, by the civil calendar with years beginning in March.
      const int y = year - (month <= 2 ? 1 : 0);
      const int m = (month + 9) % 12;
      const double days = 365.0 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day;
      return days * 86400.0 + hour * 3600.0 + minute * 60.0 + second;
    }
    char* end = nullptr;
    const double seconds = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(std::abs(seconds) < 1e12))
      fail("expected a time, found " + in_quotes(cell));
    return seconds;
  }

  void read_csv() {
    const std::string head = line_;
    const auto header = cells(head);
    const auto prompt = column(
        header, {"num_prefill_tokens", "ContextTokens", "prompt_tokens", "input_tokens", "input_length"});
    const auto output = column(
        header, {"num_decode_tokens", "GeneratedTokens", "output_tokens", "decode_tokens", "output_length"});
    const auto time = column(header, {"TIMESTAMP", "timestamp", "arrived_at", "time"});
    if (!prompt || !output)
      fail("expected a header with columns such as prompt_tokens,output_tokens, or lines of JSON; found " +
           in_quotes(head));
    out_.timed = time.has_value();
    while (next_line()) {
      const auto row = cells(line_);
      if (row.size() != header.size())
        fail("expected " + std::to_string(header.size()) + " columns, found " + std::to_string(row.size()));
      workload_item item;
      item.prompt_tokens = length(number(row[*prompt], header[*prompt]), header[*prompt], 1);
      item.output_tokens = length(number(row[*output], header[*output]), header[*output], 0);
      if (time) item.at_s = moment(row[*time]);
      add(std::move(item));
    }
  }

  // -- JSON lines -------------------------------------------------------------

  std::int64_t number_in(const nlohmann::json& object, const char* key) const {
    const auto it = object.find(key);
    if (it == object.end()) fail(std::string{"no "} + key);
    if (!it->is_number_integer()) fail(std::string{key} + ": expected a whole number");
    return it->get<std::int64_t>();
  }

  void read_json_lines() {
    do {
      const auto object = nlohmann::json::parse(line_, nullptr, false);
      if (!object.is_object()) fail("expected a JSON object, found " + in_quotes(line_.substr(0, 64)));
      workload_item item;
      item.prompt_tokens = length(number_in(object, "input_length"), "input_length", 1);
      item.output_tokens = length(number_in(object, "output_length"), "output_length", 0);
      if (const auto at = object.find("timestamp"); at != object.end()) {
        if (!at->is_number() || !(std::abs(at->get<double>()) < 1e15))
          fail("timestamp: expected milliseconds");
        item.at_s = at->get<double>() / 1e3;
        out_.timed = true;
      }
      if (const auto ids = object.find("hash_ids"); ids != object.end()) {
        if (!ids->is_array() || ids->size() > max_prefix_ids) fail("hash_ids: expected a list of ids");
        for (const auto& id : *ids) {
          if (!id.is_number_unsigned()) fail("hash_ids: expected whole numbers from 0");
          item.prefix_ids.push_back(id.get<std::uint64_t>());
        }
        out_.prefixes = true;
      }
      add(std::move(item));
    } while (next_line());
  }

  std::istream& in_;
  const std::string& name_;
  std::string line_;
  std::size_t number_ = 0;
  trace out_;
};

}  // namespace

trace read_trace(std::istream& in, const std::string& name) { return reader{in, name}.read(); }

trace read_trace_file(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) throw std::runtime_error(path + ": no such trace file");
  if (S_ISDIR(facts.st_mode)) throw std::runtime_error(path + ": is a folder, not a trace file");
  std::ifstream in{path, std::ios::binary};
  if (!in) throw std::runtime_error(path + ": cannot be read");
  return read_trace(in, path);
}

}  // namespace fastserve::launch
