#include <cstdlib>
#include <limits>

#include "fixture.hpp"
#include "kernels/limits.hpp"

using namespace fastserve::kernels;

BOOST_AUTO_TEST_SUITE(choice)

namespace {

std::string refusal(const std::string& isa) {
  try {
    make_cpu_backend(1, isa);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

/// Sets FASTSERVE_ISA for a scope.
class forced_isa {
 public:
  explicit forced_isa(const char* name) {
    if (const char* old = std::getenv("FASTSERVE_ISA")) before_ = old;
    setenv("FASTSERVE_ISA", name, 1);
  }
  ~forced_isa() {
    if (before_.empty()) {
      unsetenv("FASTSERVE_ISA");
    } else {
      setenv("FASTSERVE_ISA", before_.c_str(), 1);
    }
  }

 private:
  std::string before_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(portable_is_always_there_and_the_best_is_taken) {
  const auto here = supported_isas();
  BOOST_REQUIRE(!here.empty());
  BOOST_TEST(here.front() == "portable");
  const forced_isa none{""};
  BOOST_TEST(make_cpu_backend(1)->info().name == make_cpu_backend(1, here.back())->info().name);
}

BOOST_AUTO_TEST_CASE(the_environment_forces_a_choice) {
  const forced_isa portable{"portable"};
  BOOST_TEST(make_cpu_backend(1)->info().name.find("portable") == 0U);
  BOOST_TEST(make_cpu_backend(1, supported_isas().back())->info().name ==
             make_cpu_backend(1, supported_isas().back())->info().name);
}

BOOST_AUTO_TEST_CASE(an_unknown_set_is_refused_with_the_choices) {
  const auto by_argument = refusal("sse9");
  BOOST_TEST(by_argument.find("'sse9' is unknown") != std::string::npos);
  for (const auto& isa : supported_isas()) BOOST_TEST(by_argument.find(isa) != std::string::npos);
  const forced_isa wrong{"neon9"};
  const auto by_environment = refusal("");
  BOOST_TEST(by_environment.find("FASTSERVE_ISA") == 0U);
  BOOST_TEST(by_environment.find("neon9") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(memory_is_aligned_and_refused_when_too_much) {
  bench_top top{""};
  for (const std::size_t bytes : {1UL, 64UL, 1000UL, 5000000UL}) {
    const auto memory = top.ops->allocate(bytes);
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0U);
    BOOST_TEST(memory.bytes() >= bytes);
    static_cast<char*>(memory.data())[bytes - 1] = 1;
  }
  BOOST_CHECK_THROW(top.ops->allocate(std::size_t{1} << 50), std::bad_alloc);
  BOOST_CHECK_THROW(top.ops->allocate(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
  kv_shape huge{1 << 20, 1 << 30, 1 << 20, 1 << 20, dtype::f32};
  BOOST_CHECK_THROW(top.ops->make_kv_store(huge), std::bad_alloc);
}

BOOST_AUTO_TEST_CASE(the_machine_has_limits) {
  const auto info = bench_top{"", 2}.ops->info();
  BOOST_TEST(info.threads == 2);
  BOOST_TEST(info.memory_bytes > std::size_t{1} << 20);
  BOOST_TEST(measure_read_bandwidth(1) > 1e8);
  for (const auto& isa : supported_isas()) {
    BOOST_TEST(measure_peak_ops(dtype::f32, 1, isa) > 1e8);
    BOOST_TEST(measure_peak_ops(dtype::bf16, 1, isa) > 1e8);
  }
}

BOOST_AUTO_TEST_SUITE_END()
