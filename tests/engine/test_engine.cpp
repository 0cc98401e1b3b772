// The whole engine, as the program runs it: actors, transport and stages over the ranks of an MPI job. Every
// rank runs every case; the leader checks, the others follow.
#include <unistd.h>

#include "support.hpp"

BOOST_TEST_GLOBAL_FIXTURE(mpi_job);

// Greedy answers of a known model, token for token, on any number of ranks.
BOOST_AUTO_TEST_CASE(writes_the_golden_story, *boost::unit_test::precondition(has_shared)) {
  with_engine(for_model(stories), [](engine& e) {
    const auto reference = nlohmann::json::parse(std::ifstream{stories / "reference.json"});
    auto ids = reference["greedy_ids"].get<std::vector<std::int32_t>>();
    ids.erase(ids.begin());  // BOS
    std::ifstream file{stories.parent_path() / "stories260K" / "golden_greedy_200.txt"};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};

    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    front_end->send(ask(1, {1}, static_cast<std::int32_t>(ids.size())));
    const auto got = answers.wait(1).at(1);
    BOOST_TEST(got.ids == ids, boost::test_tools::per_element());
    BOOST_TEST(got.done.finish_reason == "length");
    const auto trimmed = got.text.substr(got.text.find_first_not_of(' '));
    BOOST_TEST(text.find(trimmed) == 0U, "got:  " << trimmed << "\nwant: " << text);
  });
}

// Ranks are emptied one after another while they compute, down to one: no answer is lost, told twice or other
// than it would have been.
BOOST_AUTO_TEST_CASE(draining_ranks_changes_no_answer) {
  const auto ranks = mpi_job::env->size();
  if (ranks < 2) return;
  with_engine(for_model(tiny), [ranks](engine& e) {
    solo alone{tiny};
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    std::vector<act::submit> asked;
    for (std::uint64_t id = 1; id <= 60; ++id) {
      asked.push_back(ask(id, {1, static_cast<std::int32_t>(2 + id)}, 100));
      asked.back().stop.ignore_eos = true;
      front_end->send(asked.back());
    }
    BOOST_TEST(!e.drain(ranks).empty());
    for (int rank = ranks - 1; rank >= 1; --rank) {
      std::string refusal;
      for (int i = 0; i < 500; ++i) {  // until the last one is over
        refusal = e.drain(rank);
        if (refusal.find("try again") == std::string::npos) break;
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
      }
      BOOST_TEST(refusal.empty(), refusal);
      BOOST_TEST(!e.drain(rank).empty());
    }
    const auto got = answers.wait(asked.size());
    for (const auto& a : asked)
      BOOST_TEST(got.at(a.request).ids == alone.run(a), boost::test_tools::per_element());
    BOOST_TEST(e.drain(0).find("no rank would be left") != std::string::npos);
    BOOST_TEST(e.layout().limits.stages == 1);
    BOOST_TEST(e.layout().pipelines[0].epoch ==
               e.loading_ranks());  // a rank without layers is emptied at once
  });
}

// Two thousand prompts of random lengths and ways of sampling, all in flight at once, chunked and batched as
// it comes: each must equal its solo run.
BOOST_AUTO_TEST_CASE(every_answer_equals_its_solo_run) {
  auto settings = for_model(tiny);
  settings.scheduler.token_budget = 48;
  settings.scheduler.max_batch = 16;
  with_engine(settings, [](engine& e) {
    std::mt19937 random{11};
    const auto vocab = static_cast<std::uint32_t>(e.architecture().vocab_size);
    const auto context = static_cast<std::uint32_t>(e.layout().limits.max_context);
    std::vector<act::submit> requests;
    for (std::uint64_t id = 1; id <= 2000; ++id) {
      std::vector<std::int32_t> prompt(1 + random() % std::min(100U, context - 12));
      for (auto& t : prompt) t = static_cast<std::int32_t>(random() % vocab);
      auto r = ask(id, std::move(prompt), static_cast<std::int32_t>(1 + random() % 10));
      r.stop.ignore_eos = random() % 2 == 0;
      r.sampling.seed = random();
      if (random() % 3 != 0) r.sampling.temperature = 0.3F + static_cast<float>(random() % 100) / 60.0F;
      if (random() % 3 == 0) r.sampling.top_k = static_cast<std::int32_t>(1 + random() % 20);
      if (random() % 3 == 0) r.sampling.top_p = 0.8F;
      if (random() % 4 == 0) r.sampling.repetition_penalty = 1.3F;
      if (random() % 4 == 0) r.sampling.presence_penalty = 0.5F;
      requests.push_back(std::move(r));
    }
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    for (const auto& r : requests) front_end->send(r);
    const auto got = answers.wait(requests.size());
    solo alone{tiny};
    std::size_t different = 0;
    for (const auto& r : requests) {
      const auto& a = got.at(r.request);
      if (a.ids != alone.run(r)) ++different;
      BOOST_REQUIRE(a.done.error.empty());
      BOOST_REQUIRE_EQUAL(a.done.completion_tokens, static_cast<std::int32_t>(a.ids.size()));
      BOOST_REQUIRE_EQUAL(a.done.prompt_tokens, static_cast<std::int32_t>(r.prompt.size()));
    }
    BOOST_TEST(different == 0U);
    const auto s = stats_at_rest(e);
    BOOST_TEST(s.running + s.waiting == 0U);
    BOOST_TEST(s.kv_tokens == s.kv_tokens_free);
    BOOST_TEST(s.finished == requests.size());
  });
}

// The same for every type of keys and values.
BOOST_AUTO_TEST_CASE(answers_equal_their_solo_runs_in_every_kv_type) {
  for (const auto type : {kern::dtype::f16, kern::dtype::bf16, kern::dtype::i8}) {
    auto settings = for_model(tiny);
    settings.scheduler.token_budget = 24;
    settings.scheduler.max_batch = 8;
    settings.kv_cache.kv_dtype = type;
    settings.kv_cache.kv_tokens = 640;  // requests preempt each other
    settings.scheduler.policy = "sj-mlfq";
    with_engine(settings, [&](engine& e) {
      std::mt19937 random{12};
      std::vector<act::submit> requests;
      for (std::uint64_t id = 1; id <= 100; ++id) {
        std::vector<std::int32_t> prompt(1 + random() % 90);
        for (auto& t : prompt) t = static_cast<std::int32_t>(random() % 90);
        auto r = ask(id, std::move(prompt), static_cast<std::int32_t>(1 + random() % 20));
        r.stop.ignore_eos = true;
        r.sampling.seed = random();
        r.sampling.temperature = 1.0F;
        requests.push_back(std::move(r));
      }
      collector answers;
      const auto front_end = e.spawn_front_end(answers);
      for (const auto& r : requests) front_end->send(r);
      const auto got = answers.wait(requests.size());
      solo alone{tiny, type};
      for (const auto& r : requests)
        BOOST_TEST(got.at(r.request).ids == alone.run(r), boost::test_tools::per_element());
    });
  }
}

// A pool for a few of them: blocks go to memory, to disk and back on every rank, and no answer changes.
BOOST_AUTO_TEST_CASE(answers_survive_swapping) {
  struct room {
    const char* name;
    std::uint64_t memory, disk;
    bool caching;
  };
  for (const auto& r :
       {room{"memory", 4'000'000, 0, true}, room{"disk", 0, 4'000'000, true},
        room{"both, little", 60'000, 90'000, true}, room{"no prefix cache", 200'000, 400'000, false}}) {
    BOOST_TEST_CONTEXT(r.name) {
      auto settings = for_model(tiny);
      settings.scheduler.token_budget = 32;
      settings.scheduler.max_batch = 4;
      settings.scheduler.policy = "sj-mlfq";
      settings.scheduler.starvation_ms = 5;
      settings.scheduler.prefix_caching = r.caching;
      settings.kv_cache.kv_tokens = 600;
      settings.kv_cache.swap_space = r.memory;
      settings.kv_cache.swap_disk = r.disk;
      settings.kv_cache.swap_dir = fs::temp_directory_path().string();
      with_engine(settings, [&](engine& e) {
        std::mt19937 random{13};
        std::vector<act::submit> requests;
        for (std::uint64_t id = 1; id <= 120; ++id) {
          std::vector<std::int32_t> prompt(1 + random() % 120);
          for (auto& t : prompt) t = static_cast<std::int32_t>(random() % 130);
          auto s = ask(id, std::move(prompt), static_cast<std::int32_t>(1 + random() % 60));
          s.stop.ignore_eos = true;
          s.sampling.seed = random();
          s.sampling.temperature = 1.0F;
          requests.push_back(std::move(s));
        }
        collector answers;
        const auto front_end = e.spawn_front_end(answers);
        for (const auto& s : requests) front_end->send(s);
        const auto got = answers.wait(requests.size());
        solo alone{tiny};
        for (const auto& s : requests)
          BOOST_TEST(got.at(s.request).ids == alone.run(s), boost::test_tools::per_element());
        const auto c = stats_at_rest(e);
        BOOST_TEST(c.blocks_out > 0U);
        BOOST_TEST(c.blocks_in > 0U);
        BOOST_TEST(c.kv_tokens_free == c.kv_tokens);
        BOOST_TEST(c.swap_tokens_free == c.swap_tokens);
        std::printf("%s: %d blocks out, %d in\n", r.name, static_cast<int>(c.blocks_out),
                    static_cast<int>(c.blocks_in));
      });
    }
  }
}

// Each of several answers is what its seed gives alone, whatever the pool, with its prompt computed once.
BOOST_AUTO_TEST_CASE(choices_equal_their_solo_runs) {
  for (const std::int64_t kv_tokens : {0, 640}) {
    auto settings = for_model(tiny);
    settings.scheduler.token_budget = 40;
    settings.scheduler.max_batch = 12;
    settings.scheduler.policy = "sj-mlfq";
    settings.kv_cache.kv_tokens = kv_tokens;
    settings.kv_cache.swap_space = kv_tokens == 0 ? 0 : 1'000'000;
    with_engine(settings, [&](engine& e) {
      std::mt19937 random{14};
      std::vector<act::submit> requests;
      std::size_t answers_due = 0;
      std::uint64_t prompts = 0;
      for (std::uint64_t id = 1; id <= 60; ++id) {
        std::vector<std::int32_t> prompt(1 + random() % 80);
        for (auto& t : prompt) t = static_cast<std::int32_t>(random() % 130);
        auto s = ask(id, std::move(prompt), static_cast<std::int32_t>(1 + random() % 30));
        s.stop.ignore_eos = random() % 2 == 0;
        s.sampling.seed = random();
        s.sampling.temperature = id % 5 == 0 ? 0.0F : 1.0F;
        if (id % 3 == 0) s.sampling.repetition_penalty = 1.3F;
        s.choices = static_cast<std::int32_t>(1 + random() % 6);
        answers_due += static_cast<std::size_t>(s.choices);
        prompts += s.prompt.size();
        requests.push_back(std::move(s));
      }
      collector answers;
      const auto front_end = e.spawn_front_end(answers);
      for (const auto& s : requests) front_end->send(s);
      const auto got = answers.wait(answers_due);
      BOOST_TEST(got.size() == answers_due);
      solo alone{tiny};
      for (const auto& s : requests)
        for (std::int32_t i = 0; i < s.choices; ++i) {
          auto one = s;
          one.sampling.seed = mod::choice_seed(s.sampling.seed, i);
          const auto& a = got.at(collector::key(s.request, i));
          BOOST_TEST(a.ids == alone.run(one), boost::test_tools::per_element());
          BOOST_TEST(a.done.error == "");
          BOOST_TEST(a.done.prompt_tokens == static_cast<std::int32_t>(s.prompt.size()));
        }
      const auto c = stats_at_rest(e);
      BOOST_TEST(c.kv_tokens_free == c.kv_tokens);
      if (kv_tokens == 0) BOOST_TEST(c.prompt_tokens + c.prefix_hit_tokens == prompts);
    });
  }
}

// Under another salt nothing of a prompt is found, under the same one all of its full blocks are.
BOOST_AUTO_TEST_CASE(tenants_share_no_blocks) {
  with_engine(for_model(tiny), [](engine& e) {
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    std::uint64_t id = 0;
    const auto hits_with = [&](const std::string& salt) {
      const auto before = e.stats().prefix_hit_tokens;
      auto s = ask(++id, std::vector<std::int32_t>(50, 7), 2);
      s.cache_salt = salt;
      front_end->send(s);
      answers.wait(id);
      return e.stats().prefix_hit_tokens - before;
    };
    BOOST_TEST(hits_with("a") == 0U);
    BOOST_TEST(hits_with("b") == 0U);
    BOOST_TEST(hits_with("") == 0U);
    BOOST_TEST(hits_with("a") == 48U);
    BOOST_TEST(hits_with("b") == 48U);
    BOOST_TEST(hits_with("") == 48U);
    BOOST_TEST(hits_with("c") == 0U);
  });
}

// What is asked for with a higher priority comes first, though it came last.
BOOST_AUTO_TEST_CASE(priority_goes_first) {
  auto settings = for_model(tiny);
  settings.scheduler.max_batch = 1;
  settings.scheduler.policy = "fcfs";
  with_engine(settings, [](engine& e) {
    collector answers;
    std::vector<std::uint64_t> order;
    answers.on_token_ = [&](const act::answer_token& t) {
      if (std::find(order.begin(), order.end(), t.request) == order.end()) order.push_back(t.request);
    };
    const auto front_end = e.spawn_front_end(answers);
    for (std::uint64_t id = 1; id <= 6; ++id) {
      auto s = ask(id, {1, 2, 3}, 200);
      s.stop.ignore_eos = true;
      s.priority = id == 6 ? 5 : id == 5 ? -5 : 0;
      front_end->send(s);
    }
    answers.wait(6);
    BOOST_TEST(order.back() == 5U);
    const auto place = std::find(order.begin(), order.end(), 6U) - order.begin();
    BOOST_TEST(place <= e.layout().limits.stages);  // those began before it came
  });
}

BOOST_AUTO_TEST_CASE(refuses_what_cannot_run_and_goes_on) {
  with_engine(for_model(tiny), [](engine& e) {
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    const auto context = static_cast<std::size_t>(e.layout().limits.max_context);
    front_end->send(ask(1, std::vector<std::int32_t>(context, 3), 4));
    front_end->send(ask(2, {}, 4));
    auto bad = ask(3, {1, 2}, 4);
    bad.sampling.temperature = -1;
    front_end->send(bad);
    auto crowd = ask(5, {1, 2}, 4);
    crowd.choices = mod::most_choices + 1;
    front_end->send(crowd);
    front_end->send(ask(4, {1, 2}, 4));
    const auto got = answers.wait(4 + mod::most_choices);
    BOOST_TEST(got.at(5).done.error.find("n is 129, expected 1 to 128") != std::string::npos);
    BOOST_TEST(got.at(1).done.error.find("the context holds") != std::string::npos);
    BOOST_TEST(got.at(2).done.error.find("empty") != std::string::npos);
    BOOST_TEST(got.at(3).done.error.find("temperature") != std::string::npos);
    for (const auto id : {1, 2, 3})
      BOOST_TEST(got.at(static_cast<std::uint64_t>(id)).done.finish_reason == "error");
    BOOST_TEST(!got.at(4).ids.empty());
  });
}

BOOST_AUTO_TEST_CASE(cancels_in_the_middle) {
  with_engine(for_model(tiny), [](engine& e) {
    collector answers;
    std::shared_ptr<act::front_end> front_end;
    answers.on_token_ = [&](const act::answer_token& t) {
      if (t.request == 1) front_end->send(act::cancel{1});
    };
    front_end = e.spawn_front_end(answers);
    auto longest = ask(1, {1, 2, 3}, 100000);
    longest.stop.ignore_eos = true;
    front_end->send(longest);
    front_end->send(ask(2, {4, 5}, 5));
    const auto got = answers.wait(2);
    BOOST_TEST(got.at(1).done.finish_reason == "cancelled");
    BOOST_TEST(static_cast<std::int32_t>(got.at(1).ids.size()) < e.layout().limits.max_context - 3);
    BOOST_TEST(got.at(2).done.finish_reason != "cancelled");
    front_end->send(act::cancel{77});  // unknown: nothing happens
    const auto s = stats_at_rest(e);
    BOOST_TEST(s.kv_tokens == s.kv_tokens_free);
  });
}

BOOST_AUTO_TEST_CASE(stops_at_strings_and_reports_alternatives, *boost::unit_test::precondition(has_shared)) {
  with_engine(for_model(stories), [](engine& e) {
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    auto s = ask(1, {1}, 200);
    s.stop.stop = {"girl"};
    s.sampling.logprobs = 3;
    front_end->send(s);
    const auto got = answers.wait(1).at(1);
    BOOST_TEST(got.done.finish_reason == "stop");
    BOOST_TEST(got.text.find("little ") != std::string::npos);
    BOOST_TEST(got.text.find("girl") == std::string::npos);
    BOOST_TEST(got.ids.size() < 40U);
    for (const auto& t : got.tokens) {
      BOOST_REQUIRE_EQUAL(t.top.size(), 3U);
      BOOST_TEST(t.top[0].token == t.token);  // greedy
      BOOST_TEST(t.logprob <= 0);
    }
  });
}

// Damaged weights end requests, not the engine.
BOOST_AUTO_TEST_CASE(logits_that_are_no_numbers_are_an_error) {
  // The launcher is the parent of all ranks; without one there is a single rank.
  const auto folder = fs::temp_directory_path() / ("fastserve-damaged-" + std::to_string(getppid()));
  if (mpi_job::env->leader()) {
    fs::remove_all(folder);
    fs::copy(tiny, folder);
    const auto file = folder / "model.safetensors";
    fs::permissions(file, fs::perms::owner_all);
    const auto size = static_cast<std::streamoff>(fs::file_size(file));
    std::fstream out{file, std::ios::in | std::ios::out | std::ios::binary};
    out.seekp(size / 2);
    const std::string no_number(static_cast<std::size_t>(size / 3), '\xff');
    out << no_number;
  }
  mpi_job::env->barrier();
  with_engine(for_model(folder), [](engine& e) {
    collector answers;
    const auto front_end = e.spawn_front_end(answers);
    front_end->send(ask(1, {1, 2, 3}, 4));
    front_end->send(ask(2, {4, 5}, 4));
    const auto got = answers.wait(2);
    for (const std::uint64_t id : {1, 2}) {
      BOOST_TEST(got.at(id).done.finish_reason == "error");
      BOOST_TEST(got.at(id).done.error.find("not finite") != std::string::npos);
    }
    const auto s = stats_at_rest(e);
    BOOST_TEST(s.kv_tokens == s.kv_tokens_free);
  });
  mpi_job::env->barrier();
  if (mpi_job::env->leader()) fs::remove_all(folder);
}

BOOST_AUTO_TEST_CASE(a_missing_model_is_one_error_on_all_ranks) {
  auto settings = for_model(fs::path{FASTSERVE_TEST_DATA} / "models" / "no-such-model");
  BOOST_CHECK_EXCEPTION(engine(*mpi_job::env, settings), std::runtime_error, [](const std::runtime_error& e) {
    return std::string{e.what()}.find("no such model") != std::string::npos;
  });
}
