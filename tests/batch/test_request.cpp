#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>
#include <random>

#include "launch/batch_request.hpp"

using namespace fastserve::launch;
using nlohmann::json;

namespace {

batch_line read(const std::string& text, const fastserve::model::sampling_params& sampling = {},
                const fastserve::model::stop_params& stopping = {}) {
  return read_batch_line(text, 12, sampling, stopping);
}

batch_request request(const std::string& text) {
  const auto line = read(text);
  if (const auto* error = std::get_if<batch_error>(&line)) BOOST_FAIL(text << ": " << error->message);
  return std::get<batch_request>(line);
}

batch_request plain(const std::string& fields) { return request("{\"prompt\":\"p\"," + fields + "}"); }

std::string framed(const std::string& body) {
  return R"({"custom_id":"a","method":"POST","url":"/v1/completions","body":)" + body + "}";
}

struct bad_line {
  const char* text;
  const char* code;
  const char* id;
  const char* message;  // a part of it
};

const std::vector<bad_line> bad_lines{
    {"", "invalid_json", "line-12", "not JSON"},
    {"{", "invalid_json", "line-12", "not JSON"},
    {"nonsense", "invalid_json", "line-12", "not JSON"},
    {R"({"prompt":"a"} {"prompt":"b"})", "invalid_json", "line-12", "not JSON"},
    {"{\"prompt\":\"\xff\xfe\"}", "invalid_json", "line-12", "UTF-8"},
    {R"({"prompt":"\ud800"})", "invalid_json", "line-12", "not JSON"},
    {R"({"prompt":"a","temperature":1e999})", "invalid_json", "line-12", "not JSON"},
    {R"({"prompt":"a","prompt":"b"})", "invalid_request", "line-12", "'prompt': is given twice"},
    {R"({"custom_id":"a","custom_id":"b","prompt":"x"})", "invalid_request", "line-12",
     "'custom_id': is given twice"},
    {R"({"custom_id":"a","url":"/v1/completions","body":{"prompt":"x","seed":1,"seed":2}})",
     "invalid_request", "a", "'seed': is given twice"},
    {"[]", "invalid_request", "line-12", "expected an object, found a list"},
    {"null", "invalid_request", "line-12", "expected an object, found null"},
    {"{}", "invalid_request", "line-12", "prompt: is missing"},
    {R"({"prompt":null})", "invalid_request", "line-12", "prompt: is missing"},
    {R"({"messages":[]})", "unsupported", "line-12", "messages"},
    {R"({"prompt":1})", "invalid_request", "line-12",
     "prompt: expected a text or a list of token ids, found 1"},
    {R"({"prompt":[]})", "invalid_request", "line-12", "prompt: an empty list"},
    {R"({"prompt":["a","b"]})", "unsupported", "line-12", "prompt: a list of 2 prompts"},
    {R"({"prompt":[[1],[2]]})", "unsupported", "line-12", "prompt: a list of 2 prompts"},
    {R"({"prompt":[[[1]]]})", "invalid_request", "line-12", "prompt: expected"},
    {R"({"prompt":[1,"a"]})", "invalid_request", "line-12", "prompt: expected an integer"},
    {R"({"prompt":[-1]})", "invalid_request", "line-12", "found -1"},
    {R"({"prompt":[1.5]})", "invalid_request", "line-12", "found 1.5"},
    {R"({"prompt":[4294967296]})", "invalid_request", "line-12", "found 4294967296"},
    {R"({"prompt":[18446744073709551615]})", "invalid_request", "line-12", "found 18446744073709551615"},
    {R"({"prompt":"a","max_tokens":0})", "invalid_request", "line-12",
     "max_tokens: expected an integer from 1"},
    {R"({"prompt":"a","max_tokens":"5"})", "invalid_request", "line-12", "max_tokens"},
    {R"({"prompt":"a","temperature":-1})", "invalid_request", "line-12", "temperature is -1"},
    {R"({"prompt":"a","temperature":1e300})", "invalid_request", "line-12", "temperature"},
    {R"({"prompt":"a","temperature":true})", "invalid_request", "line-12",
     "temperature: expected a number, found true"},
    {R"({"prompt":"a","top_p":0})", "invalid_request", "line-12", "top_p"},
    {R"({"prompt":"a","top_k":-2})", "invalid_request", "line-12", "top_k"},
    {R"({"prompt":"a","min_p":2})", "invalid_request", "line-12", "min_p"},
    {R"({"prompt":"a","seed":1.5})", "invalid_request", "line-12", "seed"},
    {R"({"prompt":"a","stop":""})", "invalid_request", "line-12", "stop"},
    {R"({"prompt":"a","stop":["x",3]})", "invalid_request", "line-12", "stop"},
    {R"({"prompt":"a","stop_token_ids":5})", "invalid_request", "line-12", "stop_token_ids"},
    {R"({"prompt":"a","logprobs":21})", "invalid_request", "line-12", "logprobs"},
    {R"({"prompt":"a","logprobs":true})", "invalid_request", "line-12", "logprobs"},
    {R"({"prompt":"a","n":0})", "invalid_request", "line-12", "n: expected an integer from 1 to 128"},
    {R"({"prompt":"a","n":129})", "invalid_request", "line-12", "n: expected an integer from 1 to 128"},
    {R"({"prompt":"a","n":true})", "invalid_request", "line-12", "n: expected an integer"},
    {R"({"prompt":"a","priority":1.5})", "invalid_request", "line-12", "priority: expected an integer"},
    {R"({"prompt":"a","priority":1000001})", "invalid_request", "line-12",
     "priority: expected an integer from"},
    {R"({"prompt":"a","cache_salt":7})", "invalid_request", "line-12", "cache_salt: expected a text"},
    {R"({"prompt":"a","cache_salt":""})", "invalid_request", "line-12", "cache_salt: expected a text"},
    {R"({"prompt":"a","best_of":3})", "unsupported", "line-12", "best_of"},
    {R"({"prompt":"a","echo":true})", "unsupported", "line-12", "echo"},
    {R"({"prompt":"a","stream":true})", "unsupported", "line-12", "stream"},
    {R"({"prompt":"a","suffix":"b"})", "unsupported", "line-12", "suffix"},
    {R"({"prompt":"a","logit_bias":{"5":1}})", "unsupported", "line-12", "logit_bias"},
    {R"({"prompt":"a","temprature":1})", "unsupported", "line-12", "'temprature': unknown field"},
    {R"({"custom_id":"mine","prompt":"a","ignore_eos":1})", "invalid_request", "mine", "ignore_eos"},
    {R"({"custom_id":5,"prompt":"a"})", "invalid_request", "line-12", "custom_id: expected a text, found 5"},
    {R"({"custom_id":"","prompt":"a"})", "invalid_request", "line-12", "custom_id"},
    {R"({"url":"/v1/completions","body":{"prompt":"a"}})", "invalid_request", "line-12",
     "custom_id: is missing"},
    {R"({"custom_id":"a","body":{"prompt":"a"}})", "invalid_request", "a", "url"},
    {R"({"custom_id":"a","url":"/v1/completions"})", "invalid_request", "a", "body"},
    {R"({"custom_id":"a","url":"/v1/completions","body":[]})", "invalid_request", "a", "body"},
    {R"({"custom_id":"a","url":"/v1/embeddings","body":{}})", "unsupported", "a", "'/v1/embeddings'"},
    {R"({"custom_id":"a","url":"/v1/chat/completions","body":{}})", "unsupported", "a", "chat templates"},
    {R"({"custom_id":"a","method":"GET","url":"/v1/completions","body":{"prompt":"a"}})", "invalid_request",
     "a", "method"},
};

}  // namespace

BOOST_AUTO_TEST_SUITE(request_suite)

BOOST_AUTO_TEST_CASE(lines_that_are_refused) {
  for (const auto& bad : bad_lines) {
    const auto line = read(bad.text);
    BOOST_TEST_CONTEXT(bad.text) {
      const auto* error = std::get_if<batch_error>(&line);
      BOOST_REQUIRE(error != nullptr);
      BOOST_TEST(error->code == bad.code);
      BOOST_TEST(error->custom_id == bad.id);
      BOOST_TEST(error->message.starts_with("line 12: "));
      BOOST_TEST(error->message.find(bad.message) != std::string::npos);
    }
  }
}

BOOST_AUTO_TEST_CASE(both_forms) {
  const auto a = request(framed(R"({"model":"x","prompt":"hello","max_tokens":5})"));
  BOOST_TEST(a.custom_id == "a");
  BOOST_TEST(std::get<std::string>(a.what) == "hello");
  BOOST_TEST(a.stopping.max_tokens == 5);
  const auto b = request(R"({"prompt":"hello"})");
  BOOST_TEST(b.custom_id == "line-12");
  const auto c = request("\xef\xbb\xbf {\"prompt\":\"hello\",\"custom_id\":\"own\"} \r");
  BOOST_TEST(c.custom_id == "own");
  const auto d = request(R"({"custom_id":"a","url":"/v1/completions","body":{"prompt":""},"extra":1})");
  BOOST_TEST(std::get<std::string>(d.what).empty());
}

BOOST_AUTO_TEST_CASE(prompts) {
  using ids = std::vector<std::int32_t>;
  BOOST_TEST(std::get<ids>(request(R"({"prompt":[1,0,2147483647]})").what) == (ids{1, 0, 2147483647}));
  BOOST_TEST(std::get<ids>(request(R"({"prompt":[[7,8]]})").what) == (ids{7, 8}));
  BOOST_TEST(std::get<std::string>(request(R"({"prompt":["one"]})").what) == "one");
  BOOST_TEST(std::get<std::string>(request(R"({"prompt":"a\u0000\u00e9\ud83d\ude00"})").what) ==
             std::string("a\0\u00e9\U0001F600", 8));
}

BOOST_AUTO_TEST_CASE(every_field) {
  const auto r = plain(
      R"("max_tokens":9,"temperature":0,"top_p":0.5,"top_k":-1,"min_p":0.25,"presence_penalty":-1,)"
      R"("frequency_penalty":1.5,"repetition_penalty":1.25,"seed":-1,"logprobs":3,"stop":["a","b"],)"
      R"("stop_token_ids":[4,5],"ignore_eos":true,"return_token_ids":true,"n":5,"priority":-3,"cache_salt":"me",)"
      R"("best_of":1,"echo":false,"stream":false,"suffix":"","logit_bias":{},"user":"u","model":"m","metadata":{"a":1},"store":true)");
  BOOST_TEST(r.stopping.max_tokens == 9);
  BOOST_TEST(r.sampling.temperature == 0.0F);
  BOOST_TEST(r.sampling.top_p == 0.5F);
  BOOST_TEST(r.sampling.top_k == 0);
  BOOST_TEST(r.sampling.min_p == 0.25F);
  BOOST_TEST(r.sampling.presence_penalty == -1.0F);
  BOOST_TEST(r.sampling.frequency_penalty == 1.5F);
  BOOST_TEST(r.sampling.repetition_penalty == 1.25F);
  BOOST_TEST(r.sampling.seed == ~std::uint64_t{0});
  BOOST_TEST(r.sampling.logprobs == 3);
  BOOST_TEST(r.logprobs);
  BOOST_TEST(r.alternatives == 3);
  BOOST_TEST(r.stopping.stop.size() == 2U);
  BOOST_TEST(r.stopping.stop_token_ids.size() == 2U);
  BOOST_TEST(r.stopping.ignore_eos);
  BOOST_TEST(r.token_ids);
  BOOST_TEST(r.choices == 5);
  BOOST_TEST(r.priority == -3);
  BOOST_TEST(r.cache_salt == "me");
  BOOST_TEST(plain(R"("seed":18446744073709551615)").sampling.seed == ~std::uint64_t{0});
  BOOST_TEST(plain(R"("stop":"x")").stopping.stop.size() == 1U);
}

BOOST_AUTO_TEST_CASE(logprobs_of_the_drawn_token_alone) {
  const auto r = plain(R"("logprobs":0)");
  BOOST_TEST(r.logprobs);
  BOOST_TEST(r.alternatives == 0);
  BOOST_TEST(r.sampling.logprobs == 1);
  BOOST_TEST(!plain(R"("logprobs":null)").logprobs);
}

BOOST_AUTO_TEST_CASE(what_a_line_leaves_open_comes_from_the_settings) {
  fastserve::model::sampling_params sampling;
  sampling.temperature = 0.25F;
  sampling.seed = 77;
  sampling.logprobs = 2;
  fastserve::model::stop_params stopping;
  stopping.max_tokens = 33;
  stopping.stop = {"END"};
  const auto open = std::get<batch_request>(read(
      R"({"prompt":"a","temperature":null,"max_tokens":null,"stop":null,"n":null})", sampling, stopping));
  BOOST_TEST(open.sampling.temperature == 0.25F);
  BOOST_TEST(open.sampling.seed == 77U);
  BOOST_TEST(open.stopping.max_tokens == 33);
  BOOST_TEST(open.stopping.stop.at(0) == "END");
  BOOST_TEST(open.logprobs);
  BOOST_TEST(open.alternatives == 2);
  const auto own = std::get<batch_request>(read(R"({"prompt":"a","stop":[],"seed":1})", sampling, stopping));
  BOOST_TEST(own.stopping.stop.empty());
  BOOST_TEST(own.sampling.seed == 1U);
}

BOOST_AUTO_TEST_CASE(bombs_are_refused_in_little_time) {
  for (const std::string open : {"[", "{\"a\":"}) {
    std::string bomb = "{\"prompt\":";
    while (bomb.size() < 4'000'000) bomb += open;
    const auto line = read(bomb);
    BOOST_TEST(std::get<batch_error>(line).code == "invalid_json");
    BOOST_TEST(std::get<batch_error>(line).message == "line 12: nested deeper than 32 levels");
  }
  // Brackets in a text are text.
  BOOST_TEST(
      std::get<std::string>(request("{\"prompt\":\"" + std::string(1000, '[') + "\\\"{{\"}").what).size() ==
      1003U);
  std::string ids = "{\"prompt\":[1";
  for (int i = 0; i < 1'000'000; ++i) ids += ",1";
  BOOST_TEST(std::get<std::vector<std::int32_t>>(request(ids + "]}").what).size() == 1'000'001U);
  const auto names = read("{\"prompt\":\"a\",\"" + std::string(100000, 'n') + "\":1}");
  BOOST_TEST(std::get<batch_error>(names).message.size() < 200U);
  const auto stops = read("{\"prompt\":\"a\",\"stop\":[\"" + std::string(100000, 'n') + "\"]}");
  BOOST_TEST(std::get<batch_error>(stops).message.find("stop: more than 256 texts") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(fuzz) {
  std::mt19937 random{15};
  std::vector<std::string> seeds{framed(R"({"prompt":"hello","max_tokens":5,"stop":["a","b"],"seed":-3})"),
                                 R"({"prompt":[1,2,3],"temperature":0.5,"logprobs":2,"logit_bias":{"1":2}})"};
  for (const auto& bad : bad_lines) seeds.emplace_back(bad.text);
  const std::string bits = "{}[]\",:\\0123456789-.eE+ntu\xff\xc3\x80 \n\t";
  std::size_t taken = 0;
  for (int round = 0; round < 40000; ++round) {
    auto text = seeds[random() % seeds.size()];
    for (auto edits = 1 + random() % 4; edits > 0 && !text.empty(); --edits) {
      const auto at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text.erase(at, 1 + random() % 5);
          break;
        case 1:
          text.insert(at, 1, bits[random() % bits.size()]);
          break;
        case 2:
          text[at] = static_cast<char>(random());
          break;
        default: {
          const auto& other = seeds[random() % seeds.size()];
          if (!other.empty()) text.insert(at, other.substr(random() % other.size(), random() % 12));
        }
      }
    }
    const auto line = read(text);
    if (const auto* r = std::get_if<batch_request>(&line)) {
      ++taken;
      BOOST_TEST(r->sampling.validate() == "");
      BOOST_TEST(r->stopping.max_tokens > 0);
      BOOST_TEST(!r->custom_id.empty());
    } else {
      const auto& error = std::get<batch_error>(line);
      BOOST_TEST(error.message.starts_with("line 12: "));
      BOOST_TEST(error.message.size() < 1000U);
      BOOST_TEST(!error.code.empty());
      BOOST_TEST(!error.custom_id.empty());
    }
  }
  BOOST_TEST(taken > 50U);
}

BOOST_AUTO_TEST_SUITE_END()
