#include <boost/test/unit_test.hpp>

#include "launch/version.hpp"

using namespace fastserve::launch;

BOOST_AUTO_TEST_SUITE(version)

BOOST_AUTO_TEST_CASE(it_lists_what_it_was_told) {
  version_facts facts;
  facts.mpi_library = "Open MPI v4.1.4, package: x\nmore";
  facts.caf = "0.17.6";
  facts.supported_isas = {"portable", "avx2"};
  const std::string text = format_version(facts);
  BOOST_TEST(text.find("FastServe         " + program_version() + "\n") == 0U);
  BOOST_TEST(text.find("\nMPI               Open MPI v4.1.4, package: x\n") != std::string::npos);
  BOOST_TEST(text.find("\nCAF               0.17.6\n") != std::string::npos);
  BOOST_TEST(text.find("\nCUDA              no\n") != std::string::npos);
  BOOST_TEST(text.find("\ninstruction sets  portable, avx2\n") != std::string::npos);
  facts.cuda = true;
  BOOST_TEST(format_version(facts).find("CUDA              yes, devices: none\n") != std::string::npos);
  BOOST_TEST(program_version().find('.') != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
