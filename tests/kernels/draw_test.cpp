#include <limits>
#include <sstream>

#include "fixture.hpp"
#include "model/philox.hpp"
#include "model/token_drawer.hpp"

using namespace fastserve;
using namespace fastserve::kernels;

// Where a device draws tokens they are the host's, whatever is asked for.

BOOST_AUTO_TEST_SUITE(draw)

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

using model::sampling_params;

std::string text_of(const sampling_params& p) {
  std::ostringstream out;
  out << "temperature " << p.temperature << ", top_k " << p.top_k << ", top_p " << p.top_p << ", min_p "
      << p.min_p << ", seed " << p.seed;
  return out.str();
}

/// Draws from each row, `rows[i]` as `how[i]` says, and compares with model::sample().
void check_draws(bench_top& top, const matrix& logits, tensor_view on_device,
                 const std::vector<std::int32_t>& rows, const std::vector<sampling_params>& how) {
  constexpr std::uint64_t position = 7;
  std::vector<draw_row> asked;
  for (std::size_t i = 0; i < rows.size(); ++i)
    asked.push_back({model::uniform_at(how[i].seed, position), rows[i], how[i].top_k, how[i].temperature,
                     how[i].top_p, how[i].min_p});
  std::vector<drawn_row> drawn(asked.size());
  top.ops->draw(drawn, asked, on_device, top.on());
  static model::sampler_scratch scratch;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto vocab = static_cast<std::size_t>(logits.cols);
    const std::span row{logits.values.data() + static_cast<std::size_t>(rows[i]) * vocab, vocab};
    const auto expected = model::sample(row, how[i], position, {}, {}, scratch);
    if (drawn[i].token == expected.token && drawn[i].valid == expected.valid) continue;
    BOOST_FAIL("vocabulary " << vocab << ", row " << rows[i] << ", " << text_of(how[i]) << ": drew "
                             << drawn[i].token << ", the host " << expected.token);
  }
}

/// Some draws from every row.
void check_draws(bench_top& top, const matrix& logits, const std::vector<sampling_params>& how) {
  std::vector<std::int32_t> rows;
  std::vector<sampling_params> each;
  for (std::int32_t r = 0; r < logits.rows; ++r) {
    for (const auto& h : how) {
      rows.push_back(r);
      each.push_back(h);
    }
  }
  check_draws(top, logits, top.put(logits).view, rows, each);
}

template <class T>
T one_of(std::mt19937& random, std::initializer_list<T> values) {
  return values.begin()[random() % values.size()];
}

sampling_params random_params(std::mt19937& random, std::int64_t vocab) {
  const auto part = [&] { return static_cast<float>(random() % 1000 + 1) / 1000.0F; };
  const auto any_k = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(vocab + 2));
  sampling_params p;
  p.temperature = one_of(random, {0.0F, 1e-3F, 0.3F, 0.7F, 1.0F, 1.0F, 1.5F, 10.0F, 1e3F, part()});
  p.top_k = one_of(random, {0, 0, 1, 2, 5, 40, any_k, any_k});
  p.top_p = one_of(random, {1.0F, 1.0F, 0.9F, 0.999F, 0.01F, part(), part()});
  p.min_p = one_of(random, {0.0F, 0.0F, 0.0F, 1e-6F, 0.05F, part()});
  p.seed = random();
  return p;
}

/// Normal scores of some spread, some of them with many equals, impossible tokens or zeros of both signs.
std::vector<float> random_row(std::mt19937& random, std::int64_t vocab) {
  auto row = random_values(static_cast<std::size_t>(vocab), static_cast<unsigned>(random()),
                           one_of(random, {0.01F, 1.0F, 3.0F, 10.0F}));
  if (random() % 3 == 0)
    for (auto& x : row) x = std::round(x);
  if (random() % 3 == 0)
    for (auto& x : row) x = random() % 4 == 0 ? -inf : x;
  if (random() % 3 == 0)
    for (auto& x : row) x = random() % 4 == 0 ? 0.0F : random() % 4 == 0 ? -0.0F : x;
  row[random() % row.size()] = one_of(random, {0.0F, -0.0F, 1.0F, 30.0F});
  return row;
}

}  // namespace

BOOST_DATA_TEST_CASE(any_parameters, every_isa(), isa) {
  bench_top top{isa};
  if (!top.ops->draws()) return;
  std::mt19937 random{1};
  for (const std::int64_t vocab : {1, 2, 31, 32, 33, 100, 257, 1000, 2049}) {
    for (int round = 0; round < (emulated ? 2 : 40); ++round) {
      matrix logits{4, vocab};
      logits.values.clear();
      for (int r = 0; r < 4; ++r) {
        const auto row = random_row(random, vocab);
        logits.values.insert(logits.values.end(), row.begin(), row.end());
      }
      std::vector<std::int32_t> rows;
      std::vector<sampling_params> how;
      for (int i = 0; i < 64; ++i) {
        rows.push_back(static_cast<std::int32_t>(random() % 4));
        how.push_back(random_params(random, vocab));
      }
      check_draws(top, logits, top.put(logits).view, rows, how);
    }
  }
}

BOOST_DATA_TEST_CASE(large_vocabularies, every_isa(), isa) {
  bench_top top{isa};
  if (!top.ops->draws()) return;
  for (const std::int64_t vocab : {32000, 32003}) {
    auto logits = random_matrix(2, vocab, static_cast<unsigned>(vocab), 2.5F);
    for (std::int64_t i = 0; i < vocab; ++i) logits.at(1, i) = static_cast<float>(i % 7);  // many equals
    check_draws(top, logits,
                {{.temperature = 0},
                 {.seed = 1},
                 {.temperature = 0.7F, .top_p = 0.95F, .seed = 2},
                 {.top_k = 50, .seed = 3},
                 {.temperature = 2.0F, .top_k = 5000, .top_p = 0.9F, .min_p = 0.01F, .seed = 4},
                 {.min_p = 0.05F, .seed = 5}});
  }
}

BOOST_DATA_TEST_CASE(extreme_parameters, every_isa(), isa) {
  bench_top top{isa};
  if (!top.ops->draws()) return;
  std::vector<sampling_params> how;
  for (const float temperature : {1e-44F, 1.0F, 3e38F}) {
    for (const std::int32_t k : {0, 1, 1024, 1025, 1099, 1 << 30}) {
      for (const float p : {1e-30F, 0.5F, 1.0F - 0x1p-24F, 1.0F})
        how.push_back({.temperature = temperature, .top_k = k, .top_p = p, .seed = how.size()});
    }
    for (const float m : {1e-30F, 1.0F}) how.push_back({.temperature = temperature, .min_p = m});
  }
  auto logits = random_matrix(3, 1100, 2, 5.0F);
  for (std::int64_t i = 0; i < logits.cols; ++i) {
    logits.at(1, i) = 1.5F;
    logits.at(2, i) = i % 3 == 0 ? 3e38F : i % 3 == 1 ? -3e38F : 1e-45F;
  }
  check_draws(top, logits, how);
}

BOOST_DATA_TEST_CASE(unusable_logits, every_isa(), isa) {
  bench_top top{isa};
  if (!top.ops->draws()) return;
  const std::vector<sampling_params> how{{.temperature = 0}, {.top_p = 0.5F}, {.top_k = 2}};
  for (const std::vector<float>& row : std::vector<std::vector<float>>{{nan},
                                                                       {inf},
                                                                       {-inf},
                                                                       {nan, -inf},
                                                                       {-inf, -inf, -inf},
                                                                       {1, nan, 3, 3},
                                                                       {1, 2, inf},
                                                                       {-inf, 0, 0}}) {
    matrix logits{1, static_cast<std::int64_t>(row.size())};
    logits.values = row;
    check_draws(top, logits, how);
  }
  // In any place of a long row.
  for (const std::int64_t at : {0, 3, 4, 127, 4095, 4096, 8191, 8192, 9000}) {
    auto logits = random_matrix(1, 9001, 3);
    logits.at(0, at) = -nan;
    check_draws(top, logits, how);
  }
}

BOOST_DATA_TEST_CASE(part_of_wider_rows, every_isa(), isa) {
  bench_top top{isa};
  if (!top.ops->draws()) return;
  const auto wide = random_matrix(3, 48, 4, 2.0F);
  const auto there = top.put(wide);
  for (const std::int64_t first : {0, 1, 4}) {
    matrix logits{3, 40};
    for (std::int64_t r = 0; r < 3; ++r)
      for (std::int64_t i = 0; i < 40; ++i) logits.at(r, i) = wide.at(r, first + i);
    check_draws(top, logits, there.view.col_range(first, 40), {2, 0, 1, 2},
                {{.seed = 1}, {.top_k = 3, .seed = 2}, {.top_p = 0.8F, .seed = 3}, {.temperature = 0}});
  }
}

// Steps name tokens that the host has not seen, and the next draw begins before those are fetched.
BOOST_DATA_TEST_CASE(tokens_for_the_next_step, every_isa(), isa) {
  bench_top top{isa};
  if (!top.ops->draws()) return;
  constexpr std::int64_t vocab = 60;
  constexpr std::int64_t cols = 5;
  const auto words = random_matrix(vocab, cols, 1);
  const auto table = top.ops->table({words.values.data(), dtype::f32, vocab, cols, false});
  std::mt19937 random{3};
  std::vector<std::int32_t> before;  // what the draw that is not fetched yet must give
  const auto fetch = [&] {
    std::vector<drawn_row> drawn(before.size());
    top.ops->finish_draw(drawn);
    for (std::size_t i = 0; i < drawn.size(); ++i) BOOST_REQUIRE_EQUAL(drawn[i].token, before[i]);
  };
  for (int round = 0; round < 12; ++round) {
    const std::size_t count = 1 + 200 * (round % 4);  // so that memory grows meanwhile, too
    const auto logits = random_matrix(3, vocab, static_cast<unsigned>(round), 2.0F);
    const auto there = top.put(logits);
    std::vector<draw_row> asked;
    std::vector<std::int32_t> expected;
    model::sampler_scratch scratch;
    for (std::size_t i = 0; i < count; ++i) {
      const sampling_params how{.seed = random()};
      const auto row = static_cast<std::int32_t>(i % 3);
      asked.push_back({model::uniform_at(how.seed, 7), row, 0, 1.0F, 1.0F, 0.0F});
      const std::span scores{logits.values.data() + row * vocab, static_cast<std::size_t>(vocab)};
      expected.push_back(model::sample(scores, how, 7, {}, {}, scratch).token);
    }
    top.ops->start_draw(asked, there.view, top.on());
    asked.assign(count, {});

    step_layout layout;
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < count; ++i) {
      layout.token_ids.push_back(~static_cast<std::int32_t>(count - 1 - i));
      ids.push_back(expected[count - 1 - i]);
      layout.token_ids.push_back(static_cast<std::int32_t>(random() % vocab));
      ids.push_back(layout.token_ids.back());
    }
    layout.positions.resize(ids.size());
    layout.drawn = static_cast<std::int32_t>(count);
    const auto plan = top.ops->plan_step(layout, {}, {}, top.on());
    auto out = top.empty(static_cast<std::int64_t>(ids.size()), cols);
    top.ops->embed(out.view, *table, nullptr, *plan, top.on());
    if (!before.empty()) fetch();
    before = expected;
    const auto found = top.get(out.view);
    BOOST_TEST(top.ops->draw_done());
    for (std::size_t i = 0; i < ids.size(); ++i)
      for (std::int64_t c = 0; c < cols; ++c)
        BOOST_REQUIRE_EQUAL(found.at(static_cast<int>(i), c), words.at(ids[i], c));
  }
  fetch();
}

// What the device draws and what the host has to, mixed.
BOOST_DATA_TEST_CASE(a_step_of_all_kinds, every_isa(), isa) {
  bench_top top{isa};
  constexpr std::int64_t vocab = 300;
  const auto logits = random_matrix(5, vocab, 5, 2.0F);
  const auto there = top.put(logits);
  model::token_drawer drawer{*top.ops};
  const std::vector<std::int32_t> prompt{1, 2, 3};
  const std::vector<std::int32_t> answer{7, 7, 9};
  const std::vector<sampling_params> plain{{.temperature = 0}, {.top_p = 0.9F, .seed = 1}};
  const std::vector<sampling_params> all{
      {.temperature = 0},         {.repetition_penalty = 1.3F, .seed = 2},
      {.top_k = 20, .seed = 3},   {.logprobs = 4},
      {.top_p = 0.9F, .seed = 4}, {.frequency_penalty = 0.5F, .logprobs = 1}};
  const std::vector<sampling_params> host{{.presence_penalty = 1.0F}, {.logprobs = 2}};
  for (const auto& how : {plain, all, host, std::vector<sampling_params>{}}) {
    std::vector<model::draw_request> requests;
    for (std::size_t i = 0; i < how.size(); ++i)
      requests.push_back({&how[i], 40 + i, static_cast<std::int32_t>((i * 2 + 1) % 5), prompt, answer});
    const auto tokens = drawer.draw(requests, there.view, top.on());
    BOOST_REQUIRE_EQUAL(tokens.size(), how.size());
    for (std::size_t i = 0; i < how.size(); ++i) {
      model::sampler_scratch scratch;
      const auto row = static_cast<std::size_t>(requests[i].row) * vocab;
      const auto expected = model::sample({logits.values.data() + row, vocab}, how[i], requests[i].position,
                                          prompt, answer, scratch);
      BOOST_TEST(tokens[i].token == expected.token);
      BOOST_TEST(tokens[i].valid == expected.valid);
      BOOST_TEST(tokens[i].logprob == expected.logprob);
      BOOST_TEST(tokens[i].top.size() == expected.top.size());
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
