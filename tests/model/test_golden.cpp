// Logits of tiny models of every architecture against the reference library's, for every instruction set
// here, or on a GPU or the emulated one (tests/support/device.hpp).
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <iostream>

#include "../support/device.hpp"
#include "golden.hpp"
#include "model/model_folder.hpp"

namespace fastserve::model::test {
namespace {

using kernels::dtype;

using fastserve::test::devices;
using fastserve::test::emulated;
using fastserve::test::make_device;

/// The emulated GPU takes its time: one model of each kind of weights there.
std::vector<golden> goldens_here() {
  auto all = all_goldens();
  if (emulated) {
    std::erase_if(all, [](const golden& g) {
      return g.name != "gpt2_bf16" && g.name != "qwen2_f16" && g.name != "qwen3_bf16";
    });
  }
  return all;
}

struct run_result {
  logit_rows prompt;
  logit_rows decode;
};

run_result run(const golden& g, kernels::backend& on, std::int32_t stages, dtype compute, dtype kv,
               std::size_t chunk) {
  model_folder folder(g.folder);
  pipeline p(folder.arch(), folder.weights(), on, stages, compute, kv);
  run_result out;
  out.prompt = p.feed(g.prompt_ids, chunk);
  // the reference's tokens, not ours: one slip must not change the rest
  for (std::size_t i = 0; i + 1 < g.greedy_ids.size(); ++i)
    out.decode.push_back(p.feed({g.greedy_ids[i]}).front());
  return out;
}

/// Worst row against the golden; checks the greedy tokens on the way.
double compare(const golden& g, const run_result& r) {
  double worst = relative_error(r.prompt.back(), g.rows[0]);
  BOOST_CHECK_EQUAL(argmax(r.prompt.back()), g.greedy_ids[0]);
  for (std::size_t i = 0; i < r.decode.size(); ++i) {
    worst = std::max(worst, relative_error(r.decode[i], g.rows[i + 1]));
    BOOST_CHECK_EQUAL(argmax(r.decode[i]), g.greedy_ids[i + 1]);
  }
  for (std::size_t i = 0; i < g.prefill_positions.size(); ++i)
    worst = std::max(worst, relative_error(r.prompt[static_cast<std::size_t>(g.prefill_positions[i])],
                                           g.rows[g.greedy_ids.size() + i]));
  return worst;
}

dtype type_of(const std::string& name) {
  return name == "bfloat16" ? dtype::bf16 : name == "float16" ? dtype::f16 : dtype::f32;
}

void check_equal(const run_result& a, const run_result& b) {
  BOOST_CHECK(a.prompt == b.prompt);
  BOOST_CHECK(a.decode == b.decode);
}

}  // namespace

BOOST_AUTO_TEST_CASE(all_architectures_are_covered) {
  std::vector<std::string> types;
  for (const auto& g : all_goldens()) types.push_back(model_folder(g.folder).arch().model_type);
  for (const auto* type : {"gpt2", "llama", "mistral", "qwen2", "qwen3"})
    BOOST_CHECK_MESSAGE(std::find(types.begin(), types.end(), type) != types.end(), type);
}

BOOST_AUTO_TEST_CASE(f32_matches_the_reference) {
  for (const auto& isa : devices()) {
    const auto ops = make_device(2, isa);
    for (const auto& g : goldens_here()) {
      BOOST_TEST_CONTEXT(g.name << ", " << isa) {
        // 16-bit weights in f32 arithmetic are what the reference computed too
        const auto error = compare(g, run(g, *ops, 1, dtype::f32, dtype::f32, 0));
        BOOST_CHECK_LE(error, 1e-4);
        std::cout << g.name << ", " << isa << ", f32: " << error << "\n";
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(sixteen_bit_compute_matches_the_reference) {
  for (const auto& isa : devices()) {
    const auto ops = make_device(2, isa);
    for (const auto& g : goldens_here()) {
      const auto type = type_of(g.weights_dtype);
      if (type == dtype::f32) continue;
      BOOST_TEST_CONTEXT(g.name << ", " << isa) {
        const auto error = compare(g, run(g, *ops, 1, type, type, 0));
        BOOST_CHECK_LE(error, g.tolerance);
        BOOST_CHECK_EQUAL(g.tolerance, 2e-2);
        std::cout << g.name << ", " << isa << ", " << name_of(type) << ": " << error << "\n";
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(bits_do_not_depend_on_chunks_or_stages) {
  for (const auto& isa : devices()) {
    const auto ops = make_device(2, isa);
    for (const auto& g : goldens_here()) {
      const auto layers = model_folder(g.folder).arch().layers;
      for (const auto type : {dtype::f32, dtype::bf16, dtype::f16}) {
        if (emulated && type != dtype::bf16) continue;
        BOOST_TEST_CONTEXT(g.name << ", " << isa << ", " << name_of(type)) {
          const auto whole = run(g, *ops, 1, type, type, 0);
          for (const std::size_t chunk : {1, 3, 7})
            if (!emulated || chunk == 3) check_equal(whole, run(g, *ops, 1, type, type, chunk));
          for (std::int32_t stages = 2; stages <= std::min(layers, 3); ++stages)
            check_equal(whole, run(g, *ops, stages, type, type, 5));
        }
      }
    }
  }
}

/// Of a CPU; a GPU's are not chosen.
BOOST_AUTO_TEST_CASE(bits_do_not_depend_on_threads) {
  if (fastserve::test::on_cuda) return;
  const auto one = make_device(1);
  const auto two = make_device(2);
  for (const auto& g : goldens_here())
    check_equal(run(g, *one, 1, dtype::f32, dtype::f32, 0), run(g, *two, 1, dtype::f32, dtype::f32, 0));
}

}  // namespace fastserve::model::test
