#include "launch/option_rows.hpp"

#include <stdexcept>
#include <utility>
#include <variant>

namespace fastserve::launch {

namespace {

/// Text and id prompts share one list, so that answers come in the order of the prompts. Clearing either
/// clears both: prompts on the command line replace all of the file's.
template <typename Kind>
std::vector<Kind> prompts_of(const options& o) {
  std::vector<Kind> found;
  for (const prompt& p : o.console.prompts)
    if (const Kind* value = std::get_if<Kind>(&p)) found.push_back(*value);
  return found;
}

option_spec text_prompts() {
  option_spec spec = begin({"console", "prompt", "TEXT",
                            "answer this and end; may be given again; an empty text starts from nothing",
                            "read from stdin, one a line"},
                           shape::list, {command::console});
  spec.set = [](options& o, std::string_view value) {
    append(o.console.prompts, prompt{std::in_place_type<std::string>, value});
  };
  spec.get = [](const options& o) { return prompts_of<std::string>(o); };
  spec.clear = [](options& o) { o.console.prompts.clear(); };
  return spec;
}

option_spec id_prompts() {
  option_spec spec =
      begin({"console", "prompt_ids", "IDS",
             "a prompt as token ids, such as 1,15,27, used as it is; may be given again", "none"},
            shape::list, {command::console});
  using ids = std::vector<std::int32_t>;
  spec.id_list = true;
  spec.set = [](options& o, std::string_view value) {
    ids parsed = parse_ids(value);
    if (parsed.empty()) throw std::invalid_argument{"expected token ids such as 1,2,3, found nothing"};
    append(o.console.prompts, prompt{std::move(parsed)});
  };
  spec.get = [](const options& o) {
    std::vector<std::string> texts;
    for (const ids& p : prompts_of<ids>(o)) texts.push_back(format_ids(p));
    return texts;
  };
  spec.clear = [](options& o) { o.console.prompts.clear(); };
  return spec;
}

}  // namespace

std::vector<option_spec> console_rows() {
  const commands who{command::console};
  std::vector<option_spec> rows;
  rows.push_back(text_prompts());
  rows.push_back(id_prompts());
  rows.push_back(flag(
      {"console", "json", "", "print a line of JSON for each finished answer"}, who,
      [](auto& o) -> auto& { return o.console.json; }));
  rows.push_back(flag(
      {"console", "history", "", "keep typed prompts in a file"}, who,
      [](auto& o) -> auto& { return o.console.history; }));
  return rows;
}

}  // namespace fastserve::launch
