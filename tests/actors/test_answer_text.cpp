#include <boost/test/unit_test.hpp>

#include "actors/answer_text.hpp"

namespace act = fastserve::actors;
namespace mod = fastserve::model;

namespace {

const auto demo = std::filesystem::path{FASTSERVE_SOURCE_DIR} / "models" / "demo";

std::string read_through(const mod::tokenizer* with, const std::vector<std::int32_t>& ids,
                         const std::vector<std::string>& stops, bool& stopped) {
  mod::stop_params stop;
  stop.stop = stops;
  const std::vector<std::int32_t> prompt{5};
  act::answer_text text{with, prompt, stop};
  std::string out;
  for (const auto id : ids) out += text.push(id);
  out += text.flush();
  stopped = text.stopped();
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(text_equals_what_was_encoded) {
  const auto tokens = mod::load_tokenizer(demo);
  const std::string text = " there was a little girl named Zoë \U0001F600.";
  bool stopped = true;
  BOOST_TEST(read_through(tokens.get(), tokens->encode(text, false), {}, stopped) == text);
  BOOST_TEST(!stopped);
}

BOOST_AUTO_TEST_CASE(stop_strings_end_the_text_wherever_tokens_are_cut) {
  const auto tokens = mod::load_tokenizer(demo);
  bool stopped = false;
  BOOST_TEST(read_through(tokens.get(), tokens->encode(" one two three four", false), {"o three"}, stopped) ==
             " one tw");
  BOOST_TEST(stopped);
  BOOST_TEST(read_through(tokens.get(), tokens->encode(" one two thr", false), {"o three"}, stopped) ==
             " one two thr");
  BOOST_TEST(!stopped);
}

BOOST_AUTO_TEST_CASE(a_model_without_tokenizer_has_no_text) {
  bool stopped = true;
  BOOST_TEST(read_through(nullptr, {1, 2, 3}, {"x"}, stopped).empty());
  BOOST_TEST(!stopped);
}
