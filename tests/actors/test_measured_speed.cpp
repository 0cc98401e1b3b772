#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>

#include "../support/temporary_folder.hpp"
#include "actors/measured_speed.hpp"
#include "actors/model_work.hpp"

namespace actors = fastserve::actors;
namespace planner = fastserve::planner;
namespace kernels = fastserve::kernels;
namespace fs = std::filesystem;

namespace {

actors::rank_speed some_speed() { return {{1e11, 2e11, 3e11, 4e11, 5e11}, 3e10, 2e9, 4e-6, 1.25, 1.5}; }

}  // namespace

BOOST_AUTO_TEST_SUITE(measured_speed)

BOOST_AUTO_TEST_CASE(the_cache_finds_what_it_kept_and_nothing_else) {
  const temporary_folder folder;
  const actors::speed_cache cache{folder.path() / "deep" / "er"};
  BOOST_TEST(!cache.find("one").has_value());
  cache.keep("one", some_speed());
  const auto found = cache.find("one");
  BOOST_REQUIRE(found.has_value());
  BOOST_TEST(found->ops_per_s == some_speed().ops_per_s, boost::test_tools::per_element());
  BOOST_TEST(found->bytes_per_s == 3e10);
  BOOST_TEST(found->operation_s == 4e-6);
  BOOST_TEST(found->alone_bytes == 1.5);
  BOOST_TEST(!cache.find("two").has_value());
}

BOOST_AUTO_TEST_CASE(torn_and_foreign_files_count_as_none) {
  const temporary_folder folder;
  const actors::speed_cache cache{folder.path()};
  cache.keep("one", some_speed());
  fs::path file;
  for (const auto& entry : fs::directory_iterator{folder.path()}) file = entry.path();
  std::string whole;
  {
    std::ifstream in{file};
    whole.assign(std::istreambuf_iterator<char>{in}, {});
  }
  const auto put = [&](const std::string& text) { std::ofstream{file} << text; };
  for (std::size_t cut = 0; cut + 1 < whole.size(); ++cut) {
    put(whole.substr(0, cut));
    BOOST_TEST(!cache.find("one").has_value());
  }
  for (const char* bad : {"one\n", "two\nfastserve-speed-2 1 1 1 1 1 1 1 1 1 1 end\n",
                          "one\nfastserve-speed-2 1 1 1 1 1 -1 1 1 1 1 end\n",
                          "one\nfastserve-speed-2 1 1 1 1 1 nan 1 1 1 1 end\n",
                          "one\nfastserve-speed-0 1 1 1 1 1 1 1 1 1 1 end\n"}) {
    put(bad);
    BOOST_TEST(!cache.find("one").has_value());
  }
  put(whole);
  BOOST_TEST(cache.find("one").has_value());
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_written_is_no_error) {
  const actors::speed_cache cache{"/proc/none/of/these"};
  cache.keep("one", some_speed());
  BOOST_TEST(!cache.find("one").has_value());
}

BOOST_AUTO_TEST_CASE(a_measurement_has_all_figures) {
  const auto on = kernels::make_cpu_backend(1);
  const std::vector<planner::arithmetic> kinds{planner::arithmetic::int8};
  actors::speed_bench bench{*on, kinds};
  std::size_t met = 0;
  bench.measure_together([&] { ++met; });
  BOOST_TEST(met == actors::speed_bench::phases(kinds));
  bench.measure_alone();
  const auto& speed = bench.result();
  BOOST_TEST(speed.alone_ops >= 1);
  BOOST_TEST(speed.alone_bytes >= 1);
  BOOST_REQUIRE(speed.ops_per_s.size() == planner::arithmetics);
  BOOST_TEST(speed.ops_per_s[0] > 1e8);
  BOOST_TEST(speed.ops_per_s[3] > 1e8);
  BOOST_TEST(speed.ops_per_s[2] == 0);
  BOOST_TEST(speed.bytes_per_s > 1e7);
  BOOST_TEST(speed.elements_per_s > 1e5);
  BOOST_TEST(speed.operation_s > 0);
  BOOST_TEST(speed.operation_s < 0.01);
}

BOOST_AUTO_TEST_CASE(the_work_of_a_model_is_its_parameters) {
  const auto arch = fastserve::model::parse_architecture(
      R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
          "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 256,
          "rms_norm_eps": 1e-5, "hidden_act": "silu", "torch_dtype": "bfloat16"})",
      "x.json");
  const auto work = actors::work_of(arch, {kernels::dtype::bf16, {}, kernels::dtype::bf16});
  double parameters = 0;
  for (const auto& p : work.layer.products) parameters += p.parameters;
  BOOST_TEST(2 * parameters == arch.layer_flops());
  BOOST_TEST(work.layer_bytes ==
             2 * parameters + 4 * (static_cast<double>(arch.layer_parameters()) - parameters));
  BOOST_TEST(work.layer.kv_bytes == 2 * 2 * 16 * 2);
  BOOST_TEST(work.head.parameters == 6400);
  const auto small =
      actors::work_of(arch, {kernels::dtype::bf16,
                             kernels::quantized_format{4, 32, kernels::zero_kind::none, kernels::dtype::f16},
                             kernels::dtype::i8});
  BOOST_TEST(small.layer_bytes < work.layer_bytes / 3);
  BOOST_TEST((small.head.as == planner::arithmetic::int8));
  BOOST_TEST((small.layer.products[0].as == planner::arithmetic::int4));
}

BOOST_AUTO_TEST_SUITE_END()
