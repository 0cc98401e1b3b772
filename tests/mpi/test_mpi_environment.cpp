#define BOOST_TEST_NO_MAIN
#include "mpi_test.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <string>

#include "mpi/build_check.hpp"
#include "mpi/check.hpp"

namespace fastserve::tests {
namespace {

BOOST_AUTO_TEST_CASE(knows_its_place) {
  auto& env = world();
  BOOST_CHECK_GE(env.rank(), 0);
  BOOST_CHECK_LT(env.rank(), env.size());
  BOOST_CHECK_EQUAL(env.leader(), env.rank() == 0);
  BOOST_CHECK(!env.host().empty());
  // The tests run on one machine.
  BOOST_CHECK_EQUAL(env.local_size(), env.size());
  BOOST_CHECK_EQUAL(env.local_rank(), env.rank());
  BOOST_CHECK(!mpi::environment::library_version().empty());
}

// MPI may write to the socket of a rank that has just died.
BOOST_AUTO_TEST_CASE(outlives_a_broken_pipe) {
  if (!mpi::environment::launched()) return;
  std::array<int, 2> ends{};
  BOOST_REQUIRE_EQUAL(::pipe(ends.data()), 0);
  ::close(ends[0]);
  BOOST_CHECK_EQUAL(::write(ends[1], "x", 1), -1);
  BOOST_CHECK_EQUAL(errno, EPIPE);
  ::close(ends[1]);
}

BOOST_AUTO_TEST_CASE(gathers_texts_of_different_lengths) {
  auto& env = world();
  const auto text_of = [](int rank) {
    return std::string(static_cast<std::size_t>(rank * 1000), 'a' + rank % 26);
  };
  const auto all = env.allgather(text_of(env.rank()));
  BOOST_REQUIRE_EQUAL(all.size(), static_cast<std::size_t>(env.size()));
  for (int r = 0; r < env.size(); ++r) BOOST_CHECK(all[static_cast<std::size_t>(r)] == text_of(r));
}

BOOST_AUTO_TEST_CASE(refuses_a_text_that_is_too_long_on_every_rank) {
  auto& env = world();
  const std::string text(env.rank() == env.size() - 1 ? 101 : 3, 'x');
  BOOST_CHECK_EXCEPTION(env.allgather(text, 100), std::runtime_error, [&](const std::runtime_error& e) {
    return std::string{e.what()}.find("rank " + std::to_string(env.size() - 1)) != std::string::npos;
  });
  BOOST_CHECK_EQUAL(env.allgather("after").size(), static_cast<std::size_t>(env.size()));
}

BOOST_AUTO_TEST_CASE(agrees_that_all_is_well) { BOOST_CHECK(!world().agree("").has_value()); }

BOOST_AUTO_TEST_CASE(agrees_on_the_lowest_rank_that_failed) {
  auto& env = world();
  for (int first = 0; first < env.size(); ++first) {
    const auto mine = env.rank() >= first ? "broken on " + std::to_string(env.rank()) : std::string{};
    const auto failure = env.agree(mine);
    BOOST_REQUIRE(failure.has_value());
    BOOST_CHECK_EQUAL(failure->rank, first);
    BOOST_CHECK_EQUAL(failure->text, "broken on " + std::to_string(first));
  }
}

BOOST_AUTO_TEST_CASE(cuts_a_long_error) {
  const auto failure = world().agree(std::string(100000, 'e'));
  BOOST_REQUIRE(failure.has_value());
  BOOST_CHECK_EQUAL(failure->text, std::string(4096, 'e'));
}

BOOST_AUTO_TEST_CASE(turns_codes_into_text) {
  BOOST_CHECK_NO_THROW(mpi::check(MPI_SUCCESS, "MPI_Nothing"));
  BOOST_CHECK_EXCEPTION(mpi::check(MPI_ERR_RANK, "MPI_Send"), std::runtime_error,
                        [](const std::runtime_error& e) {
                          const std::string text = e.what();
                          return text.starts_with("MPI_Send: ") && text.find("rank") != std::string::npos;
                        });
  int value = 0;  // an error of MPI itself, which must come back and not end the program
  const int code = MPI_Send(&value, 1, MPI_INT, world().size() + 5, 0, world().comm());
  BOOST_CHECK_THROW(mpi::check(code, "MPI_Send"), std::runtime_error);
}

BOOST_AUTO_TEST_CASE(accepts_equal_builds_and_names_the_odd_one) {
  auto& env = world();
  BOOST_CHECK_NO_THROW(mpi::require_same_build(env, 300, "0.1.0"));
  if (env.size() == 1) return;
  const bool odd = env.rank() == env.size() - 1;
  BOOST_CHECK_EXCEPTION(mpi::require_same_build(env, odd ? 301 : 300, "0.1.0"), std::runtime_error,
                        [&](const std::runtime_error& e) {
                          const std::string text = e.what();
                          return text.find("rank " + std::to_string(env.size() - 1)) != std::string::npos &&
                                 text.find("301 message types") != std::string::npos &&
                                 text.find('\n') == std::string::npos;
                        });
}

}  // namespace
}  // namespace fastserve::tests
