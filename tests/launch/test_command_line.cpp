#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <fstream>
#include <random>

#include "../support/temporary_folder.hpp"
#include "launch/command_line.hpp"
#include "launch/option_table.hpp"

using namespace fastserve::launch;
using outcome = invocation::outcome;

namespace {

invocation run(std::vector<std::string> arguments) { return read_command_line(arguments); }

/// Exactly two lines, exit code 2, and the first begins so.
void check_refused(const std::vector<std::string>& arguments, const std::string& first,
                   const std::string& hint) {
  const invocation got = read_command_line(arguments);
  BOOST_TEST_CONTEXT(got.text) {
    BOOST_TEST((got.what == outcome::refuse));
    BOOST_TEST(got.exit_code == 2);
    BOOST_TEST(std::count(got.text.begin(), got.text.end(), '\n') == 2);
    BOOST_TEST(got.text.starts_with("fastserve: " + first));
    BOOST_TEST(got.text.find("\nhint: " + hint) != std::string::npos);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(command_line)

BOOST_AUTO_TEST_CASE(prompts_keep_their_order) {
  const invocation got =
      run({"console", "--model", "m", "--prompt", "a", "--prompt-ids", "1,2", "--prompt=", "--prompt",
           "[b,c]", "--prompt", "--json", "--prompt", "-1", "--prompt=x=y", "--json"});
  BOOST_REQUIRE((got.what == outcome::run));
  const auto& prompts = got.settings.console.prompts;
  BOOST_REQUIRE(prompts.size() == 7U);
  BOOST_TEST(std::get<std::string>(prompts[0]) == "a");
  BOOST_TEST(std::get<std::vector<std::int32_t>>(prompts[1]).size() == 2U);
  BOOST_TEST(std::get<std::string>(prompts[2]) == "");
  BOOST_TEST(std::get<std::string>(prompts[3]) == "[b,c]");
  BOOST_TEST(std::get<std::string>(prompts[4]) == "--json");
  BOOST_TEST(std::get<std::string>(prompts[5]) == "-1");
  BOOST_TEST(std::get<std::string>(prompts[6]) == "x=y");
  BOOST_TEST(got.settings.console.json);
}

BOOST_AUTO_TEST_CASE(values_and_flags) {
  const invocation got = run({"console", "--model=a", "--model", "b", "--presence-penalty", "-1.5",
                              "--no-history", "--seed", "18446744073709551615", "--stop", "\n",
                              "--stop-token-ids", "1,2", "--stop-token-ids", "3", "--kv-dtype", "bf16"});
  BOOST_REQUIRE((got.what == outcome::run));
  BOOST_TEST(got.settings.model == "b");
  BOOST_TEST(got.settings.sampling.presence_penalty == -1.5F);
  BOOST_TEST(!got.settings.console.history);
  BOOST_TEST(got.settings.sampling.seed == ~std::uint64_t{0});
  BOOST_TEST(got.settings.stopping.stop.at(0) == "\n");
  BOOST_TEST(got.settings.stopping.stop_token_ids.size() == 3U);
  BOOST_TEST((got.settings.kv_cache.kv_dtype == fastserve::kernels::dtype::bf16));
  BOOST_TEST(!got.settings.engine.dtype.has_value());
}

// As in a batch's lines, see batch_fields.cpp.
BOOST_AUTO_TEST_CASE(seeds_may_be_negative) {
  BOOST_TEST(run({"console", "--model=m", "--seed", "-1"}).settings.sampling.seed == ~std::uint64_t{0});
  BOOST_TEST(run({"console", "--model=m", "--seed=-9223372036854775808"}).settings.sampling.seed ==
             std::uint64_t{1} << 63);
  check_refused({"console", "--model=m", "--seed=-9223372036854775809"}, "--seed: expected", "fastserve");
  check_refused({"console", "--model=m", "--seed", "-x"}, "--seed: expected", "fastserve");
}

BOOST_AUTO_TEST_CASE(slips_are_told_in_words) {
  check_refused({"console", "--model"}, "--model needs a value\n", "fastserve console --help");
  check_refused({"bench", "serv", "--model", "m"}, "unexpected argument 'serv' (did you mean 'serve'?)",
                "fastserve bench --help");
}

// Only lengths that were not asked for may shrink.
BOOST_AUTO_TEST_CASE(lengths_are_given_or_not) {
  const auto open = run({"bench", "--model=m", "--max-context", "100"});
  BOOST_REQUIRE((open.what == outcome::run));
  BOOST_TEST(!open.settings.bench.prompts_given);
  BOOST_TEST(!open.settings.bench.decode_given);
  const auto half = run({"bench", "serve", "--model=m", "--prompt-tokens", "512", "--decode-tokens=auto"});
  BOOST_TEST(half.settings.load.prompts_given);
  BOOST_TEST(!half.settings.load.decode_given);
  BOOST_TEST(half.settings.load.decode_tokens == 128);
  check_refused({"bench", "--model=m", "--max-context=100", "--prompt-tokens=512", "--decode-tokens=128"},
                "--prompt-tokens 512 and --decode-tokens 128 together exceed", "fastserve bench --help");
}

BOOST_AUTO_TEST_CASE(weights_may_be_rounded) {
  const auto plain = run({"bench", "--model=a"}).settings.engine;
  BOOST_TEST(plain.quantize == "none");
  BOOST_TEST(plain.quantize_group == -1);
  const auto got =
      run({"batch", "--model=a", "--input=b", "--output=c", "--quantize", "int4", "--quantize-group", "row"})
          .settings.engine;
  BOOST_TEST(got.quantize == "int4");
  BOOST_TEST(got.quantize_group == 0);
  BOOST_TEST(run({"bench", "--model=a", "--quantize=int8"}).settings.engine.quantize == "int8");
  BOOST_TEST(run({"bench", "--model=a", "--quantize=fp8", "--quantize-group=row"}).settings.engine.quantize ==
             "fp8");
  check_refused({"bench", "--model=a", "--quantize=fp8", "--quantize-group=128"},
                "--quantize-group 128: fp8 has one scale a row", "fastserve bench --help");
  for (const std::string bad :
       {"--quantize=int3", "--quantize=8", "--quantize-group=48", "--quantize-group=0"})
    BOOST_CHECK((run({"bench", "--model=a", bad}).what == outcome::refuse));
}

BOOST_AUTO_TEST_CASE(a_folder_may_stand_alone) {
  BOOST_TEST(run({"inspect", "console"}).settings.model == "console");
  BOOST_TEST((run({"inspect", "console"}).settings.what == command::inspect));
  BOOST_TEST(run({"console", "DIR", "--temperature", "0"}).settings.model == "DIR");
  check_refused({"console", "DIR", "--model", "x"}, "the model is named twice: 'DIR' and 'x'",
                "fastserve console --help");
}

BOOST_AUTO_TEST_CASE(bench_takes_several_lengths) {
  const auto one = run({"bench", "--model", "m", "--batch", "8"}).settings.bench;
  BOOST_TEST(one.batch == std::vector<std::int32_t>{8}, boost::test_tools::per_element());
  BOOST_TEST(one.prompt_tokens == std::vector<std::int32_t>{512}, boost::test_tools::per_element());
  const auto some =
      run({"bench", "--model", "m", "--batch=1,8,32", "--prompt-tokens", "512,2048"}).settings.bench;
  BOOST_TEST(some.batch == (std::vector<std::int32_t>{1, 8, 32}), boost::test_tools::per_element());
  BOOST_TEST(some.prompt_tokens == (std::vector<std::int32_t>{512, 2048}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_batch_has_two_files) {
  const invocation got = run({"batch", "in", "--grace", "5", "out", "--model", "m", "--overwrite"});
  BOOST_REQUIRE((got.what == outcome::run));
  BOOST_TEST(got.settings.batch.input == "in");
  BOOST_TEST(got.settings.batch.output == "out");
  BOOST_TEST(got.settings.batch.grace_s == 5);
  BOOST_TEST(got.settings.batch.overwrite);
  check_refused({"batch", "in", "--model", "m"}, "a batch needs two files", "fastserve batch --help");
  check_refused({"batch", "in", "out"}, "no model given", "fastserve batch --help");
  check_refused({"batch", "a", "b", "c", "--model", "m"}, "unexpected argument 'c'\n",
                "fastserve batch --help");
  check_refused({"batch", "a", "b", "--model", "m", "--output", "c"},
                "the output file is named twice: 'b' and 'c'\n", "fastserve batch --help");
  check_refused({"batch", "", "b", "--model", "m"}, "input file: expected a path, found nothing\n",
                "fastserve batch --help");
}

BOOST_AUTO_TEST_CASE(version_and_help) {
  BOOST_TEST((run({"--version"}).settings.what == command::version));
  BOOST_TEST((run({"version"}).settings.what == command::version));
  BOOST_TEST((run({"version"}).what == outcome::run));
  BOOST_TEST((run({"--help"}).what == outcome::print));
  for (const char* name : {"console", "batch", "bench", "inspect", "version"}) {
    const invocation got = run({name, "--help"});
    BOOST_TEST((got.what == outcome::print));
    BOOST_TEST(got.exit_code == 0);
    BOOST_TEST(got.text.find(std::string{"fastserve "} + name) != std::string::npos);
    BOOST_TEST(run({name, "--nonsense", "-h"}).text == got.text);
    BOOST_TEST(run({"help", name}).text == got.text);
  }
  const auto list = run({"--help"}).text;
  BOOST_TEST(run({"help"}).text == list);
  BOOST_TEST(list.find("\n  bench serve  ") != std::string::npos);
  BOOST_TEST(run({"help", "bench", "serve"}).text == run({"bench", "serve", "--help"}).text);
  // Without a command: what there is, to stderr, and the code of a refusal.
  const invocation nothing = run({});
  BOOST_TEST((nothing.what == outcome::refuse));
  BOOST_TEST(nothing.exit_code == 2);
  BOOST_TEST(nothing.text == list);
}

BOOST_AUTO_TEST_CASE(refusals_are_one_line_and_a_hint) {
  check_refused({"consle"}, "unknown command 'consle' (did you mean 'console'?)\n", "fastserve --help");
  check_refused({"--model", "x"}, "unknown option '--model'; options follow the command\n",
                "fastserve --help");
  check_refused({"console"}, "no model given", "fastserve console --help");
  check_refused({"console", "--temprature", "1"},
                "unknown option '--temprature' (did you mean '--temperature'?)\n",
                "fastserve console --help");
  check_refused({"bench", "--model", "m", "--prompt", "x"},
                "--prompt is an option of console, not of bench\n", "fastserve bench --help");
  check_refused({"bench", "serve", "--model", "m", "--grace", "3"},
                "--grace is an option of batch, not of bench serve\n", "fastserve bench serve --help");
  check_refused({"bench", "--model", "m", "--rates", "3"},
                "--rates is an option of bench serve, not of bench\n", "fastserve bench --help");
  check_refused({"console", "a", "b"}, "unexpected argument 'b'\n", "fastserve console --help");
  check_refused({"console", "--model"}, "--model", "fastserve console --help");
  check_refused({"console", "--model", "m", "--temperature", "hot"},
                "--temperature: expected a number from 0 to 1000, found 'hot'\n", "fastserve console --help");
  check_refused({"console", "--model", "m", "--top-p", "0"},
                "--top-p: expected a number above 0, up to 1, found '0'\n", "fastserve console --help");
  check_refused({"console", "--model", "m", "--dtype", "f64"},
                "--dtype: expected auto, f32, bf16 or f16, found 'f64'\n", "fastserve console --help");
  check_refused({"console", "--model", "m", "--json=perhaps"}, "", "fastserve console --help");
  check_refused({"bench"}, "nothing to measure", "fastserve bench --help");
  check_refused({"bench", "--model", "m", "--batch", "1,,8"},
                "--batch: expected an integer from 1 to 65536, found nothing", "fastserve bench --help");
  check_refused({"bench", "--model", "m", "--random-weights", "c"}, "--model and --random-weights exclude",
                "fastserve bench --help");
  check_refused(
      {"bench", "--model", "m", "--max-context", "10", "--prompt-tokens", "8", "--decode-tokens", "3"},
      "--prompt-tokens 8 and --decode-tokens 3 together exceed --max-context 10", "fastserve bench --help");
  check_refused({"console", "--model", "m", "--config", "/no/such.yaml"},
                "configuration file '/no/such.yaml' does not exist", "fastserve console --help");
  check_refused({"console", "--model", "m", "--config", "/"}, "/: is a folder", "fastserve console --help");
}

BOOST_AUTO_TEST_CASE(flags_win_over_the_file_and_it_over_the_defaults) {
  const temporary_folder folder;
  const std::string path = folder.write("c.yaml",
                                        "model: from-file\nsampling:\n  temperature: 0.5\n  top_k: 9\n"
                                        "console:\n  prompt: [one, two]\nstopping:\n  stop: [x, y]\n");
  const invocation file_only = run({"console", "--config", path});
  BOOST_REQUIRE((file_only.what == outcome::run));
  BOOST_TEST(file_only.settings.model == "from-file");
  BOOST_TEST(file_only.settings.sampling.temperature == 0.5F);
  BOOST_TEST(file_only.settings.sampling.top_k == 9);
  BOOST_TEST(file_only.settings.sampling.top_p == 1.0F);
  BOOST_TEST(file_only.settings.console.prompts.size() == 2U);
  BOOST_TEST(file_only.settings.config == path);

  // The file comes first wherever --config stands.
  const invocation both = run({"console", "--temperature", "0", "--prompt-ids", "5", "--model", "flag",
                               "--config", path, "--stop", "z"});
  BOOST_REQUIRE((both.what == outcome::run));
  BOOST_TEST(both.settings.model == "flag");
  BOOST_TEST(both.settings.sampling.temperature == 0.0F);
  BOOST_TEST(both.settings.sampling.top_k == 9);
  BOOST_TEST(both.settings.console.prompts.size() == 1U);
  BOOST_TEST(both.settings.stopping.stop.size() == 1U);

  const invocation printed = run({"console", "--config", path, "--top-k", "3", "--print-config"});
  BOOST_TEST((printed.what == outcome::print));
  BOOST_TEST(printed.text.find("  top_k: 3\n") != std::string::npos);
  BOOST_TEST(printed.text.find("model: \"from-file\"\n") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_bad_file_is_named_with_its_line) {
  const temporary_folder folder;
  const std::string path = folder.write("bad.yaml", "scheduler:\n  max_bach: 3\n");
  check_refused({"console", "--model", "m", "--config", path},
                path + ":2: unknown key 'max_bach' in 'scheduler' (did you mean 'max_batch'?)\n",
                "fastserve console --help");
}

BOOST_AUTO_TEST_CASE(random_arguments_never_crash) {
  std::mt19937 random{7};
  std::vector<std::string> words{"console", "bench",    "inspect",  "version",   "--",       "-",
                                 "",        "-h",       "--help",   "--version", "--config", "/dev/null",
                                 "=",       "--=",      "--model=", "[1,2]",     "-x",       "---",
                                 "/x",      "\xff\xfe", "%%",       "{}",        "++"};
  for (const option_spec& spec : option_table()) {
    words.push_back(spec.flag());
    words.push_back("--no-" + spec.flag().substr(2));
    words.push_back(spec.flag() + "=1");
  }
  std::size_t runs = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> arguments;
    if (random() % 4 != 0) arguments.emplace_back("console");
    const std::size_t count = random() % 8;
    for (std::size_t i = 0; i < count; ++i) {
      std::string word = words[random() % words.size()];
      if (random() % 3 == 0) {
        word.clear();
        for (std::size_t n = random() % 12; n > 0; --n) word += static_cast<char>(1 + random() % 255);
      }
      arguments.push_back(word);
    }
    const invocation got = read_command_line(arguments);
    runs += got.what == outcome::run ? 1 : 0;
    if (got.what == outcome::refuse) {
      BOOST_REQUIRE(got.exit_code == 2);
      BOOST_REQUIRE(arguments.empty() || std::count(got.text.begin(), got.text.end(), '\n') == 2);
    }
  }
  BOOST_TEST(runs > 0U);  // the words do make whole command lines now and then
}

BOOST_AUTO_TEST_SUITE_END()
