#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <random>
#include <stdexcept>

#include "../support/temporary_folder.hpp"
#include "launch/config_file.hpp"
#include "launch/text_file.hpp"
#include "refusal.hpp"

using namespace fastserve::launch;

namespace {

options read(std::string_view text) {
  options settings;
  read_config_text(text, "x.yaml", settings);
  return settings;
}

void check_refused(std::string_view text, const std::string& message) {
  check_refused_by(read, text, message);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(config_file)

BOOST_AUTO_TEST_CASE(values_of_every_shape) {
  const options got = read(
      "# comment\n"
      "model: models/demo\n"
      "engine: {dtype: bf16, threads: 3}\n"
      "sampling:\n"
      "  temperature: 0\n"
      "stopping:\n"
      "  stop: END\n"
      "  stop_token_ids: [1, 2]\n"
      "console:\n"
      "  prompt: [\"\", 'two', three]\n"
      "  prompt_ids: [[1, 2], \"3,4\", 5]\n"
      "  json: yes\n");
  BOOST_TEST(got.model == "models/demo");
  BOOST_TEST(got.engine.threads == 3);
  BOOST_TEST(got.sampling.temperature == 0.0F);
  BOOST_TEST(got.stopping.stop.size() == 1U);
  BOOST_TEST(got.stopping.stop_token_ids.size() == 2U);
  BOOST_REQUIRE(got.console.prompts.size() == 6U);
  BOOST_TEST(std::get<std::string>(got.console.prompts[0]) == "");
  BOOST_TEST(std::get<std::vector<std::int32_t>>(got.console.prompts[4]).at(1) == 4);
  BOOST_TEST(got.console.json);
}

BOOST_AUTO_TEST_CASE(nothing_is_fine) {
  for (const char* text : {"", "# only a comment\n", "---\n", "sampling:\n", "\xef\xbb\xbfmodel: x\n"})
    BOOST_CHECK_NO_THROW(read(text));
}

BOOST_AUTO_TEST_CASE(refusals_name_line_and_key) {
  check_refused("a: 1\n", "x.yaml:1: unknown key 'a'");
  check_refused("model: m\nsheduler:\n  max_batch: 2\n",
                "x.yaml:2: unknown key 'sheduler' (did you mean 'scheduler'?)");
  check_refused("scheduler:\n  # x\n  max_bach: 2\n",
                "x.yaml:3: unknown key 'max_bach' in 'scheduler' (did you mean 'max_batch'?)");
  check_refused("temperature: 1\n", "x.yaml:1: unknown key 'temperature' (it belongs in 'sampling')");
  check_refused("sampling:\n  model: x\n",
                "x.yaml:2: unknown key 'model' in 'sampling' (it belongs at the top level)");
  check_refused("sampling:\n  seed: 1\n  top_k: 2\n  seed: 3\n",
                "x.yaml:4: key 'seed' in 'sampling' is given twice");
  check_refused("model: a\nmodel: b\n", "x.yaml:2: key 'model' is given twice");
  check_refused("engine:\n  threads: many\n",
                "x.yaml:2: threads: expected an integer from 0 to 4096, found 'many'");
  check_refused("engine:\n  threads: 1.5\n", "x.yaml:2: threads: expected an integer");
  check_refused("engine:\n  threads: '2'\n", "x.yaml:2: threads: expected a number, found the text '2'");
  check_refused("engine:\n  threads: [2]\n", "x.yaml:2: threads: expected a value, found a list");
  check_refused("engine:\n  threads: {a: 2}\n", "x.yaml:2: threads: expected a value, found a section");
  check_refused("engine:\n  threads:\n", "x.yaml:2: threads: expected a value, found nothing");
  check_refused("engine:\n  threads: -1\n", "x.yaml:2: threads: expected an integer from 0");
  check_refused("sampling:\n  top_p: 2\n", "x.yaml:2: top_p: expected a number above 0, up to 1, found '2'");
  check_refused("sampling:\n  top_p: .nan\n", "x.yaml:2: top_p: expected a number");
  check_refused("console:\n  json: maybe\n", "x.yaml:2: json: expected true or false, found 'maybe'");
  check_refused("console:\n  json: 'true'\n",
                "x.yaml:2: json: expected true or false, found the text 'true'");
  check_refused("console:\n  prompt_ids: [a]\n", "x.yaml:2: prompt_ids: expected token ids");
  check_refused("console:\n  prompt: [[a]]\n", "x.yaml:2: prompt: expected a value, found a list");
  check_refused("engine: 5\n", "x.yaml:1: expected keys under 'engine', found '5'");
  check_refused("- a\n- b\n", "x.yaml:1: expected sections and keys, found a list");
  check_refused("hello\n", "x.yaml:1: expected sections and keys, found 'hello'");
  check_refused("model: a\nengine: [\n", "x.yaml:");
  check_refused("[a, b]: c\n", "x.yaml:1: expected a key, found a list");
}

BOOST_AUTO_TEST_CASE(hostile_documents_are_refused) {
  check_refused("model: &a x\n", "x.yaml:1: anchors are not supported");
  check_refused("a: &a [x]\nb: [*a, *a]\n", "x.yaml:1: anchors are not supported");
  check_refused("model: !!binary aGk=\n", "x.yaml:1: tags are not supported");
  check_refused("model: !thing x\n", "x.yaml:1: tags are not supported");
  check_refused("model: a\n---\nmodel: b\n", "x.yaml: more than one document");
  check_refused(std::string(500000, '['), "x.yaml:1: nested too deeply");
  check_refused("a: " + std::string(500000, '{'), "x.yaml:1: nested too deeply");
  std::string dashes;
  for (int i = 0; i < 100000; ++i) dashes += "- ";
  check_refused(dashes, "x.yaml:1: nested too deeply");
  std::string wide = "stopping:\n  stop: [";
  for (int i = 0; i < 200000; ++i) wide += "a,";
  wide += "b]\n";
  check_refused(wide, "x.yaml:2: more than 100000 values");
}

BOOST_AUTO_TEST_CASE(files_are_bounded) {
  const temporary_folder folder;
  options settings;
  const std::string big = folder.write("big.yaml", "# " + std::string(1U << 20U, 'x'));
  BOOST_CHECK_THROW(read_config_file(big, settings), std::runtime_error);
  BOOST_CHECK_THROW(read_config_file("/dev/zero", settings), std::runtime_error);
  BOOST_CHECK_THROW(read_config_file("", settings), std::runtime_error);
  BOOST_CHECK_NO_THROW(read_config_file("/dev/null", settings));
}

BOOST_AUTO_TEST_CASE(a_text_file_or_one_line_why_not) {
  const temporary_folder folder;
  const auto why_not = [](const std::string& path, std::size_t most) -> std::string {
    try {
      return "read: " + read_text_file(path, "recipe", most);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
  };
  const std::string file = folder.write("file", "abc");
  BOOST_TEST(why_not(file, 3) == "read: abc");
  BOOST_TEST(why_not(file, 2) == file + ": larger than 2 bytes");
  BOOST_TEST(why_not("", 3) == "recipe '' does not exist or cannot be read");
  BOOST_TEST(why_not(file + "s", 3) == "recipe '" + file + "s' does not exist or cannot be read");
  BOOST_TEST(why_not(folder.path(), 3) == folder.path().string() + ": is a folder, not a recipe");
}

BOOST_AUTO_TEST_CASE(several_values_are_a_sequence_or_one_text) {
  for (const char* text : {"load:\n  rates: [1, 2.5, 8]\n", "load:\n  rates: 1,2.5,8\n"})
    BOOST_TEST(read(text).load.rates == (std::vector<float>{1.0F, 2.5F, 8.0F}),
               boost::test_tools::per_element());
  BOOST_TEST(read("load:\n  rates: 4\n").load.rates == std::vector<float>{4.0F},
             boost::test_tools::per_element());
  BOOST_TEST(
      read("load: {compare: [fcfs, srpt]}\n").load.compare == (std::vector<std::string>{"fcfs", "srpt"}),
      boost::test_tools::per_element());
  check_refused("load:\n  rates: [1, x]\n", "x.yaml:2: rates: expected a number above 0");
  check_refused("load:\n  rates: []\n", "x.yaml:2: rates: expected a list such as [1, 2, 3]");
  check_refused("load:\n  rates: 1,\n", "x.yaml:2: rates: expected a number above 0");
  check_refused("load:\n  rates: ''\n", "x.yaml:2: rates: expected a number above 0");
}

BOOST_AUTO_TEST_CASE(committed_examples_are_read) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator{FASTSERVE_SOURCE_DIR "/configs"}) {
    // A cluster's description is no settings: tests/engine plans for it.
    if (entry.path().extension() != ".yaml" || entry.path().stem() == "cluster-example") continue;
    options settings;
    BOOST_TEST_CONTEXT(entry.path()) {
      BOOST_CHECK_NO_THROW(read_config_file(entry.path().string(), settings));
    }
    BOOST_TEST(settings.validate() == "");
    ++count;
  }
  BOOST_TEST(count >= 2);
}

BOOST_AUTO_TEST_CASE(random_text_never_crashes) {
  std::mt19937 random{11};
  const std::string seed_text =
      "model: m\nengine: {dtype: bf16, threads: 3}\nsampling:\n  temperature: 0.5\nstopping:\n"
      "  stop: [a, \"b\\n\", 'c']\n  stop_token_ids: [1, 2]\nconsole:\n  prompt: |\n    text\n  json: yes\n";
  const std::string_view alphabet = "{}[]:,-?&*!|>'\"%@` \n\t#~<=abc01\\\xff\xc3\x28";
  std::size_t accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = seed_text;
    for (std::size_t edits = 1 + random() % 6; edits > 0; --edits) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          text.insert(at, 1, alphabet[random() % alphabet.size()]);
          break;
        case 2:
          text.erase(at, 1 + random() % 9);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 20));
          break;
      }
      if (text.empty()) text.push_back('a');
    }
    try {
      read(text);
      ++accepted;
    } catch (const std::runtime_error& error) {
      BOOST_REQUIRE(std::string_view{error.what()}.starts_with("x.yaml"));
      BOOST_REQUIRE(std::string_view{error.what()}.find('\n') == std::string_view::npos);
    }
  }
  BOOST_TEST(accepted > 0U);
}

BOOST_AUTO_TEST_SUITE_END()
