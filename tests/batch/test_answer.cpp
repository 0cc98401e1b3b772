#include <boost/test/unit_test.hpp>
#include <limits>
#include <nlohmann/json.hpp>

#include "launch/batch_answer.hpp"

using namespace fastserve;
using namespace fastserve::launch;
using nlohmann::json;

namespace {

batch_answer sample() {
  batch_answer out;
  out.line = 7;
  out.custom_id = "my \"id\"\n";
  out.choices[0].text = "a\nb \u00e9";
  out.choices[0].finish_reason = "stop";
  out.prompt_tokens = 3;
  out.choices[0].completion_tokens = 2;
  return out;
}

const batch_facts facts{"demo", 1700000000, nullptr};

}  // namespace

BOOST_AUTO_TEST_SUITE(answer_suite)

BOOST_AUTO_TEST_CASE(an_answer) {
  const auto line = format_batch_answer(sample(), facts);
  BOOST_TEST(
      line ==
      R"({"id":"batch_req_7","custom_id":"my \"id\"\n","response":{"status_code":200,"request_id":"req_7",)"
      R"("body":{"id":"cmpl-7","object":"text_completion","created":1700000000,"model":"demo",)"
      "\"choices\":[{\"index\":0,\"text\":\"a\\nb \u00e9\",\"finish_reason\":\"stop\",\"logprobs\":null}],"
      R"("usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}},"error":null})");
}

BOOST_AUTO_TEST_CASE(an_error) {
  BOOST_TEST(format_batch_error(9, {"line-9", "invalid_json", "line 9: not JSON"}) ==
             R"({"id":"batch_req_9","custom_id":"line-9","response":null,)"
             R"("error":{"code":"invalid_json","message":"line 9: not JSON"}})");
}

BOOST_AUTO_TEST_CASE(ids_and_logprobs) {
  auto answer = sample();
  answer.token_ids = true;
  answer.logprobs = true;
  answer.alternatives = 1;
  const float none = -std::numeric_limits<float>::infinity();
  answer.choices[0].tokens = {{5, -0.5F, {{5, -0.5F}, {6, -1.0F}}, true}, {8, none, {{9, -0.25F}}, true}};
  const auto choice = json::parse(format_batch_answer(answer, facts))["response"]["body"]["choices"][0];
  BOOST_TEST(choice["token_ids"] == json({5, 8}));
  const auto& logprobs = choice["logprobs"];
  BOOST_TEST(logprobs["tokens"] == json({"token_id:5", "token_id:8"}));
  BOOST_TEST(logprobs["token_logprobs"] == json({-0.5, nullptr}));
  BOOST_TEST(logprobs["top_logprobs"] == json::parse(R"([{"token_id:5":-0.5},{"token_id:9":-0.25}])"));
  BOOST_TEST(logprobs["text_offset"].size() == 2U);
  answer.alternatives = 0;
  BOOST_TEST(json::parse(format_batch_answer(
                 answer, facts))["response"]["body"]["choices"][0]["logprobs"]["top_logprobs"] ==
             json::parse("[{},{}]"));
}

BOOST_AUTO_TEST_CASE(several_choices) {
  auto answer = sample();
  answer.token_ids = true;
  answer.choices.push_back({"other", "length", 7, {{4, 0, {}, true}}});
  const auto body = json::parse(format_batch_answer(answer, facts))["response"]["body"];
  BOOST_REQUIRE(body["choices"].size() == 2U);
  BOOST_TEST(body["choices"][1]["index"] == 1);
  BOOST_TEST(body["choices"][1]["text"] == "other");
  BOOST_TEST(body["choices"][1]["finish_reason"] == "length");
  BOOST_TEST(body["choices"][1]["token_ids"] == json({4}));
  BOOST_TEST(body["usage"]["prompt_tokens"] == 3);
  BOOST_TEST(body["usage"]["completion_tokens"] == 9);
  BOOST_TEST(body["usage"]["total_tokens"] == 12);
}

BOOST_AUTO_TEST_CASE(broken_bytes_stay_one_valid_line) {
  auto answer = sample();
  answer.choices[0].text = "a\xff\xc3\n\r";
  answer.custom_id = "\xfe";
  const auto line = format_batch_answer(answer, facts);
  BOOST_TEST(line.find('\n') == std::string::npos);
  BOOST_TEST(json::parse(line)["custom_id"] == "\ufffd");
}

BOOST_AUTO_TEST_SUITE_END()
