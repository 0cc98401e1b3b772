#pragma once

// What the files of option rows share (option_rows_*.cpp, an area of settings each); for them and
// option_table.cpp alone.

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "launch/option_table.hpp"
#include "launch/parse_value.hpp"

namespace fastserve::launch {

using shape = option_spec::shape;
using commands = std::vector<command>;

/// The rows of each area, in the order of the help.
std::vector<option_spec> general_rows();
std::vector<option_spec> engine_rows();
std::vector<option_spec> failover_rows();
std::vector<option_spec> sampling_rows();
std::vector<option_spec> console_rows();
std::vector<option_spec> batch_rows();
std::vector<option_spec> bench_rows();
std::vector<option_spec> load_rows();
std::vector<option_spec> simulate_rows();
std::vector<option_spec> plan_rows();
std::vector<option_spec> compress_rows();

/// What a row says of its setting.
struct row {
  std::string_view section;
  std::string_view key;
  std::string_view value_name;
  std::string_view doc;
  std::string_view unset = {};
};

/// A row without its value.
option_spec begin(const row& of, shape form, commands who);

/// A policy's name, or auto if that may be said. Throws std::invalid_argument.
std::string parse_policy(std::string_view value, bool or_auto = false);

// `field` takes options& or const options& and returns a reference to the field.

template <typename Field>
option_spec flag(const row& of, commands who, Field field) {
  option_spec spec = begin(of, shape::flag, std::move(who));
  spec.set = [field](options& o, std::string_view text) { field(o) = parse_bool(text); };
  spec.get = [field](const options& o) { return std::vector<std::string>{field(o) ? "true" : "false"}; };
  return spec;
}

template <typename Field>
option_spec integer(const row& of, commands who, std::int64_t low, std::int64_t high, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.numeric = true;
  spec.set = [field, low, high](options& o, std::string_view text) {
    using value_type = std::remove_reference_t<decltype(field(o))>;
    field(o) = static_cast<value_type>(parse_integer(text, low, high));
  };
  spec.get = [field](const options& o) { return std::vector<std::string>{std::to_string(field(o))}; };
  return spec;
}

template <typename Field>
option_spec real(const row& of, commands who, float low, float high, bool above_low, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.numeric = true;
  spec.set = [=](options& o, std::string_view text) { field(o) = parse_real(text, low, high, above_low); };
  spec.get = [field](const options& o) { return std::vector<std::string>{format_real(field(o))}; };
  return spec;
}

template <typename Field>
option_spec bytes(const row& of, commands who, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.set = [field](options& o, std::string_view text) { field(o) = parse_bytes(text); };
  spec.get = [field](const options& o) { return std::vector<std::string>{format_exact_bytes(field(o))}; };
  return spec;
}

template <typename Field>
option_spec text(const row& of, commands who, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.empty_is_unset = true;
  spec.set = [field](options& o, std::string_view value) {
    if (value.empty()) throw std::invalid_argument{"expected a path, found nothing"};
    if (value.find('\0') != std::string_view::npos)
      throw std::invalid_argument{"expected a path, found " + in_quotes(value)};
    field(o) = std::string{value};
  };
  spec.get = [field](const options& o) { return std::vector<std::string>{field(o)}; };
  return spec;
}

/// One of `names`.
template <typename Field>
option_spec choice(const row& of, commands who, std::vector<std::string_view> names, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.set = [field, names = std::move(names)](options& o, std::string_view value) {
    field(o) = parse_choice(value, names);
  };
  spec.get = [field](const options& o) { return std::vector<std::string>{field(o)}; };
  return spec;
}

/// A number from 0 up that fills 64 bits, as a seed may.
template <typename Field>
option_spec seed(const row& of, commands who, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.numeric = true;
  spec.set = [field](options& o, std::string_view value) { field(o) = parse_unsigned(value); };
  spec.get = [field](const options& o) { return std::vector<std::string>{std::to_string(field(o))}; };
  return spec;
}

/// A length, or "auto" for one that shrinks to what the context holds; `given` tells them apart.
template <typename Spec, typename Given>
Spec or_auto(Spec spec, Given given) {
  spec.set = [set = spec.set, get = spec.get, given](options& o, std::string_view text) {
    const bool is_given = text != "auto";
    set(o, is_given ? text : std::string_view{get(options{}).front()});
    given(o) = is_given;
  };
  spec.get = [get = spec.get, given](const options& o) {
    return given(o) ? get(o) : std::vector<std::string>{"auto"};
  };
  return spec;
}

/// Longest list that a setting may have.
inline constexpr std::size_t max_list_entries = 65536;

template <typename T>
void append(std::vector<T>& list, T value) {
  if (list.size() == max_list_entries)
    throw std::invalid_argument{"more than " + std::to_string(max_list_entries) + " entries"};
  list.push_back(std::move(value));
}

/// Several values in one text, such as 1,8,32; the next such text takes the place of all of them. `parse`
/// makes a value of a part, `show` the part of a value. YAML takes a sequence, too.
template <typename Parse, typename Show, typename Field>
option_spec joined(const row& of, commands who, Parse parse, Show show, Field field) {
  option_spec spec = begin(of, shape::value, std::move(who));
  spec.id_list = true;
  spec.set = [parse, field](options& o, std::string_view text) {
    std::remove_reference_t<decltype(field(o))> values;
    for (std::size_t at = 0;;) {
      const auto end = std::min(text.find(',', at), text.size());
      append(values, parse(text.substr(at, end - at)));
      if (end == text.size()) break;
      at = end + 1;
    }
    field(o) = std::move(values);
  };
  spec.get = [show, field](const options& o) {
    std::string out;
    for (const auto& value : field(o)) out += (out.empty() ? "" : ",") + show(value);
    return std::vector<std::string>{out};
  };
  return spec;
}

}  // namespace fastserve::launch
