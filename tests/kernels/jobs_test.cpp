#include "kernels/cpu/jobs.hpp"

#include <map>
#include <random>
#include <tuple>

#include "fixture.hpp"

using namespace fastserve::kernels;
using cpu::job_deal;
using cpu::section_cut;

// How a product is dealt to a team (cpu::job_deal).

BOOST_AUTO_TEST_SUITE(jobs)

namespace {

/// How often each panel of each section was dealt for each tile block.
using dealt = std::map<std::tuple<std::size_t, std::int64_t, std::int64_t>, int>;

void count(dealt& all, const cpu::product_job& job) {
  for (auto p = job.panel_first; p < job.panel_last; ++p) ++all[{job.section, p, job.tile_block}];
}

}  // namespace

BOOST_AUTO_TEST_CASE(all_of_a_product_is_dealt_once) {
  std::mt19937 random(1);
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<unsigned>(n));
  };
  job_deal deal(70);
  for (int round = 0; round < 300; ++round) {
    std::vector<section_cut> sections;
    std::int64_t panels = 0;
    for (auto i = below(3); i >= 0; --i) {
      const auto shortest = std::int64_t{1} << below(3);
      sections.push_back({1 + below(round % 2 == 0 ? 20 : 400), shortest * (1 + below(8)), shortest});
      panels += sections.back().panels;
    }
    const auto blocks = 1 + below(4);
    const int threads = static_cast<int>(1 + below(round % 3 == 0 ? 70 : 4));
    deal.begin(sections, blocks, threads);
    dealt all;
    // Threads take in any order, some not at all.
    for (int left = threads; left > 0;) {
      const auto thread = static_cast<int>(below(threads));
      const auto* job = deal.take(thread);
      if (job == nullptr) {
        --left;
        continue;
      }
      count(all, *job);
      const auto& s = sections.at(job->section);
      const auto length = job->panel_last - job->panel_first;
      BOOST_TEST(length > 0);
      BOOST_TEST(length <= s.longest);
      BOOST_TEST(job->panel_last <= s.panels);
      BOOST_TEST((length % s.shortest == 0 || job->panel_last == s.panels));
      BOOST_TEST(job->panel_first % s.shortest == 0);
    }
    BOOST_TEST(static_cast<std::int64_t>(all.size()) == panels * blocks);
    for (const auto& [what, times] : all) BOOST_REQUIRE_EQUAL(times, 1);
  }
}

BOOST_AUTO_TEST_CASE(jobs_shorten_towards_the_end) {
  job_deal deal(2);
  const section_cut section{64, 8, 1};
  deal.begin({&section, 1}, 1, 2);
  std::vector<std::int64_t> lengths;
  std::int64_t at = 32;  // the second thread's half
  while (const auto* job = deal.take(1)) {
    if (job->panel_first < 32) break;
    BOOST_TEST(job->panel_first == at);
    at = job->panel_last;
    lengths.push_back(job->panel_last - job->panel_first);
  }
  BOOST_TEST(lengths == (std::vector<std::int64_t>{8, 8, 8, 4, 2, 1, 1}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(who_is_done_helps_the_others) {
  job_deal deal(3);
  const section_cut section{24, 4, 2};
  deal.begin({&section, 1}, 2, 3);
  dealt all;
  while (const auto* job = deal.take(1)) count(all, *job);
  BOOST_TEST(all.size() == 48U);
  BOOST_TEST(deal.take(0) == nullptr);
  BOOST_TEST(deal.take(2) == nullptr);
}

BOOST_AUTO_TEST_SUITE_END()
