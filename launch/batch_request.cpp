#include "launch/batch_request.hpp"

#include <set>
#include <string>
#include <vector>

#include "launch/batch_fields.hpp"
#include "launch/batch_id_set.hpp"
#include "launch/batch_input.hpp"
#include "launch/parse_value.hpp"
#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

using nlohmann::json;

constexpr std::size_t most_nesting = 32;
constexpr std::size_t most_id_bytes = 1024;

// A parser would take an open bracket of memory for each bracket of a hostile line.
bool nests_too_deep(std::string_view text) {
  std::size_t depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > most_nesting) return true;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return false;
}

// "parse error at line 1, column 5: syntax error ...": without the library's own number in front.
std::string reason_of(const json::exception& e) {
  std::string_view what{e.what()};
  if (const auto bracket = what.find("] "); what.starts_with("[json") && bracket != std::string_view::npos)
    what.remove_prefix(bracket + 2);
  return repaired_utf8(what.substr(0, 200));
}

// Parses; `twice` is the first key that an object has twice, of which a parser would keep one in silence.
json parse_strictly(std::string_view text, std::string& twice) {
  std::vector<std::set<std::string>> open;
  return json::parse(text, [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!open.back().insert(key).second && twice.empty()) twice = key;
    }
    return true;
  });
}

// The one place that decides what a form of line has around its body.
const json& body_of(const json& line, std::string& custom_id) {
  if (!line.is_object()) throw batch_refusal{"invalid_request", "expected an object, found " + kind_of(line)};
  const bool framed = line.contains("body") || line.contains("url") || line.contains("method");
  const auto id = line.find("custom_id");
  if (id != line.end() && !id->is_null()) {
    if (!id->is_string() || id->get_ref<const std::string&>().empty())
      throw batch_refusal{"invalid_request", "custom_id: expected a text, found " + kind_of(*id)};
    if (id->get_ref<const std::string&>().size() > most_id_bytes)
      throw batch_refusal{"invalid_request",
                          "custom_id: longer than " + std::to_string(most_id_bytes) + " bytes"};
    custom_id = id->get<std::string>();
  } else if (framed) {
    throw batch_refusal{"invalid_request", "custom_id: is missing"};
  }
  if (!framed) return line;

  const auto method = line.find("method");
  if (method != line.end() && *method != "POST")
    throw batch_refusal{"invalid_request", "method: expected \"POST\", found " + kind_of(*method)};
  const auto url = line.find("url");
  if (url == line.end() || !url->is_string())
    throw batch_refusal{"invalid_request", "url: expected \"/v1/completions\""};
  if (*url == "/v1/chat/completions")
    throw batch_refusal{
        "unsupported",
        "url: \"/v1/chat/completions\" needs chat templates, which this version does not have; "
        "write the prompt out and use \"/v1/completions\""};
  if (*url != "/v1/completions")
    throw batch_refusal{"unsupported", "url: expected \"/v1/completions\", found " +
                                           in_quotes(url->get_ref<const std::string&>().substr(0, 100))};
  const auto body = line.find("body");
  if (body == line.end() || !body->is_object())
    throw batch_refusal{"invalid_request", "body: expected an object"};
  return *body;
}

}  // namespace

batch_line read_batch_line(std::string_view text, std::uint64_t number,
                           const model::sampling_params& sampling, const model::stop_params& stopping) {
  auto custom_id = derived_id(number);
  const auto place = "line " + std::to_string(number) + ": ";
  if (nests_too_deep(text))
    return batch_error{custom_id, "invalid_json",
                       place + "nested deeper than " + std::to_string(most_nesting) + " levels"};
  try {
    std::string twice;
    const auto line = parse_strictly(text, twice);
    const auto& body = body_of(line, custom_id);
    if (!twice.empty()) {
      if (twice == "custom_id") custom_id = derived_id(number);
      throw batch_refusal{"invalid_request", in_quotes(twice.substr(0, 100)) + ": is given twice"};
    }
    batch_request out;
    out.sampling = sampling;
    out.stopping = stopping;
    read_batch_fields(body, &body == &line, out);
    out.custom_id = custom_id;
    return out;
  } catch (const batch_refusal& e) {
    return batch_error{custom_id, e.code, place + e.what()};
  } catch (const json::exception& e) {
    return batch_error{custom_id, "invalid_json", place + "not JSON: " + reason_of(e)};
  }
}

batch_error line_too_long(std::uint64_t number, std::uint64_t bytes) {
  return {derived_id(number), "line_too_long",
          "line " + std::to_string(number) + ": " + std::to_string(bytes) +
              " bytes; the longest that is read has " + std::to_string(batch_input::most_line_bytes)};
}

}  // namespace fastserve::launch
