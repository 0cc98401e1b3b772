// A shard that is told steps whose tokens are not known yet gives the answers of one that is told one step
// after the other. On the CPU, the emulated GPU or a real one.
#include "actors/shard.hpp"

#include <stdlib.h>

#include <boost/test/unit_test.hpp>
#include <deque>
#include <map>
#include <random>

#include "../support/device.hpp"
#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/dispatch.hpp"
#include "model/random_source.hpp"
#include "scheduler/scheduler.hpp"

namespace act = fastserve::actors;
namespace kern = fastserve::kernels;
namespace mod = fastserve::model;
namespace sched = fastserve::scheduler;

namespace {

using fastserve::test::make_device;
using fastserve::test::on_cuda;

const auto compute_type = on_cuda ? kern::dtype::bf16 : kern::dtype::f32;
const std::uint64_t most_requests = fastserve::test::emulated ? 16 : 100;

mod::architecture small_model() {
  return mod::parse_architecture(
      R"({"model_type": "qwen3", "vocab_size": 50, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 256})",
      "test");
}

/// The shard of a rank that has the whole model.
class rank {
 public:
  explicit rank(const sched::limits& limits, std::unique_ptr<kern::backend> on = make_device()) {
    context_.architecture = small_model();
    context_.compute_type = compute_type;
    context_.kv_type = compute_type;
    context_.backend = std::move(on);
    context_.open_weights = [this] {
      return std::make_unique<mod::random_source>(context_.architecture, compute_type);
    };
    context_.report_progress = [](const act::load_progress&) {};
    shard_ = std::make_unique<act::shard>(context_);
    put_up(1, limits);
  }
  act::stage_ready put_up(std::uint32_t epoch, const sched::limits& limits) {
    act::stage_assignment place;
    place.epoch = epoch;
    place.last_layer = context_.architecture.layers;
    place.max_rows = limits.token_budget;
    place.max_sequences = limits.max_batch;
    const auto ready = shard_->load(place);
    BOOST_REQUIRE_MESSAGE(ready.error.empty(), ready.error);
    auto shape = shard_->need().shape;
    shape.blocks = limits.kv_blocks;
    shard_->use({epoch, context_.backend->make_kv_store(shape)});
    return ready;
  }
  act::shard& operator*() { return *shard_; }
  act::shard* operator->() { return shard_.get(); }

 private:
  act::rank_context context_;
  std::unique_ptr<act::shard> shard_;
};

sched::limits small(bool ahead) {
  sched::limits l;
  l.max_batch = 6;
  l.token_budget = 32;
  l.kv_blocks = 30;
  l.max_context = 200;
  l.ahead = ahead;
  return l;
}

struct asked {
  sched::request what;
  mod::sampling_params how;
};

std::vector<asked> random_requests(unsigned seed, bool all_kinds) {
  std::mt19937 random{seed};
  std::vector<asked> out;
  for (std::uint64_t id = 1; id <= most_requests; ++id) {
    asked a;
    a.what.id = sched::request_id{id};
    for (auto n = 1 + random() % 40; n > 0; --n)
      a.what.prompt.push_back(static_cast<std::int32_t>(random() % 50));
    a.what.max_tokens = static_cast<std::int32_t>(1 + random() % 40);
    a.what.stop_ids = {7};
    a.how.seed = random();
    a.how.temperature = random() % 3 == 0 ? 0.0F : 1.5F;
    if (random() % 3 == 0) a.how.top_k = 20;
    if (all_kinds && random() % 4 == 0) a.how.repetition_penalty = 1.3F;
    if (all_kinds && random() % 4 == 0) a.how.logprobs = 2;
    a.what.runs_ahead = !a.how.penalizes() && a.how.logprobs == 0;
    out.push_back(std::move(a));
  }
  return out;
}

act::micro_batch message_of(const sched::scheduler& of, const sched::micro_batch& batch,
                            const std::vector<asked>& requests) {
  act::micro_batch out;
  out.epoch = 1;
  out.step = static_cast<std::uint64_t>(batch.step);
  out.followed = batch.followed;
  for (const auto& e : batch.entries) {
    const auto id = static_cast<std::uint64_t>(e.id);
    const auto blocks = sched::blocks_for(e.first_position + static_cast<std::int64_t>(e.tokens.size()));
    out.sequences.push_back(
        {id, e.first_position, static_cast<std::int32_t>(e.tokens.size()), blocks, e.samples ? 1 : 0});
    out.tokens.insert(out.tokens.end(), e.tokens.begin(), e.tokens.end());
    out.blocks.insert(out.blocks.end(), e.blocks.begin(), e.blocks.begin() + blocks);
    if (!e.samples) continue;
    const auto& a = requests.at(id - 1);
    act::draw_order order{id, a.how, {}, {}};
    if (a.how.penalizes()) {
      const auto all = of.tokens(e.id);
      const auto prompt = static_cast<std::ptrdiff_t>(a.what.prompt.size());
      order.prompt.assign(all.begin(), all.begin() + prompt);
      order.answer.assign(all.begin() + prompt, all.end());
    }
    out.draws.push_back(std::move(order));
  }
  return out;
}

struct outcome {
  std::map<std::uint64_t, std::vector<std::int32_t>> answers;
  int ahead = 0;   // rows of tokens that were to come
  int flying = 0;  // the most steps of which no result was there
};

// Serves the requests; every result is taken in before the next step is formed, as early or late as it comes.
outcome serve(rank& on, const std::vector<asked>& requests, bool ahead) {
  outcome out;
  sched::scheduler s{small(ahead)};
  for (const auto& a : requests) BOOST_REQUIRE(s.add(a.what, {}).empty());
  std::deque<act::step_result> results;
  int flying = 0;
  const auto add = [&](std::vector<act::step_result> more) {
    for (auto& r : more) {
      BOOST_REQUIRE_MESSAGE(r.error.empty(), r.error);
      results.push_back(std::move(r));
      --flying;
    }
  };
  sched::time now{};
  while (!s.idle()) {
    now += std::chrono::milliseconds{1};
    while (const auto batch = s.schedule(now)) {
      const auto message = message_of(s, *batch, requests);
      out.ahead +=
          static_cast<int>(std::count(message.tokens.begin(), message.tokens.end(), sched::coming_token));
      out.flying = std::max(out.flying, ++flying);
      add(on->run(message));
    }
    if (results.empty()) add(on->collect(true));
    BOOST_REQUIRE(!results.empty());
    const auto result = std::move(results.front());
    results.pop_front();
    std::vector<sched::drawn_token> drawn;
    for (const auto& t : result.tokens) drawn.push_back({sched::request_id{t.request}, t.token.token});
    for (const auto& p : s.complete(sched::step_id{result.step}, drawn, now))
      if (p.token >= 0) out.answers[static_cast<std::uint64_t>(p.id)].push_back(p.token);
    s.check_integrity();
  }
  BOOST_TEST(!on->waits());
  return out;
}

act::micro_batch decode_row(std::uint64_t step, std::int32_t position, std::int32_t token, bool followed) {
  act::micro_batch b{1, step, 0, 0, followed, {{5, position, 1, 1, 1}}, {token}, {0}, {}};
  b.draws.push_back({5, {}, {}, {}});
  return b;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(shard)

BOOST_AUTO_TEST_CASE(answers_are_the_same_a_step_ahead) {
  for (const bool all_kinds : {false, true}) {
    const auto requests = random_requests(3, all_kinds);
    rank on{small(true)};
    const auto plain = serve(on, requests, false);
    const auto ahead = serve(on, requests, true);
    BOOST_TEST(plain.answers.size() == requests.size());
    BOOST_TEST((plain.answers == ahead.answers));
    BOOST_TEST(plain.ahead == 0);
    BOOST_TEST(ahead.ahead > 20);
    BOOST_TEST(plain.flying == 1);
    if (on_cuda) BOOST_TEST(ahead.flying == 2);  // the device had both before the host had a token
  }
}

BOOST_AUTO_TEST_CASE(a_token_that_is_not_to_come_is_an_error) {
  rank on{small(true)};
  const auto error_of = [&](const act::micro_batch& b) {
    auto results = on->run(b);
    while (on->waits())
      for (auto& r : on->collect(true)) results.push_back(std::move(r));
    return results.back().error;
  };
  BOOST_TEST(error_of(decode_row(1, 0, -1, true)).find("does not draw") != std::string::npos);
  BOOST_TEST(error_of(decode_row(2, 0, 3, true)).empty());
  BOOST_TEST(error_of(decode_row(3, 1, -1, true)).empty());
  auto other = decode_row(4, 2, -1, true);
  other.sequences[0].request = 6;
  BOOST_TEST(error_of(other).find("does not draw") != std::string::npos);
  BOOST_TEST(error_of(decode_row(5, 2, -2, true)).find("below 0") != std::string::npos);
  auto two_rows = decode_row(6, 2, -1, true);
  two_rows.sequences[0].tokens = 2;
  two_rows.tokens.push_back(3);
  BOOST_TEST(error_of(two_rows).find("below 0") != std::string::npos);
}

// What is under way when the epoch ends is forgotten, and the next epoch's steps are not mixed up with it.
BOOST_AUTO_TEST_CASE(steps_of_an_old_epoch_are_forgotten) {
  rank on{small(true)};
  const auto requests = random_requests(4, false);
  const auto before = serve(on, requests, true);
  on->run(decode_row(1, 0, 3, true));
  on->run(decode_row(2, 1, -1, true));
  on.put_up(1, small(true));
  BOOST_TEST(!on->waits());
  const auto results = on->run(decode_row(3, 2, -1, false));
  BOOST_REQUIRE(results.size() == 1U);
  BOOST_TEST(results[0].error.find("does not draw") != std::string::npos);
  BOOST_TEST((serve(on, requests, true).answers == before.answers));
}

// A device that is behind, for whoever asks a mark.
class late_device final : public kern::cpu::cpu_backend {
 public:
  late_device() : cpu_backend{1, kern::cpu::choose_table("")} {}
  std::unique_ptr<kern::stream_mark> make_mark() override { return std::make_unique<mark>(*this); }
  int waits = 0;

 private:
  class mark final : public kern::stream_mark {
   public:
    explicit mark(late_device& of) : of_{of} {}
    bool passed() override { return false; }
    void wait() override { ++of_.waits; }

   private:
    late_device& of_;
  };
};

// Else its blocks would be taken for written while the device still writes them.
BOOST_AUTO_TEST_CASE(a_step_that_draws_nothing_is_done_when_the_device_is) {
  auto made = std::make_unique<late_device>();
  auto& device = *made;
  rank on{small(true), std::move(made)};
  auto chunk = decode_row(1, 0, 3, true);
  chunk.draws.clear();
  chunk.sequences[0].draws = 0;
  BOOST_TEST(on->run(chunk).empty());
  BOOST_TEST(on->collect().empty());
  BOOST_TEST(device.waits == 0);
  const auto results = on->collect(true);
  BOOST_REQUIRE(results.size() == 1U);
  BOOST_TEST(results[0].error.empty());
  BOOST_TEST(device.waits == 1);
  // As many are under way as may be.
  for (std::uint64_t step = 2; step <= 4; ++step) {
    chunk.step = step;
    chunk.sequences[0].first_position = static_cast<std::int32_t>(step);
    BOOST_TEST(on->run(chunk).size() == (step < 2 + kern::most_draws_begun ? 0U : 1U));
  }
  on.put_up(1, small(true));
}

// What another rank says becomes addresses.
BOOST_AUTO_TEST_CASE(a_step_that_does_not_add_up_is_an_error) {
  rank on{small(true)};
  const auto refused = [&](auto spoil) {
    auto step = decode_row(1, 0, 3, false);
    spoil(step, step.sequences[0]);
    const auto results = on->run(step);
    BOOST_REQUIRE(results.size() == 1U);
    BOOST_TEST(results[0].error.find("step: ") != std::string::npos);
  };
  refused([](auto&, auto& s) { s.tokens = 0; });
  refused([](auto&, auto& s) { s.tokens = 2; });
  refused([](auto&, auto& s) { s.blocks = -1; });
  refused([](auto&, auto& s) { s.blocks = 2; });
  refused([](auto&, auto& s) { s.draws = 2; });
  refused([](auto&, auto& s) { s.draws = -1; });
  refused([](auto&, auto& s) { s.first_position = -1; });
  refused([](auto&, auto& s) { s.first_position = kern::kv_block_tokens; });
  refused([](auto& step, auto&) { step.blocks[0] = -1; });
  refused([](auto& step, auto&) { step.blocks[0] = small(true).kv_blocks; });
  refused([](auto& step, auto&) { step.tokens[0] = 50; });
  refused([](auto& step, auto& s) {
    s.tokens = small(true).token_budget + 1;
    s.blocks = 3;
    step.tokens.assign(static_cast<std::size_t>(s.tokens), 3);
    step.blocks = {0, 1, 2};
  });
  auto sound = decode_row(1, 0, 3, false);
  const auto results = on->run(sound);
  BOOST_REQUIRE(results.size() == 1U);
  BOOST_TEST(results[0].error.empty());
}

BOOST_AUTO_TEST_CASE(says_whether_it_gains) {
  rank on{small(true)};
  const auto with = [&](const char* value) {
    if (value != nullptr) ::setenv("FASTSERVE_AHEAD", value, 1);
    const auto gains = on.put_up(1, small(true)).runs_ahead;
    ::unsetenv("FASTSERVE_AHEAD");
    return gains;
  };
  BOOST_TEST(with(nullptr) == make_device()->draws());
  BOOST_TEST(with("1"));
  BOOST_TEST(!with("0"));
}

BOOST_AUTO_TEST_SUITE_END()
