#include "launch/option_rows.hpp"

#include "scheduler/policy.hpp"

namespace fastserve::launch {

option_spec begin(const row& of, shape form, commands who) {
  option_spec spec;
  spec.section = of.section;
  spec.key = of.key;
  spec.value_name = of.value_name;
  spec.doc = of.doc;
  spec.unset = of.unset;
  spec.form = form;
  spec.commands = std::move(who);
  return spec;
}

std::string parse_policy(std::string_view value, bool or_auto) {
  auto names = scheduler::policy_names();
  if (or_auto) names.insert(names.begin(), "auto");
  return parse_choice(value, {names.begin(), names.end()});
}

}  // namespace fastserve::launch
