#include <boost/test/unit_test.hpp>
#include <random>

#include "launch/console_commands.hpp"
#include "launch/option_table.hpp"

using namespace fastserve::launch;
using kind = console_input::kind;

namespace {

std::string set(const std::string& line, options& settings) {
  const console_input input = parse_console_line(line);
  BOOST_REQUIRE((input.what == kind::set));
  return run_set(input, settings);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(console_commands)

BOOST_AUTO_TEST_CASE(lines_are_understood) {
  BOOST_TEST((parse_console_line("").what == kind::nothing));
  BOOST_TEST((parse_console_line("  \n\t").what == kind::nothing));
  BOOST_TEST((parse_console_line("hello /help").what == kind::prompt));
  BOOST_TEST(parse_console_line("  two\nlines ").text == "  two\nlines ");
  BOOST_TEST((parse_console_line("//etc/passwd").what == kind::prompt));
  BOOST_TEST(parse_console_line("//etc").text == "/etc");
  BOOST_TEST((parse_console_line(" /help ").what == kind::help));
  BOOST_TEST((parse_console_line("/stats").what == kind::stats));
  BOOST_TEST((parse_console_line("/quit").what == kind::quit));
  BOOST_TEST((parse_console_line("/exit").what == kind::quit));
  const console_input input = parse_console_line("/set  stop   \"a b\" ");
  BOOST_TEST((input.what == kind::set));
  BOOST_TEST(input.key == "stop");
  BOOST_TEST(input.value == "\"a b\"");
  const console_input unknown = parse_console_line("/hlep");
  BOOST_TEST((unknown.what == kind::unknown));
  BOOST_TEST(unknown.text.starts_with("unknown command '/hlep' (did you mean '/help'?)"));
}

BOOST_AUTO_TEST_CASE(help_names_every_command) {
  for (const char* name : {"/help", "/stats", "/set", "/quit", "Ctrl-C"})
    BOOST_TEST(console_help().find(name) != std::string::npos);
}

BOOST_AUTO_TEST_CASE(set_changes_and_shows) {
  options settings;
  BOOST_TEST(set("/set temperature 0.5", settings) == "temperature  0.5\n");
  BOOST_TEST(settings.sampling.temperature == 0.5F);
  BOOST_TEST(set("/set temperature", settings) == "temperature  0.5\n");
  BOOST_TEST(set("/set --top-k 5", settings) == "top_k  5\n");
  BOOST_TEST(set("/set ignore_eos on", settings) == "ignore_eos  true\n");
  BOOST_TEST(set("/set stop \"a\\n b\"", settings) == "stop  'a\\n b'\n");
  BOOST_TEST(settings.stopping.stop.at(0) == "a\n b");
  // Without quotes they mean the same, and a backslash is told from a newline.
  BOOST_TEST(set("/set stop \\n", settings) == "stop  '\\n'\n");
  BOOST_TEST(settings.stopping.stop.at(0) == "\n");
  BOOST_TEST(set("/set stop a\\tb\\\\n", settings) == "stop  'a\\tb\\\\n'\n");
  BOOST_TEST(settings.stopping.stop.at(0) == "a\tb\\n");
  BOOST_TEST(set("/set stop END", settings) == "stop  'END'\n");
  BOOST_TEST(settings.stopping.stop.size() == 1U);
  BOOST_TEST(set("/set stop none", settings) == "stop  none\n");
  BOOST_TEST(settings.stopping.stop.empty());
  const std::string all = set("/set", settings);
  for (const option_spec* spec : live_options()) BOOST_TEST(all.find(spec->key) != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_refused_value_changes_nothing) {
  options settings;
  settings.stopping.stop = {"keep"};
  BOOST_TEST(set("/set top_p 2", settings) == "top_p: expected a number above 0, up to 1, found '2'\n");
  BOOST_TEST(settings.sampling.top_p == 1.0F);
  BOOST_TEST(set("/set stop ''", settings) == "stop: expected a text to stop at, found nothing\n");
  BOOST_TEST(settings.stopping.stop.size() == 1U);
  BOOST_TEST(set("/set temprature 1", settings)
                 .starts_with("no setting 'temprature' (did you mean 'temperature'?)"));
  BOOST_TEST(set("/set model x", settings).starts_with("no setting 'model'"));
}

BOOST_AUTO_TEST_CASE(every_live_option_can_be_set_to_what_it_shows) {
  options settings;
  for (const option_spec* spec : live_options()) {
    const auto values = spec->get(settings);
    const std::string value = values.empty() ? "none" : values.front();
    const options before = settings;
    std::string line{"/set "};
    line.append(spec->key).append(" ").append(value);
    set(line, settings);
    BOOST_TEST(spec->get(settings) == spec->get(before), boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(random_lines_never_crash) {
  std::mt19937 random{3};
  options settings;
  settings.model = "m";
  for (int round = 0; round < 20000; ++round) {
    std::string line(1, '/');
    if (random() % 2 == 0) line.append("set ");
    if (random() % 2 == 0) {
      line.append(live_options()[random() % live_options().size()]->key);
      line.push_back(' ');
    }
    for (std::size_t n = random() % 10; n > 0; --n) line += static_cast<char>(random() % 256);
    const console_input input = parse_console_line(line);
    if (input.what == kind::set) run_set(input, settings);
    BOOST_REQUIRE(settings.validate() == "");
  }
}

BOOST_AUTO_TEST_SUITE_END()
