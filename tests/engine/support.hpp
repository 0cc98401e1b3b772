#pragma once

// What tests of the whole engine share: every rank runs every case; the leader checks, the others follow.

#include "actors/bring_up.hpp"
#include "launch/engine.hpp"

#include <boost/test/unit_test.hpp>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>

#include "model/safetensors_source.hpp"
#include "model/sampler.hpp"
#include "model/stage.hpp"

namespace act = fastserve::actors;
namespace fs = std::filesystem;
namespace kern = fastserve::kernels;
namespace mod = fastserve::model;
using fastserve::launch::engine;
using fastserve::launch::options;

struct mpi_job {
  mpi_job() { env = std::make_unique<fastserve::mpi::environment>(); }
  ~mpi_job() { env.reset(); }
  static inline std::unique_ptr<fastserve::mpi::environment> env;
};
inline const fs::path tiny = fs::path{FASTSERVE_TEST_DATA} / "models" / "llama";
inline const fs::path stories = fs::path{FASTSERVE_SHARED_DATA} / "models" / "stories260K-hf";

inline boost::test_tools::assertion_result has_shared(boost::unit_test::test_unit_id) {
  const bool there = fs::exists(stories);
  if (!there) std::printf("skipped: the shared data folder is absent\n");
  return there;
}

inline options for_model(const fs::path& folder) {
  options o;
  o.what = fastserve::launch::command::console;
  o.model = folder.string();
  o.engine.dtype = kern::dtype::f32;
  o.engine.threads = 1;
  return o;
}

struct answer {
  std::vector<std::int32_t> ids;
  std::vector<mod::sampled_token> tokens;
  std::string text;
  act::answer_done done;
};

// Collects answers; wait() until so many have ended.
class collector final : public act::answer_sink {
 public:
  void on_token(const act::answer_token& t) override {
    const std::lock_guard lock{mutex_};
    auto& a = answers_[key(t.request, t.choice)];
    a.ids.push_back(t.token.token);
    a.tokens.push_back(t.token);
    a.text += t.text;
    if (on_token_) on_token_(t);
  }
  void on_done(const act::answer_done& d) override {
    const std::lock_guard lock{mutex_};
    auto& a = answers_[key(d.request, d.choice)];
    BOOST_TEST(a.done.finish_reason.empty(), "request " << d.request << " ended twice");
    a.text += d.text;
    a.done = d;
    ++ended_;
    changed_.notify_all();
  }
  std::map<std::uint64_t, answer> wait(std::size_t count) {
    std::unique_lock lock{mutex_};
    BOOST_REQUIRE(changed_.wait_for(lock, std::chrono::minutes{4}, [&] { return ended_ >= count; }));
    return answers_;
  }
  std::function<void(const act::answer_token&)> on_token_;
  static std::uint64_t key(std::uint64_t request, std::int32_t choice) {
    return request + (static_cast<std::uint64_t>(choice) << 32);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, answer> answers_;
  std::size_t ended_ = 0;
};

// Runs `body` on the leader with a served model; the other ranks serve.
template <class Body>
void with_engine(const options& settings, Body body) {
  engine e{*mpi_job::env, settings};
  if (!mpi_job::env->leader()) {
    BOOST_TEST(e.follow() == 0);
    return;
  }
  struct finisher {
    engine& e;
    ~finisher() { e.finish(0); }
  } end{e};
  const auto error = e.bring_up([](const act::load_progress&) {});
  BOOST_REQUIRE_MESSAGE(error.empty(), error);
  body(e);
}

// The counts once nothing is in flight: of an answer that has ended a row may be.
inline act::scheduler_stats stats_at_rest(engine& e) {
  auto s = e.stats();
  for (int i = 0; i < 1000 && s.kv_tokens_free < s.kv_tokens; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
    s = e.stats();
  }
  return s;
}

inline act::submit ask(std::uint64_t id, std::vector<std::int32_t> prompt, std::int32_t max_tokens) {
  act::submit s;
  s.request = id;
  s.prompt = std::move(prompt);
  s.sampling.temperature = 0;
  s.stop.max_tokens = max_tokens;
  return s;
}

// The model in one piece, one sequence at a time, without actors: what every other way must equal.
class solo {
 public:
  explicit solo(const fs::path& folder, kern::dtype kv_type = kern::dtype::f32)
      : arch_{mod::read_architecture(folder / "config.json")},
        source_{folder},
        backend_{kern::make_cpu_backend(1)},
        stream_{backend_->make_stream()},
        stage_{arch_, source_, {{0, arch_.layers, true, true}, kern::dtype::f32, 512, 1}, *backend_},
        kv_{backend_->make_kv_store(stage_.kv_shape(64, kv_type))} {}

  const mod::architecture& arch() const { return arch_; }

  std::vector<std::int32_t> run(const act::submit& s) {
    std::vector<std::int32_t> answer;
    auto rows = s.prompt;
    std::int32_t position = 0;
    while (true) {
      kern::step_layout step;
      step.token_ids = rows;
      for (std::size_t i = 0; i < rows.size(); ++i)
        step.positions.push_back(position + static_cast<std::int32_t>(i));
      step.sequences = {{0, static_cast<std::int32_t>(rows.size()), position, {}}};
      for (std::int32_t b = 0; b < 64; ++b) step.sequences[0].blocks.push_back(b);
      step.sampled_rows = {static_cast<std::int32_t>(rows.size()) - 1};
      stage_.forward(step, *kv_, *stream_);
      position += static_cast<std::int32_t>(rows.size());
      const auto* logits = static_cast<const float*>(backend_->host_read(stage_.logits(1), *stream_));
      const auto token = mod::sample({logits, static_cast<std::size_t>(arch_.vocab_size)}, s.sampling,
                                     static_cast<std::uint64_t>(position), s.prompt, answer, scratch_)
                             .token;
      answer.push_back(token);
      const bool eos = std::find(arch_.eos_ids.begin(), arch_.eos_ids.end(), token) != arch_.eos_ids.end();
      if ((eos && !s.stop.ignore_eos) || static_cast<std::int32_t>(answer.size()) == s.stop.max_tokens)
        return answer;
      rows = {token};
    }
  }

 private:
  mod::architecture arch_;
  mod::safetensors_source source_;
  std::unique_ptr<kern::backend> backend_;
  std::unique_ptr<kern::stream> stream_;
  mod::stage stage_;
  std::unique_ptr<kern::kv_store> kv_;
  mod::sampler_scratch scratch_;
};
