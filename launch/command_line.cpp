#include "launch/command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>

#include "launch/config_file.hpp"
#include "launch/help_text.hpp"
#include "launch/option_table.hpp"
#include "launch/parse_value.hpp"
#include "launch/suggest.hpp"

namespace fastserve::launch {

namespace {

/// What is wrong, and whose help to point at ("" = the program's).
struct usage_error : std::runtime_error {
  usage_error(const std::string& what, std::string_view command_name)
      : std::runtime_error{what}, command_name{command_name} {}
  std::string command_name;
};

/// An argument without a flag, and the key of the setting that it is.
struct positional {
  std::string_view key;
  CLI::Option* option = nullptr;
};

struct bound_option {
  const option_spec* spec = nullptr;
  CLI::Option* option = nullptr;
};

/// A command as CLI11 sees it. Values stay raw text there: the option table reads them, as it reads YAML's.
struct bound_command {
  command which{};
  CLI::App* app = nullptr;
  std::vector<positional> positionals;
  CLI::Option* help = nullptr;
  std::vector<bound_option> bound;
};

const CLI::callback_t keep_raw = [](const CLI::results_t&) { return true; };

bound_command bind(CLI::App& program, command which) {
  bound_command out;
  out.which = which;
  out.app = program.add_subcommand(std::string{name_of(which)}, std::string{summary_of(which)});
  out.app->set_help_flag();
  out.app->allow_extras();
  out.help = out.app->add_flag("-h,--help");
  if (which == command::batch)
    out.positionals = {{"input", out.app->add_option("IN", keep_raw, "")},
                       {"output", out.app->add_option("OUT", keep_raw, "")}};
  else if (which == command::compress)
    out.positionals = {{"model", out.app->add_option("IN", keep_raw, "")},
                       {"output", out.app->add_option("OUT", keep_raw, "")}};
  else if (which != command::version && which != command::simulate && which != command::plan)
    out.positionals = {{"model", out.app->add_option("DIR", keep_raw, "")}};
  for (const option_spec& spec : option_table()) {
    if (!spec.belongs_to(which)) continue;
    CLI::Option* option = nullptr;
    if (spec.form == option_spec::shape::flag)
      option = out.app->add_flag(spec.flag() + ",!--no-" + spec.flag().substr(2));
    else
      option = out.app->add_option(spec.flag(), keep_raw, "")->expected(-1)->allow_extra_args(false);
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    out.bound.push_back({&spec, option});
  }
  return out;
}

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const command which :
       {command::console, command::batch, command::bench, command::bench_serve, command::simulate,
        command::plan, command::compress, command::inspect, command::version})
    names.emplace_back(name_of(which));
  return names;
}

/// CLI11 takes "--prompt=" for "--prompt" and eats the next argument; an empty value is meant.
std::vector<std::string> split_empty_values(const std::vector<std::string>& arguments) {
  std::vector<std::string> out;
  for (const std::string& argument : arguments) {
    const bool empty_value =
        argument.size() > 3 && argument.starts_with("--") && argument.find('=') == argument.size() - 1;
    out.push_back(empty_value ? argument.substr(0, argument.size() - 1) : argument);
    if (empty_value) out.emplace_back();
  }
  return out;
}

[[noreturn]] void refuse_extra(const bound_command& of, const std::string& extra) {
  const std::string name{name_of(of.which)};
  if (!extra.starts_with('-') || extra == "-")
    throw usage_error{"unexpected argument " + in_quotes(extra), name};
  const std::string flag = extra.substr(0, extra.find('='));
  std::vector<std::string> known;
  for (const bound_option& b : of.bound) known.push_back(b.spec->flag());
  for (const option_spec& spec : option_table())
    if (spec.flag() == flag)
      throw usage_error{
          flag + " is an option of " + words_of(spec.commands.front()) + ", not of " + words_of(of.which),
          name};
  throw usage_error{"unknown option " + in_quotes(flag) + did_you_mean(flag, known), name};
}

/// One value after the other, as they stood on the command line.
void apply_flags(const bound_command& of, options& settings) {
  const std::string name{name_of(of.which)};
  for (const bound_option& b : of.bound)
    if (b.option->count() > 0 && b.spec->clear) b.spec->clear(settings);
  std::map<const CLI::Option*, std::size_t> used;
  for (const CLI::Option* given : of.app->parse_order()) {
    const auto b = std::find_if(of.bound.begin(), of.bound.end(),
                                [given](const bound_option& candidate) { return candidate.option == given; });
    if (b == of.bound.end()) continue;
    const std::string& value = given->results().at(used[given]++);
    try {
      b->spec->set(settings, value);
    } catch (const std::invalid_argument& complaint) {
      throw usage_error{b->spec->flag() + ": " + complaint.what(), name};
    }
  }
}

void apply_positional(const bound_command& of, const positional& argument, options& settings) {
  if (argument.option->count() == 0) return;
  const std::string& value = argument.option->results().front();
  for (const bound_option& b : of.bound) {
    if (b.spec->key != argument.key) continue;
    const std::string what = argument.key == "model"         ? "model"
                             : of.which == command::compress ? "output folder"
                                                             : std::string{argument.key} + " file";
    const auto meant = of.which == command::bench ? did_you_mean(value, {"serve"}) : std::string{};
    if (b.option->count() > 0 && !meant.empty())
      throw usage_error{"unexpected argument " + in_quotes(value) + meant, name_of(of.which)};
    if (b.option->count() > 0)
      throw usage_error{"the " + what + " is named twice: " + in_quotes(value) + " and " +
                            in_quotes(b.option->results().back()),
                        name_of(of.which)};
    try {
      b.spec->set(settings, value);
    } catch (const std::invalid_argument& complaint) {
      throw usage_error{what + ": " + complaint.what(), name_of(of.which)};
    }
  }
}

options collect(const bound_command& of) {
  options settings;
  settings.what = of.which;
  for (const bound_option& b : of.bound)
    if (b.spec->key == "config" && b.option->count() > 0) {
      read_config_file(b.option->results().back(), settings);
    }
  apply_flags(of, settings);
  for (const positional& argument : of.positionals) apply_positional(of, argument, settings);
  return settings;
}

invocation run_command(const bound_command& of) {
  if (of.help->count() > 0) return {invocation::outcome::print, {}, command_help(of.which), 0};
  if (const auto extras = of.app->remaining(); !extras.empty()) refuse_extra(of, extras.front());
  invocation out{invocation::outcome::run, collect(of), {}, 0};
  if (out.settings.print_config) return {invocation::outcome::print, {}, format_config(out.settings), 0};
  if (const std::string wrong = out.settings.validate(); !wrong.empty())
    throw usage_error{wrong, name_of(of.which)};
  return out;
}

invocation interpret(const std::vector<std::string>& arguments) {
  CLI::App program;
  program.set_help_flag();
  program.allow_extras();
  program.require_subcommand(0, 1);
  const CLI::Option* help = program.add_flag("-h,--help");
  const CLI::Option* version = program.add_flag("--version");
  std::vector<bound_command> commands;
  for (const std::string& name : command_names()) commands.push_back(bind(program, *command_named(name)));

  std::vector<std::string> reversed = split_empty_values(arguments);
  // "help bench" is "bench --help".
  if (!reversed.empty() && reversed[0] == "help") {
    reversed.erase(reversed.begin());
    reversed.emplace_back("--help");
  }
  // "bench serve" is one command; a folder of that name is ./serve.
  if (reversed.size() > 1 && reversed[0] == "bench" && reversed[1] == "serve") {
    reversed.erase(reversed.begin());
    reversed[0] = name_of(command::bench_serve);
  }
  std::reverse(reversed.begin(), reversed.end());
  program.parse(reversed);

  if (help->count() > 0) return {invocation::outcome::print, {}, program_help(), 0};
  invocation out;
  out.settings.what = command::version;
  if (version->count() > 0) return out;
  if (const auto extras = program.remaining(); !extras.empty())
    throw usage_error{
        extras.front().starts_with('-')
            ? "unknown option " + in_quotes(extras.front()) + "; options follow the command"
            : "unknown command " + in_quotes(extras.front()) + did_you_mean(extras.front(), command_names()),
        ""};
  for (const bound_command& candidate : commands)
    if (candidate.app->parsed()) return run_command(candidate);
  throw usage_error{"no command given", ""};
}

invocation refusal(const std::string& what, const std::string& command_name) {
  const auto named = command_named(command_name);
  const std::string help = named ? "fastserve " + words_of(*named) + " --help" : "fastserve --help";
  return {invocation::outcome::refuse,
          {},
          "fastserve: " + what + "\nhint: " + help + " lists what there is\n",
          2};
}

/// The command that the arguments name, for the hint.
std::string command_in(const std::vector<std::string>& arguments) {
  return !arguments.empty() && command_named(arguments.front()) ? arguments.front() : std::string{};
}

/// One line, whatever a library put into its message.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

invocation read_command_line(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return {invocation::outcome::refuse, {}, program_help(), 2};
  try {
    return interpret(arguments);
  } catch (const usage_error& error) {
    return refusal(error.what(), error.command_name);
  } catch (const CLI::ArgumentMismatch& error) {
    // "--model: 1 required ..."; nothing else is ever counted.
    const std::string what = first_line(error.what());
    return refusal(what.substr(0, what.find(':')) + " needs a value", command_in(arguments));
  } catch (const std::exception& error) {
    return refusal(first_line(error.what()), command_in(arguments));
  }
}

}  // namespace fastserve::launch
