#include <boost/test/unit_test.hpp>
#include <map>
#include <set>
#include <stdexcept>

#include "launch/command_line.hpp"
#include "launch/config_file.hpp"
#include "launch/help_text.hpp"
#include "launch/option_table.hpp"

using namespace fastserve::launch;

namespace {

/// A usable value of each setting that is not its default.
std::string other_value(const option_spec& spec) {
  static const std::map<std::string_view, std::string> values{{"model", "some/folder"},
                                                              {"log_level", "debug"},
                                                              {"dtype", "bf16"},
                                                              {"quantize", "int4"},
                                                              {"quantize_group", "64"},
                                                              {"max_context", "7777"},
                                                              {"kv_dtype", "f16"},
                                                              {"temperature", "0.25"},
                                                              {"top_p", "0.5"},
                                                              {"min_p", "0.125"},
                                                              {"repetition_penalty", "1.5"},
                                                              {"presence_penalty", "-0.5"},
                                                              {"frequency_penalty", "0.5"},
                                                              {"stop", "END"},
                                                              {"stop_token_ids", "2,7"},
                                                              {"prompt", "hello"},
                                                              {"prompt_ids", "1,2,3"},
                                                              {"random_weights", "config.json"},
                                                              {"swap_dir", "/tmp"},
                                                              {"policy", "srpt"},
                                                              {"spares", "cold"},
                                                              {"goal", "latency"},
                                                              {"speeds", "equal"},
                                                              {"device", "cpu"},
                                                              {"link", "host"},
                                                              {"standby", "off"},
                                                              {"deadline_ms", "2000"},
                                                              {"fence_ms", "7000"},
                                                              {"compare", "fcfs,srpt"},
                                                              {"rates", "2,4.5"},
                                                              {"goodput", "ttft:500,tpot:50"},
                                                              {"arrivals", "gamma"},
                                                              {"format", "int4"},
                                                              {"group", "64"},
                                                              {"prune", "2:4"}};
  if (spec.section == "plan" && spec.key == "spares") return "7";  // a number there, hot or cold elsewhere
  const auto found = values.find(spec.key);
  if (found != values.end()) return found->second;
  if (spec.form == option_spec::shape::flag) return spec.get(options{}).front() == "true" ? "false" : "true";
  return "7";
}

std::string yaml_of(const option_spec& spec, const std::string& value) {
  const std::string text = spec.id_list ? "[" + value + "]" : value;
  const std::string line = std::string{spec.key} + ": " + text + "\n";
  return spec.section.empty() ? line : std::string{spec.section} + ":\n  " + line;
}

std::vector<std::string> flags_of(const option_spec& spec, const std::string& value) {
  if (spec.form != option_spec::shape::flag) return {spec.flag(), value};
  return {value == "true" ? spec.flag() : "--no-" + spec.flag().substr(2)};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(option_table_suite)

BOOST_AUTO_TEST_CASE(names_are_unique) {
  std::set<std::string> keys;
  std::set<std::string> flags;
  for (const option_spec& spec : option_table()) {
    BOOST_TEST(keys.insert(std::string{spec.section} + "." + std::string{spec.key}).second);
    for (const command which : spec.commands)
      BOOST_TEST(flags.insert(std::string{name_of(which)} + spec.flag()).second);
    BOOST_TEST(!spec.doc.empty());
    BOOST_TEST(!spec.commands.empty());
    BOOST_TEST((spec.form == option_spec::shape::list) == static_cast<bool>(spec.clear));
  }
}

BOOST_AUTO_TEST_CASE(every_option_is_settable_on_the_command_line) {
  for (const option_spec& spec : option_table()) {
    if (spec.key == "config" || spec.key == "print_config") continue;
    const std::string value = other_value(spec);
    for (const command which : spec.commands) {
      std::vector<std::string> arguments{std::string{name_of(which)}};
      if (spec.key != "model" && spec.key != "random_weights" && which != command::simulate) {
        arguments.emplace_back("--model");
        arguments.emplace_back("m");
      }
      if (spec.key == "swap_disk") arguments.insert(arguments.end(), {"--swap-dir", "/tmp"});
      // A batch needs both of its files.
      if (which == command::batch)
        for (const char* file : {"input", "output"})
          if (spec.key != file)
            for (const std::string& part : {std::string{"--"} + file, std::string{"f"}})
              arguments.push_back(part);
      if (which == command::plan && spec.key != "cluster" && spec.key != "measure")
        for (const auto* given : {"--cluster", "c.yaml"}) arguments.emplace_back(given);
      if (which == command::compress)
        for (const auto* given : {"--output", "out", "--format", "int8"}) arguments.emplace_back(given);
      for (const std::string& part : flags_of(spec, value)) arguments.push_back(part);
      const invocation got = read_command_line(arguments);
      BOOST_TEST_CONTEXT(spec.flag() << " of " << name_of(which) << ": " << got.text) {
        BOOST_REQUIRE(got.what == invocation::outcome::run);
        BOOST_REQUIRE(spec.get(got.settings).size() == 1U);
        BOOST_TEST(spec.get(got.settings).front() == value);
        BOOST_TEST((spec.get(options{}) != spec.get(got.settings)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(every_option_is_settable_in_yaml) {
  for (const option_spec& spec : option_table()) {
    if (!spec.in_yaml) continue;
    const std::string value = other_value(spec);
    options settings;
    BOOST_TEST_CONTEXT(yaml_of(spec, value)) {
      BOOST_REQUIRE_NO_THROW(read_config_text(yaml_of(spec, value), "x.yaml", settings));
      BOOST_REQUIRE(spec.get(settings).size() == 1U);
      BOOST_TEST(spec.get(settings).front() == value);
    }
  }
}

BOOST_AUTO_TEST_CASE(help_shows_every_option) {
  for (const option_spec& spec : option_table())
    for (const command which : spec.commands) {
      const std::string help = command_help(which);
      const std::string bare = spec.flag().substr(2);
      BOOST_TEST_CONTEXT(help << spec.flag()) {
        BOOST_TEST((help.find("  --" + bare) != std::string::npos ||
                    help.find("  --no-" + bare) != std::string::npos));
      }
      for (std::size_t at = 0; at < help.size();) {
        const std::size_t end = std::min(help.find('\n', at), help.size());
        BOOST_TEST(end - at <= 100U);
        at = end + 1;
      }
    }
}

BOOST_AUTO_TEST_CASE(settings_survive_a_round_trip_through_yaml) {
  options settings;
  for (const option_spec& spec : option_table())
    if (spec.in_yaml) spec.set(settings, other_value(spec));
  settings.stopping.stop.emplace_back("a \"b\" \\ \n\t\x01 \u65e5 # : - [x]");
  settings.console.prompts.emplace_back(std::string{});
  settings.model = "- odd: 'name'";
  options back;
  read_config_text(format_config(settings), "round.yaml", back);
  for (const option_spec& spec : option_table())
    if (spec.in_yaml) BOOST_TEST(spec.get(settings) == spec.get(back), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_the_table_takes_the_sampler_takes) {
  const std::vector<std::string> values{"0",     "1",    "0.5",  "-1",   "-1000", "1000",  "1001",
                                        "-1001", "1e-9", "2000", "0.01", "100",   "65536", "2147483647"};
  std::size_t taken = 0;
  for (const option_spec& spec : option_table()) {
    if (spec.section != "sampling") continue;
    for (const std::string& value : values) {
      options settings;
      try {
        spec.set(settings, value);
      } catch (const std::invalid_argument&) {
        continue;
      }
      BOOST_TEST(settings.sampling.validate() == "");
      ++taken;
    }
  }
  BOOST_TEST(taken > 30U);
}

BOOST_AUTO_TEST_CASE(validate_finds_values_set_from_code) {
  options settings;
  settings.model = "m";
  BOOST_TEST(settings.validate() == "");
  settings.sampling.top_p = 0.0F;
  BOOST_TEST(settings.validate() == "top_p: expected a number above 0, up to 1, found '0'");
  settings.sampling.top_p = 1.0F;
  settings.scheduler.max_batch = 0;
  BOOST_TEST(settings.validate().starts_with("max_batch: expected an integer from 1"));
  settings.scheduler.max_batch = 1;
  settings.kv_cache.swap_disk = 1;
  BOOST_TEST(settings.validate() == "--swap-disk needs a folder: name one with --swap-dir DIR");
  settings.kv_cache.swap_dir = "/tmp";
  settings.model.clear();
  BOOST_TEST(settings.validate() == "no model given: name a folder or a GGUF file with --model");
}

BOOST_AUTO_TEST_SUITE_END()
