#include <boost/test/unit_test.hpp>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <set>
#include <sstream>

#include "../support/temporary_folder.hpp"
#include "launch/fitted_lengths.hpp"
#include "launch/serve_report.hpp"
#include "launch/serve_runs.hpp"
#include "launch/svg_plot.hpp"
#include "launch/workload.hpp"

using namespace fastserve::launch;

namespace {

trace read(const std::string& text) {
  std::istringstream in{text};
  return read_trace(in, "x");
}

const auto near = boost::test_tools::tolerance(1e-9);

}  // namespace

BOOST_AUTO_TEST_SUITE(serve)

BOOST_AUTO_TEST_CASE(figures_by_hand) {
  serve_meter m;
  m.done({10, 5, 100, 500});  // tpot 100, normalized 100
  m.done({20, 1, 50, 50});    // tpot unknown, normalized 50
  m.done({30, 3, 200, 240});  // tpot 20, normalized 80
  m.token_gap(10);
  m.token_gap(30);
  m.failed();
  const auto r = m.report(2, parse_goal("ttft:150,tpot:90"));
  BOOST_TEST(r.completed == 3U);
  BOOST_TEST(r.failed == 1U);
  BOOST_TEST(r.request_throughput == 1.5, near);
  BOOST_TEST(r.output_throughput == 4.5, near);
  BOOST_TEST(r.total_token_throughput == 34.5, near);
  BOOST_TEST(r.ttft_ms.mean == 350.0 / 3, near);
  BOOST_TEST(r.ttft_ms.median == 100, near);
  BOOST_TEST(r.ttft_ms.p90 == 180, near);  // 100 + 0.8 * (200 - 100)
  BOOST_TEST(r.ttft_ms.p99 == 198, near);
  BOOST_TEST(r.tpot_ms.mean == 60, near);
  BOOST_TEST(r.e2el_ms.mean == 790.0 / 3, near);
  BOOST_TEST(r.normalized_ms.mean == 230.0 / 3, near);
  BOOST_TEST(r.itl_ms.mean == 20, near);
  BOOST_TEST(*r.request_goodput == 0.5, near);  // the second alone: one in two seconds
  const auto json = r.json();
  for (const auto* name :
       {"request_throughput", "output_throughput", "total_token_throughput", "request_goodput",
        "mean_ttft_ms", "p99_tpot_ms", "median_itl_ms", "p90_e2el_ms", "completed"})
    BOOST_TEST(json.contains(name));
  BOOST_TEST(r.text().find("350.00") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_simulation_stands_beside_what_was_measured) {
  serve_meter measured, simulated;
  measured.done({10, 5, 100, 500});
  simulated.done({10, 5, 110, 490});
  auto r = measured.report(1, {});
  BOOST_TEST(r.text().find("simulated") == std::string::npos);
  r.simulated = std::make_shared<const serve_report>(simulated.report(1, {}));
  BOOST_TEST(r.text().find("+10.0%") != std::string::npos);  // TTFT
  BOOST_TEST(r.text().find("-5.0%") != std::string::npos);   // TPOT: 95 for 100
  BOOST_TEST(r.json()["simulated"]["mean_ttft_ms"].get<double>() == 110, near);
  BOOST_TEST(difference(0, 5) == 0);
}

BOOST_AUTO_TEST_CASE(no_request_is_no_crash) {
  const auto r = serve_meter{}.report(0, {});
  BOOST_TEST(r.completed == 0U);
  BOOST_TEST(!r.request_goodput);
  BOOST_TEST(!r.text().empty());
}

BOOST_AUTO_TEST_CASE(the_histogram_is_exact_to_a_thousandth) {
  value_histogram h;
  std::vector<double> values;
  for (int i = 1; i <= 10001; ++i) {
    h.add(i * 0.37);
    values.push_back(i * 0.37);
  }
  const auto got = h.summary();
  const auto want = spread_of(values);
  BOOST_TEST(got.mean == want.mean, near);
  BOOST_TEST(got.median == want.median, boost::test_tools::tolerance(1e-3));
  BOOST_TEST(got.p99 == want.p99, boost::test_tools::tolerance(1e-3));
}

BOOST_AUTO_TEST_CASE(goals_are_read_strictly) {
  const auto g = parse_goal("ttft:500 tpot:50");
  BOOST_TEST(*g.ttft_ms == 500);
  BOOST_TEST(*g.tpot_ms == 50);
  BOOST_TEST(!g.e2el_ms);
  for (const auto* bad : {"ttft", "ttft:", "tttt:5", "ttft:-1", "ttft:5x", ":5"})
    BOOST_CHECK_THROW(parse_goal(bad), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(all_formats_are_told_apart) {
  const auto sharegpt =
      read("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n74,918,992,0.08\n");
  BOOST_TEST(sharegpt.items[0].prompt_tokens == 74);
  BOOST_TEST(sharegpt.items[0].output_tokens == 918);
  BOOST_TEST(!sharegpt.timed);

  const auto azure = read(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-12-31 23:59:59.5000000,374,44\r\n"
      "2024-01-01 00:00:01.0000000,396,0\r\n");
  BOOST_TEST(azure.timed);
  BOOST_TEST(azure.items[1].at_s == 1.5, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(azure.items[1].output_tokens == 1);

  const auto mooncake = read(
      "{\"timestamp\": 27000, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, 7]}\n"
      "{\"timestamp\": 30000, \"input_length\": 700, \"output_length\": 6, \"hash_ids\": [0, 8]}\n");
  BOOST_TEST(mooncake.prefixes);
  BOOST_TEST(mooncake.items[1].at_s == 3, near);
  BOOST_TEST((mooncake.items[1].prefix_ids == std::vector<std::uint64_t>{0, 8}));
}

BOOST_AUTO_TEST_CASE(bad_files_are_refused_with_their_line) {
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      read(text);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "accepted";
  };
  const std::string head = "prompt_tokens,output_tokens\n";
  BOOST_TEST(refusal(head + "5,6\n5,x\n") == "x:3: output_tokens: expected a whole number, found 'x'");
  for (const std::string& text :
       {std::string{}, std::string{"\n\n"}, head, std::string{"a,b\n1,2\n"}, head + "1\n", head + "1,2,3\n",
        head + "0,5\n", head + "-1,5\n", head + "99999999999999999999,5\n", head + "99999999,5\n",
        std::string{"{\"input_length\": 5}\n"},
        std::string{"{\"input_length\": 5.5, \"output_length\": 1}\n"}, std::string{"{]\n"},
        std::string(2U << 20U, 'a'),
        std::string{"{\"input_length\":1,\"output_length\":1,\"hash_ids\":[-1]}"},
        std::string{"{\"input_length\":1,\"output_length\":1,\"timestamp\":\"x\"}"},
        std::string{"TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n"}})
    BOOST_TEST(refusal(text).starts_with("x:"));
}

BOOST_AUTO_TEST_CASE(loads_are_scaled_cut_and_repeatable) {
  trace t;
  for (int i = 1; i <= 50; ++i) t.items.push_back({0, i * 100, i * 10, {}});
  const load_shape shape{120, 0.5, 1, 512, 7};
  const auto a = make_load(t, shape, false);
  const auto b = make_load(t, shape, false);
  BOOST_REQUIRE(a.size() == 120U);
  std::set<int> first, all;
  for (std::size_t i = 0; i < a.size(); ++i) {
    BOOST_TEST(a[i].prompt_tokens == b[i].prompt_tokens);
    BOOST_TEST(a[i].prompt_tokens + a[i].output_tokens <= 512);
    BOOST_TEST(a[i].output_tokens >= 1);
    if (i < 50) first.insert(a[i].output_tokens);
  }
  BOOST_TEST(first.size() == 50U);  // every line of the trace before any comes twice
  const auto short_prompts = make_load(t, {120, 0.5, 0.1, 512, 7}, false);
  BOOST_TEST(short_prompts[0].output_tokens == a[0].output_tokens);
  BOOST_TEST(short_prompts[0].prompt_tokens < a[0].prompt_tokens);
  const auto ordered = make_load(t, {3, 1, 1, 0, 1}, true);
  BOOST_TEST(ordered[2].prompt_tokens == 300);
}

BOOST_AUTO_TEST_CASE(what_is_shortened_is_counted) {
  trace t;
  t.items = {{0, 100, 20, {}}, {0, 600, 20, {}}, {0, 400, 400, {}}};
  load_cut cut;
  const auto load = make_load(t, {3, 1, 1, 512, 1}, true, &cut);
  BOOST_TEST(cut.requests == 2U);
  BOOST_TEST(cut.prompt_before == 500, near);
  BOOST_TEST(cut.output_before == 210, near);
  BOOST_TEST(cut.prompt_after == (load[1].prompt_tokens + load[2].prompt_tokens) / 2.0, near);
  BOOST_TEST(cut.text(3).starts_with("2 of 3 requests do not fit the context of 512 tokens"));
  serve_report r;
  BOOST_TEST(r.json()["shortened_requests"] == 0);
  r.cut = cut;
  BOOST_TEST(r.json()["shortened_requests"] == 2);
  BOOST_TEST(r.json()["shortened"]["mean_prompt_tokens_before"] == 500);
  BOOST_TEST(r.text().find("Shortened to context of 512") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(only_open_lengths_shrink) {
  const auto fitted = [](std::vector<std::int32_t> prompts, bool prompts_given, bool answer_given,
                         std::int32_t context) {
    measured_lengths l{std::move(prompts), 128, prompts_given, answer_given};
    try {
      const auto said = fit_lengths(l, context);
      return std::to_string(l.prompts.back()) + "+" + std::to_string(l.answer) +
             (said.empty() ? "" : " said");
    } catch (const std::runtime_error&) {
      return std::string{"refused"};
    }
  };
  BOOST_TEST(fitted({512}, false, false, 640) == "512+128");
  BOOST_TEST(fitted({512}, false, false, 512) == "384+128 said");
  BOOST_TEST(fitted({512}, false, false, 100) == "75+25 said");
  BOOST_TEST(fitted({512}, false, false, 2) == "1+1 said");
  BOOST_TEST(fitted({512}, false, false, 1) == "refused");
  BOOST_TEST(fitted({64, 500}, true, false, 512) == "500+12 said");
  BOOST_TEST(fitted({512}, true, false, 512) == "refused");
  BOOST_TEST(fitted({512}, false, true, 512) == "384+128 said");
  BOOST_TEST(fitted({512}, false, true, 128) == "refused");
  BOOST_TEST(fitted({500}, true, true, 512) == "refused");

  load_options load;
  BOOST_TEST(!fit_load(load, 512).empty());
  BOOST_TEST(load.prompt_tokens == 384);
  load = {};
  load.scale = 0.5;
  BOOST_TEST(fit_load(load, 512).empty());
  BOOST_TEST(load.prompt_tokens == 512);
  load.prompts_given = load.decode_given = true;
  BOOST_CHECK_THROW(fit_load(load, 100), std::runtime_error);
}

// Before anything is loaded or measured.
BOOST_AUTO_TEST_CASE(a_load_that_cannot_be_is_refused) {
  const temporary_folder folder;
  load_options load;
  load.save = folder / "figures";
  check_load(load, 512);
  BOOST_TEST(std::filesystem::is_empty(folder.path()));
  load.save = folder / "none/figures";
  BOOST_CHECK_THROW(check_load(load, 512), std::runtime_error);
  load.save.clear();
  load.trace = folder / "none.csv";
  BOOST_CHECK_THROW(check_load(load, 512), std::runtime_error);
}

BOOST_AUTO_TEST_CASE(arrivals_have_their_rate_and_spread) {
  for (const double cv : {0.0, 0.5, 1.0, 2.0}) {
    std::vector<workload_item> load(20001), again(20001);
    set_arrivals(load, {50, cv, 3});
    set_arrivals(again, {100, cv, 3});
    double mean = 0, square = 0;
    for (std::size_t i = 1; i < load.size(); ++i) {
      const double gap = load[i].at_s - load[i - 1].at_s;
      BOOST_REQUIRE(gap >= 0);
      mean += gap / 20000;
      square += gap * gap / 20000;
    }
    BOOST_TEST(mean == 0.02, boost::test_tools::tolerance(0.06));
    BOOST_TEST(std::abs(std::sqrt(std::max(square - mean * mean, 0.0)) / mean - cv) < 0.1);
    BOOST_TEST(again.back().at_s * 2 == load.back().at_s, boost::test_tools::tolerance(1e-6));
  }
}

BOOST_AUTO_TEST_CASE(prompts_share_what_their_ids_share) {
  const workload_item a{0, 100, 1, {4, 5}}, b{0, 100, 1, {4, 6}};
  const auto x = prompt_of(a, 1, 1000, 32), y = prompt_of(b, 2, 1000, 32);
  BOOST_TEST(x.size() == 100U);
  BOOST_TEST(std::equal(x.begin(), x.begin() + 32, y.begin()));
  BOOST_TEST(!std::equal(x.begin() + 32, x.begin() + 64, y.begin() + 32));
  BOOST_TEST(!std::equal(x.begin() + 64, x.end(), y.begin() + 64));
  for (const auto t : x) BOOST_TEST((t >= 0 && t < 1000));
  BOOST_TEST((prompt_of(a, 1, 1000, 32) == x));
}

BOOST_AUTO_TEST_CASE(crossings_lie_between_points) {
  BOOST_TEST(crossing({{1, 10}, {2, 30}}, 20) == 1.5, near);
  BOOST_TEST(crossing({{1, 10}, {2, 15}}, 20) < 0);
  BOOST_TEST(crossing({{1, 50}}, 20) == 1, near);
}

BOOST_AUTO_TEST_CASE(a_plot_is_whole_whatever_the_points) {
  const auto svg =
      draw_plot({"a < b & c", "x", "y", 5.0, "SLO"},
                {{"one", {{1, 2}, {2, 30}}}, {"two", {{1, 0}, {2, -1}, {3, NAN}}}, {"none", {}}});
  BOOST_TEST(svg.starts_with("<svg"));
  BOOST_TEST(svg.ends_with("</svg>\n"));
  BOOST_TEST(svg.find("a &lt; b &amp; c") != std::string::npos);
  BOOST_TEST(svg.find("nan") == std::string::npos);
  BOOST_TEST(svg.find("inf") == std::string::npos);
  BOOST_TEST(draw_plot({}, {}).ends_with("</svg>\n"));
}

BOOST_AUTO_TEST_CASE(the_known_traces_are_read) {
  const std::string folder = std::string{FASTSERVE_SHARED_DATA} + "/traces/";
  if (!std::filesystem::exists(folder)) {
    std::cout << "skipped: no trace files\n";
    return;
  }
  BOOST_TEST(read_trace_file(folder + "sharegpt-lengths/sharegpt_8k_filtered_stats_llama2_tokenizer.csv")
                 .items.size() > 30000U);
  const auto azure = read_trace_file(folder + "azure-llm-2023/AzureLLMInferenceTrace_conv.csv");
  BOOST_TEST(azure.items.size() == 19366U);
  BOOST_TEST(azure.items.back().at_s > 3000);
  BOOST_TEST(azure.items.back().at_s < 4000);
  const auto mooncake = read_trace_file(folder + "mooncake/conversation_trace.jsonl");
  BOOST_TEST(mooncake.items.size() == 12031U);
  BOOST_TEST(mooncake.prefixes);
}

BOOST_AUTO_TEST_SUITE_END()
