// What the planner is told of a model's bytes is what loading makes of them.
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <set>
#include <string>

#include "actors/model_work.hpp"
#include "model/model_folder.hpp"
#include "model/stage_weights.hpp"

using namespace fastserve;
namespace fs = std::filesystem;

namespace {

double loaded_bytes(const fs::path& folder, const model::architecture& arch, const model::weight_form& form) {
  const auto on = kernels::make_cpu_backend(1);
  const auto stream = on->make_stream();
  const auto source = model::open_weights(folder);
  const model::stage_weights layers{arch, *source, {0, arch.layers, false, false}, form, *on, *stream, {}};
  return static_cast<double>(layers.bytes());
}

double planned_bytes(const planner::model_work& work) { return work.layers * work.layer_bytes; }

}  // namespace

BOOST_AUTO_TEST_SUITE(model_work)

BOOST_AUTO_TEST_CASE(integers_of_the_files_are_counted_as_such) {
  int forms = 0;
  for (const auto& entry : fs::directory_iterator(FASTSERVE_TEST_DATA "/quantized")) {
    BOOST_TEST_CONTEXT(entry.path().filename().string()) {
      const auto arch = model::read_model(entry.path());
      const auto stored = model::read_stored_form(entry.path(), arch, false);
      BOOST_REQUIRE(stored.has_value());
      BOOST_TEST(stored->layers.size() == static_cast<std::size_t>(arch.layers));
      const auto work = actors::work_of(arch, {arch.stored_type, {}, arch.stored_type, stored});
      const auto loaded = loaded_bytes(entry.path(), arch, {arch.stored_type, {}});
      // Matrices this small are mostly padding where a whole row shares its scale.
      const auto by_row = std::set<std::string>{"w8a8", "w8a8_zeros", "gptq_v2_8bit_row"};
      if (by_row.contains(entry.path().filename().string()))
        BOOST_TEST(stored->layers.front().down->bits < 9);
      else
        BOOST_TEST(planned_bytes(work) == loaded, boost::test_tools::tolerance(0.1));
      const auto bits = stored->layers.front().down ? stored->layers.front().down->code_bits : 0;
      const auto as = work.layer.products.back().as;
      BOOST_TEST(
          (bits == 4 ? as == planner::arithmetic::int4 : bits != 8 || as == planner::arithmetic::int8));
      ++forms;
    }
  }
  BOOST_TEST(forms > 3);
}

BOOST_AUTO_TEST_CASE(fp8_is_counted_as_it_is_loaded) {
  const fs::path folder = FASTSERVE_TEST_DATA "/quantized/fp8_channel";
  const auto arch = model::read_model(folder);
  const auto work = [&](bool kept) {
    const auto stored = model::read_stored_form(folder, arch, kept);
    BOOST_REQUIRE(stored.has_value());
    BOOST_TEST(stored->layers.front().up.has_value() == kept);
    return actors::work_of(arch, {arch.stored_type, {}, arch.stored_type, stored});
  };
  BOOST_TEST((work(true).layer.products.back().as == planner::arithmetic::int8));
  BOOST_TEST((work(false).layer.products.back().as == planner::arithmetic::f16));
  // 64 columns share a scale of 4 bytes.
  BOOST_TEST(work(true).layer.products.back().bytes * 2 * 64 / 68 == work(false).layer.products.back().bytes,
             boost::test_tools::tolerance(1e-6));
}

BOOST_AUTO_TEST_CASE(rounding_while_loading_is_counted) {
  const fs::path demo = FASTSERVE_SOURCE_DIR "/models/demo";
  const auto arch = model::read_model(demo);
  BOOST_TEST(!model::read_stored_form(demo, arch, true).has_value());
  const kernels::quantized_format int8{8, 128, kernels::zero_kind::none, kernels::dtype::f16};
  const kernels::quantized_format int4{4, 32, kernels::zero_kind::none, kernels::dtype::f16};
  for (const auto& format :
       {std::optional<kernels::quantized_format>{}, std::optional{int8}, std::optional{int4}}) {
    const auto work = actors::work_of(arch, {arch.stored_type, format, arch.stored_type});
    BOOST_TEST(planned_bytes(work) == loaded_bytes(demo, arch, {arch.stored_type, format}),
               boost::test_tools::tolerance(0.03));
  }
}

BOOST_AUTO_TEST_SUITE_END()
