#include <boost/test/unit_test.hpp>

#include "launch/startup_table.hpp"

using namespace fastserve::launch;

BOOST_AUTO_TEST_SUITE(startup_table)

BOOST_AUTO_TEST_CASE(columns_are_aligned) {
  const std::vector<rank_row> rows{
      {0, "node1", "AVX-512, 2 threads", 0, 12, true, false, 1'234'000'000, 8192, "mpi"},
      {1, "a-longer-name", "AVX2, 16 threads", 12, 1, false, true, 99'000'000, 123456, ""},
      {2, "node3", "AVX2", 0, 0, false, false, 0, 0, ""},
  };
  BOOST_TEST(format_startup_table(rows) ==
             "rank  host           device              layers       weights  KV tokens  to next\n"
             "   0  node1          AVX-512, 2 threads  embed, 0-11  1.23 GB      8,192  mpi\n"
             "   1  a-longer-name  AVX2, 16 threads    12, head     99.0 MB    123,456  -\n"
             "   2  node3          AVX2                spare              -          -  -\n");
}

BOOST_AUTO_TEST_CASE(several_pipelines_are_told_apart) {
  const std::vector<rank_row> rows{
      {0, "n", "AVX2", 0, 2, true, true, 1'000'000, 8192, "", 0},
      {1, "n", "AVX2", 0, 2, true, true, 1'000'000, 4096, "", 1},
      {2, "n", "AVX2", 0, 0, false, false, 0, 0, "", -1},
  };
  BOOST_TEST(format_startup_table(rows) ==
             "rank  pipeline  host  device  layers            weights  KV tokens  to next\n"
             "   0         0  n     AVX2    embed, 0-1, head  1.00 MB      8,192  -\n"
             "   1         1  n     AVX2    embed, 0-1, head  1.00 MB      4,096  -\n"
             "   2         -  n     AVX2    spare                   -          -  -\n");
}

BOOST_AUTO_TEST_CASE(no_rows_leave_the_titles) {
  BOOST_TEST(format_startup_table({}) == "rank  host  device  layers  weights  KV tokens  to next\n");
}

BOOST_AUTO_TEST_SUITE_END()
