#include <boost/test/unit_test.hpp>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "launch/json_line.hpp"
#include "launch/utf8_text.hpp"

using namespace fastserve::launch;

BOOST_AUTO_TEST_SUITE(json_line)

BOOST_AUTO_TEST_CASE(the_line_holds_everything) {
  answer_record answer;
  answer.index = 2;
  answer.text = "a \"b\"\n";
  answer.token_ids = {5, 6, 7};
  answer.finish_reason = "stop";
  answer.prompt_tokens = 4;
  answer.queue_ms = 0.5;
  answer.ttft_ms = 10.0;
  answer.total_ms = 30.0;
  BOOST_TEST(
      format_answer(answer) ==
      R"({"index":2,"text":"a \"b\"\n","token_ids":[5,6,7],"finish_reason":"stop",)"
      R"("usage":{"prompt_tokens":4,"completion_tokens":3,"total_tokens":7},)"
      R"("timings":{"queue_ms":0.5,"ttft_ms":10.0,"tpot_ms":10.0,"total_ms":30.0,"tokens_per_s":100.0}})");
}

BOOST_AUTO_TEST_CASE(logprobs_when_asked_for) {
  answer_record answer;
  answer.token_ids = {1};
  answer.logprobs = {{1, -0.5F, {{1, -0.5F}, {9, -std::numeric_limits<float>::infinity()}}}};
  answer.token_texts = {"\xff"};
  const auto line = nlohmann::json::parse(format_answer(answer));
  BOOST_TEST(line["logprobs"][0]["token"] == 1);
  BOOST_TEST(line["logprobs"][0]["logprob"] == -0.5);
  BOOST_TEST(line["logprobs"][0]["text"] == "\ufffd");
  BOOST_TEST(line["logprobs"][0]["top"][1]["token"] == 9);
  BOOST_TEST(line["logprobs"][0]["top"][1]["logprob"].is_null());
  BOOST_TEST(line["timings"]["tpot_ms"].is_null());
  BOOST_TEST(line["timings"]["tokens_per_s"].is_null());
}

BOOST_AUTO_TEST_CASE(any_bytes_give_one_valid_line) {
  std::mt19937 random{29};
  for (int round = 0; round < 5000; ++round) {
    answer_record answer;
    for (std::size_t n = random() % 40; n > 0; --n) answer.text += static_cast<char>(random() % 256);
    const std::string line = format_answer(answer);
    BOOST_REQUIRE(line.find('\n') == std::string::npos);
    BOOST_REQUIRE(repaired_utf8(line) == line);
    BOOST_REQUIRE(nlohmann::json::accept(line));
  }
}

BOOST_AUTO_TEST_CASE(an_error_has_its_reason) {
  answer_record answer;
  answer.finish_reason = "error";
  BOOST_TEST(!nlohmann::json::parse(format_answer(answer)).contains("error"));
  answer.error = "the prompt is too long";
  BOOST_TEST(nlohmann::json::parse(format_answer(answer))["error"]["message"] == "the prompt is too long");
}

BOOST_AUTO_TEST_SUITE_END()
