#include <boost/test/unit_test.hpp>
#include <random>

#include "launch/batch_progress.hpp"
#include "launch/batch_tally.hpp"

using namespace fastserve::launch;
using namespace std::chrono_literals;

namespace {

const batch_progress::time start{1000h};

batch_state halfway() {
  batch_state s;
  s.input_bytes_done = 500;
  s.done = 50;
  s.failed = 2;
  s.run_input_bytes = 250;
  s.run_done = 25;
  s.run_tokens_out = 1000;
  return s;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(progress_suite)

BOOST_AUTO_TEST_CASE(the_bar) {
  batch_progress bar{1000, 120, start};
  // 250 of the input's bytes took 10 s, so the other 500 take 20.
  BOOST_TEST(bar.draw(halfway(), start + 10s) ==
             "\rbatch [###############---------------]  50%  50 done  2 failed  2.50/s  100 tokens/s  20 s "
             "left\x1b[K");
  BOOST_TEST(bar.draw(halfway(), start + 10s + 50ms).empty());
  BOOST_TEST(!bar.draw(halfway(), start + 11s).empty());
}

BOOST_AUTO_TEST_CASE(any_width_holds) {
  for (int columns = 1; columns < 130; ++columns) {
    batch_progress bar{1000, columns, start};
    const auto text = bar.draw(halfway(), start + 10s);
    BOOST_TEST(text.size() <= static_cast<std::size_t>(columns - 1) + 4);
  }
}

BOOST_AUTO_TEST_CASE(a_line_a_minute) {
  batch_progress log{1000, 0, start};
  BOOST_TEST(log.report(halfway(), start + 59s).empty());
  BOOST_TEST(log.report(halfway(), start + 60s) ==
             "batch 50%  50 done  2 failed  0.417/s  16.7 tokens/s  2 min left");
  BOOST_TEST(log.report(halfway(), start + 100s).empty());
  BOOST_TEST(!log.report(halfway(), start + 120s).empty());
}

BOOST_AUTO_TEST_CASE(nothing_yet_and_nothing_at_all) {
  batch_progress bar{1000, 80, start};
  BOOST_TEST(bar.draw({}, start).find("left") == std::string::npos);
  batch_progress empty{0, 80, start};
  BOOST_TEST(empty.draw({}, start).find("100%") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(durations) {
  BOOST_TEST(format_duration(0.25) == "0.250 s");
  BOOST_TEST(format_duration(99) == "99 s");
  BOOST_TEST(format_duration(3600) == "60 min");
  BOOST_TEST(format_duration(7500) == "2 h 05 min");
  BOOST_TEST(format_duration(200000) == "2 d 07 h");
  BOOST_TEST(format_duration(1e30) == "years");
  BOOST_TEST(format_duration(-1) == "-");
}

BOOST_AUTO_TEST_CASE(quantiles_are_two_percent_high_at_most) {
  std::mt19937 random{16};
  std::lognormal_distribution<double> times{-3, 2};
  time_histogram histogram;
  std::vector<double> all;
  double sum = 0;
  for (int i = 0; i < 5000; ++i) {
    all.push_back(times(random));
    sum += all.back();
    histogram.add(all.back());
  }
  std::sort(all.begin(), all.end());
  for (const double share : {0.01, 0.5, 0.9, 0.99, 1.0}) {
    const double exact = all[static_cast<std::size_t>(share * 5000) - 1];
    BOOST_TEST(histogram.quantile_seconds(share) >= exact * 0.999);
    BOOST_TEST(histogram.quantile_seconds(share) <= exact * 1.0201);
  }
  BOOST_TEST(histogram.mean_seconds() == sum / 5000, boost::test_tools::tolerance(1e-9));
  time_histogram none;
  BOOST_TEST(none.quantile_seconds(0.99) == 0.0);
  none.add(0);
  none.add(1e12);
  BOOST_TEST(none.count() == 2U);
}

BOOST_AUTO_TEST_CASE(the_summary) {
  batch_tally tally;
  tally.add_answer(10, 5, 5, 20'000'000, 60'000'000);
  tally.add_answer(20, 1, 1, 40'000'000, 40'000'000);
  tally.failed = 3;
  tally.prefix_hit_tokens = 6;
  tally.preemptions = 1;
  BOOST_TEST(tally.summary(2.0) ==
             "batch: 2 answered, 3 failed in 2.00 s; 30 tokens in, 6 out, 3.00 tokens/s, 1.00 requests/s\n"
             "batch: TTFT mean 30.0 ms, P99 40.0 ms; TPOT mean 10.0 ms, P99 10.0 ms\n"
             "batch: 6 prompt tokens from the prefix cache (20.0%), 1 preemption\n");
  BOOST_TEST(batch_tally{}.summary(1).find("0 answered") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
