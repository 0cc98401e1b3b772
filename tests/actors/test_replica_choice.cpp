#include <boost/test/unit_test.hpp>
#include <numeric>

#include "actors/model_work.hpp"
#include "actors/replica_choice.hpp"

using namespace fastserve;

namespace {

constexpr int hosts = 4;

actors::rank_context some_model() {
  actors::rank_context out;
  out.architecture = model::parse_architecture(
      R"({"model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16,
          "num_key_value_heads": 16, "intermediate_size": 4096, "vocab_size": 32000,
          "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "hidden_act": "silu",
          "torch_dtype": "bfloat16"})",
      "x.json");
  out.compute_type = out.kv_type = kernels::dtype::bf16;
  return out;
}

struct job {
  actors::rank_context model = some_model();
  std::map<int, actors::node_profile> profiles;
  actors::rank_speeds speeds;
  planner::plan_wishes wishes;
  std::size_t most = hosts;  // pipelines that fit

  explicit job(double memory) {
    for (int r = 0; r < hosts; ++r) {
      profiles[r].rank = r;
      profiles[r].host = "host" + std::to_string(r);
      profiles[r].memory_bytes = static_cast<std::uint64_t>(memory);
    }
    wishes.prompt_tokens = wishes.answer_tokens = 128;
  }

  // Neighbours together, equal parts.
  std::vector<planner::pipeline_plan> layout(std::size_t pipelines) const {
    std::vector<planner::pipeline_plan> out(pipelines);
    int rank = 0;
    for (std::size_t i = 0; i < pipelines; ++i) {
      const int count = hosts / static_cast<int>(pipelines) + (i < hosts % pipelines ? 1 : 0);
      for (int s = 0; s < count; ++s) out[i].stages.push_back({rank++, 16 * s / count, 16 * (s + 1) / count});
      if (pipelines > most) out[i].error = "too small";
    }
    return out;
  }
  actors::replica_choice choose(double kv_tokens = 0) const {
    std::vector<int> ranks(hosts);
    std::iota(ranks.begin(), ranks.end(), 0);
    return actors::choose_replicas(model, profiles, speeds, ranks, wishes, kv_tokens,
                                   [this](std::size_t n) { return layout(n); });
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(replica_choice)

BOOST_AUTO_TEST_CASE(a_pipeline_a_rank_where_there_is_room) {
  const auto chosen = job{64e9}.choose();
  BOOST_TEST(chosen.pipelines == 4U);
  BOOST_TEST(chosen.reason.starts_with("4 pipelines of 4 ranks: "), chosen.reason);
  BOOST_TEST(chosen.reason.find("% of the answer tokens a second are expected of ") != std::string::npos,
             chosen.reason);
}

BOOST_AUTO_TEST_CASE(as_many_as_fit) {
  job j{64e9};
  j.most = 2;
  BOOST_TEST(j.choose().pipelines == 2U);
  j.most = 1;
  const auto one = j.choose();
  BOOST_TEST(one.pipelines == 1U);
  BOOST_TEST(one.reason == "1 pipeline of 4 ranks: the only number that fits");
  j.most = 0;  // the plan itself will say why
  BOOST_TEST(j.choose().pipelines == 1U);
}

// Where the weights leave each rank the keys and values of few sequences, cutting them leaves room for many.
BOOST_AUTO_TEST_CASE(memory_for_keys_and_values_counts) {
  job j{0};
  const auto weights =
      actors::work_of(j.model.architecture, {kernels::dtype::bf16, {}, kernels::dtype::bf16}).bytes();
  for (auto& [rank, p] : j.profiles) p.memory_bytes = static_cast<std::uint64_t>(1.05 * weights);
  const auto chosen = j.choose();
  BOOST_TEST(chosen.pipelines < 4U, chosen.reason);
}

// A pipeline with a rank that is far slower is as slow as that rank; alone it harms nobody.
BOOST_AUTO_TEST_CASE(measured_speeds_count) {
  job j{64e9};
  for (int r = 0; r < hosts; ++r) {
    auto& s = j.speeds[r];
    const double slow = r == 0 ? 20 : 1;
    s.ops_per_s.assign(planner::arithmetics, 1e11 / slow);
    s.bytes_per_s = 1e10 / slow;
    s.elements_per_s = 1e9 / slow;
  }
  const auto chosen = j.choose();
  BOOST_TEST(chosen.pipelines == 4U, chosen.reason);
  // Were all equal, other numbers would do as well.
  const auto percent = std::stoi(chosen.reason.substr(chosen.reason.find(": ") + 2));
  BOOST_TEST(percent < 75, chosen.reason);
  // One that was not measured makes all of them equal.
  j.speeds.erase(2);
  BOOST_TEST(j.choose().reason == job{64e9}.choose().reason);
}

BOOST_AUTO_TEST_SUITE_END()
