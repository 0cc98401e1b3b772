#include <algorithm>

#include "fixture.hpp"

using namespace fastserve::kernels;

// The law that the rest stands on: a row's bits depend on nothing but the row and its own past.

BOOST_AUTO_TEST_SUITE(invariance)

namespace {

constexpr std::int32_t hidden = 72;
constexpr std::int32_t heads = 6;
constexpr std::int32_t kv_heads = 2;
const std::int32_t head_dim = on_cuda ? 24 : 20;
constexpr std::int32_t feed_forward = 200;
constexpr std::int32_t vocabulary = 64;
constexpr std::int32_t blocks = 400;

/// Two decoder layers of odd widths over the backend's ops.
class mini_model {
 public:
  mini_model(const std::string& isa, int threads, dtype compute, dtype kv_type, std::int32_t window)
      : top_{isa, threads},
        compute_{compute},
        shape_{heads, kv_heads, head_dim, 0.25F, window},
        words_{bytes_of(random_values(std::size_t{vocabulary} * hidden, 1), dtype::f32)},
        tokens_{top_.ops->table({words_.data(), dtype::f32, vocabulary, hidden, false})},
        kv_{top_.ops->make_kv_store({2, blocks, kv_heads, head_dim, kv_type})},
        gain_{top_.put(random_values(hidden, 2))} {
    for (unsigned layer = 0; layer < 2; ++layer) {
      weights_.push_back(pack((heads + 2 * kv_heads) * head_dim, hidden, 10 * layer + 3));
      weights_.push_back(pack(hidden, heads * head_dim, 10 * layer + 4));
      weights_.push_back(pack(2 * feed_forward, hidden, 10 * layer + 5));
      weights_.push_back(pack(hidden, feed_forward, 10 * layer + 6));
    }
    for (int i = 0; i < head_dim / 2; ++i)
      rope_.inverse_frequency.push_back(std::pow(0.5F, static_cast<float>(i)));
  }

  /// The last hidden states of all rows.
  matrix run(const step_layout& layout) {
    auto& ops = *top_.ops;
    auto& on = top_.on();
    const auto rows = static_cast<std::int64_t>(layout.positions.size());
    const auto plan = ops.plan_step(layout, rope_, shape_, on);
    const norm_weights norm{norm_kind::rms, 1e-5F, gain_.view, {}};
    auto x = top_.empty(rows, hidden);
    auto normed = top_.empty(rows, hidden, input());
    auto qkv = top_.empty(rows, (heads + 2 * kv_heads) * head_dim);
    auto mixed = top_.empty(rows, heads * head_dim, input());
    auto both = top_.empty(rows, 2 * feed_forward);
    auto active = top_.empty(rows, feed_forward, input());
    ops.embed(x.view, *tokens_, nullptr, *plan, on);
    for (std::int32_t layer = 0; layer < 2; ++layer) {
      const auto* w = &weights_[static_cast<std::size_t>(4 * layer)];
      ops.norm(normed.view, x.view, norm, on);
      ops.linear(qkv.view, normed.view, *w[0], {}, false, on);
      ops.rotate_and_store(qkv.view, nullptr, nullptr, *kv_, layer, shape_, *plan, on);
      ops.attention(mixed.view, qkv.view.col_range(0, heads * head_dim), *kv_, layer, shape_, *plan, on);
      ops.linear(x.view, mixed.view, *w[1], {}, true, on);
      ops.norm(normed.view, x.view, norm, on);
      ops.linear(both.view, normed.view, *w[2], {}, false, on);
      ops.activate(active.view, both.view, activation::silu, true, on);
      ops.linear(x.view, active.view, *w[3], {}, true, on);
    }
    return top_.get(x.view);
  }

 private:
  std::unique_ptr<weight> pack(std::int64_t rows, std::int64_t cols, unsigned seed) {
    const auto values =
        bytes_of(random_values(static_cast<std::size_t>(rows * cols), seed, 0.1F), dtype::f32);
    const host_matrix host{values.data(), dtype::f32, rows, cols, false};
    return top_.ops->pack({&host, 1}, compute_);
  }
  dtype input() const { return weights_.front()->input_type(); }

  bench_top top_;
  dtype compute_;
  attention_shape shape_;
  rope_table rope_{rope_kind::half, {}, 1.0F};
  std::vector<std::byte> words_;
  std::unique_ptr<weight> tokens_;
  std::unique_ptr<kv_store> kv_;
  device_matrix gain_;
  std::vector<std::unique_ptr<weight>> weights_;
};

/// A sequence and how far it got.
struct progress {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> blocks;
  std::int32_t done = 0;
  std::vector<float> states;  // [done][hidden]
};

std::vector<progress> sequences(const std::vector<std::int32_t>& lengths, unsigned seed) {
  std::mt19937 engine{seed};
  std::vector<std::int32_t> ids(blocks);
  for (std::int32_t b = 0; b < blocks; ++b) ids[static_cast<std::size_t>(b)] = b;
  std::shuffle(ids.begin(), ids.end(), engine);
  std::vector<progress> all;
  std::mt19937 token_engine{77};  // the same tokens whatever the blocks
  auto next = ids.begin();
  for (const auto length : lengths) {
    progress p;
    for (std::int32_t i = 0; i < length; ++i) {
      p.tokens.push_back(static_cast<std::int32_t>(token_engine() % vocabulary));
    }
    for (std::int32_t i = 0; i < length; i += kv_block_tokens) p.blocks.push_back(*next++);
    all.push_back(std::move(p));
  }
  return all;
}

/// One step: counts[i] more tokens of sequence i.
void advance(mini_model& model, std::vector<progress>& all, const std::vector<std::int32_t>& counts) {
  step_layout layout;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (counts[i] == 0) continue;
    const auto& p = all[i];
    layout.sequences.push_back(
        {static_cast<std::int32_t>(layout.positions.size()), counts[i], p.done, p.blocks});
    for (std::int32_t t = p.done; t < p.done + counts[i]; ++t) {
      layout.token_ids.push_back(p.tokens[static_cast<std::size_t>(t)]);
      layout.positions.push_back(t);
    }
  }
  const auto out = model.run(layout);
  auto from = out.values.begin();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto to = from + std::ptrdiff_t{counts[i]} * hidden;
    all[i].states.insert(all[i].states.end(), from, to);
    all[i].done += counts[i];
    from = to;
  }
}

bool unfinished(const progress& p) { return p.done < static_cast<std::int32_t>(p.tokens.size()); }

void check_same(const std::vector<progress>& a, const std::vector<progress>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    BOOST_TEST(same_bits(a[i].states, b[i].states), "sequence " << i << " differs");
  }
}

}  // namespace

BOOST_DATA_TEST_CASE(a_row_of_a_product_is_the_same_in_any_batch, every_isa(), isa) {
  for (const auto compute : float_types) {
    bench_top top{isa, 3};
    // Several blocks of k, several panels and an odd one, more rows than a job takes.
    const std::int64_t k = emulated ? 523 : sanitized ? 600 : 1111;
    const std::int64_t n = emulated ? 150 : sanitized ? 109 : 333;
    const auto values = bytes_of(random_values(static_cast<std::size_t>(n * k), 1), dtype::f32);
    const host_matrix host{values.data(), dtype::f32, n, k, false};
    const auto packed = top.ops->pack({&host, 1}, compute);
    const std::int64_t most = emulated ? 300 : 800;
    const auto in = top.put(random_matrix(most, k, 2), packed->input_type());
    auto out = top.empty(most, n);
    top.ops->linear(out.view, in.view, *packed, {}, false, top.on());
    const auto all = top.get(out.view);
    const std::vector<std::int64_t> counts =
        emulated ? std::vector<std::int64_t>{1, 8, 9, 17, 33, 64, 65, 129}
                 : std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 24, 25, 63, 400};
    for (const std::int64_t rows : counts) {
      for (const std::int64_t first : {std::int64_t{0}, std::int64_t{37}, most - rows}) {
        if (sanitized && first == 0) continue;
        auto part = top.empty(rows, n);
        top.ops->linear(part.view, in.view.row_range(first, rows), *packed, {}, false, top.on());
        BOOST_REQUIRE(same_bits(top.get(part.view).values, top.get(out.view.row_range(first, rows)).values));
      }
    }
    for (const int threads : {1, 2}) {
      bench_top other{isa, threads};
      const auto again = other.ops->pack({&host, 1}, compute);
      auto whole = other.empty(most, n);
      other.ops->linear(whole.view, in.view, *again, {}, false, other.on());
      BOOST_REQUIRE(same_bits(other.get(whole.view).values, all.values));
    }
  }
}

BOOST_DATA_TEST_CASE(sequences_are_the_same_in_any_batch_chunking_and_team, every_isa(), isa) {
  const auto lengths = emulated    ? std::vector<std::int32_t>{1, 17, 35}
                       : sanitized ? std::vector<std::int32_t>{1, 17, 64, 33}
                                   : std::vector<std::int32_t>{1, 17, 130, 64, 200, 33, 5, 96};
  const std::int32_t windows[] = {0, emulated ? 20 : 40};
  for (const auto kv_type : kv_types) {
    const auto compute = is_float(kv_type) ? kv_type : dtype::f32;
    if (emulated && kv_type != dtype::bf16 && kv_type != dtype::i8) continue;
    for (const auto window : windows) {
      if (emulated && window > 0 && kv_type != dtype::bf16) continue;
      // Each alone, its whole prompt in one chunk.
      auto solo = sequences(lengths, 1);
      mini_model one{isa, 1, compute, kv_type, window};
      for (std::size_t i = 0; i < solo.size(); ++i) {
        std::vector<std::int32_t> counts(solo.size());
        counts[i] = lengths[i];
        advance(one, solo, counts);
      }
      // Token by token, side by side.
      auto decoded = sequences(lengths, 2);
      mini_model two{isa, 2, compute, kv_type, window};
      while (std::any_of(decoded.begin(), decoded.end(), unfinished)) {
        std::vector<std::int32_t> counts;
        for (const auto& p : decoded) counts.push_back(unfinished(p) ? 1 : 0);
        advance(two, decoded, counts);
      }
      check_same(solo, decoded);
      // Chunks of random length, mixed at random.
      std::mt19937 engine{9};
      for (const int threads : {1, 2, 3}) {
        if (emulated && threads > 1) break;
        mini_model model{isa, threads, compute, kv_type, window};
        auto mixed = sequences(lengths, 3 + static_cast<unsigned>(threads));
        while (std::any_of(mixed.begin(), mixed.end(), unfinished)) {
          std::vector<std::int32_t> counts;
          std::int32_t total = 0;
          for (const auto& p : mixed) {
            const auto left = static_cast<std::int32_t>(p.tokens.size()) - p.done;
            const auto wanted = static_cast<std::int32_t>(engine() % 4 == 0 ? engine() % 60 : engine() % 2);
            counts.push_back(std::min(left, wanted));
            total += counts.back();
          }
          if (total > 0) advance(model, mixed, counts);
        }
        check_same(solo, mixed);
      }
    }
  }
}

BOOST_DATA_TEST_CASE(long_contexts_are_the_same_whoever_computes_their_segments, every_isa(), isa) {
  const auto lengths = emulated    ? std::vector<std::int32_t>{530}
                       : sanitized ? std::vector<std::int32_t>{1100}
                                   : std::vector<std::int32_t>{2200, 1030};
  for (const auto window : {0, emulated ? 300 : sanitized ? 1050 : 1100}) {
    std::vector<std::vector<progress>> results;
    for (const int threads : {1, 2, 16}) {
      if (emulated && threads == 2) {  // the middle one of three
        results.push_back(results.back());
        continue;
      }
      mini_model model{isa, threads, on_cuda ? dtype::bf16 : dtype::f32, dtype::i8, window};
      auto run = sequences(lengths, static_cast<unsigned>(threads));
      // The more threads, the smaller the chunks; the last tokens one by one.
      while (std::any_of(run.begin(), run.end(), unfinished)) {
        std::vector<std::int32_t> counts;
        for (const auto& p : run) {
          const auto left = static_cast<std::int32_t>(p.tokens.size()) - p.done;
          counts.push_back(left > 6 ? std::min(left - 6, 1600 / threads) : std::min(left, 1));
        }
        advance(model, run, counts);
      }
      results.push_back(std::move(run));
    }
    check_same(results[0], results[1]);
    check_same(results[0], results[2]);
  }
}

namespace {

/// The last rows of a sequence in one go, a few at a time and alone: the same bits. Many sequences of few
/// rows are not cut into segments, one is.
void check_companies(const std::string& isa, dtype type, const attention_shape& shape,
                     float magnitude = 1.0F) {
  const std::int32_t tokens = emulated ? 330 : sanitized ? 150 : 800;
  const std::int32_t last = emulated || sanitized ? 24 : 200;
  const std::int32_t first = tokens - last;
  bench_top top{isa};
  const std::int32_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
  const auto count = (tokens + kv_block_tokens - 1) / kv_block_tokens;
  auto kv = top.ops->make_kv_store({1, count, shape.kv_heads, shape.head_dim, type});
  std::vector<std::int32_t> table;
  for (std::int32_t b = 0; b < count; ++b) table.push_back(count - 1 - b);
  auto qkv = top.put(random_matrix(tokens, width, 21, magnitude));
  const auto plan_of = [&](std::int32_t from, std::int32_t rows, std::int32_t at_once) {
    step_layout layout;
    for (std::int32_t r = 0; r < rows; r += at_once)
      layout.sequences.push_back({r, std::min(at_once, rows - r), from + r, table});
    for (std::int32_t r = 0; r < rows; ++r) layout.positions.push_back(from + r);
    return top.ops->plan_step(layout, {}, shape, top.on());
  };
  top.ops->rotate_and_store(qkv.view, nullptr, nullptr, *kv, 0, shape, *plan_of(0, tokens, tokens), top.on());
  const auto attend = [&](std::int32_t from, std::int32_t rows, std::int32_t at_once) {
    auto out = top.empty(rows, std::int64_t{shape.heads} * shape.head_dim);
    const auto query =
        qkv.view.row_range(from, rows).col_range(0, std::int64_t{shape.heads} * shape.head_dim);
    top.ops->attention(out.view, query, *kv, 0, shape, *plan_of(from, rows, at_once), top.on());
    return top.get(out.view).values;
  };
  const auto whole = attend(first, last, last);
  for (const std::int32_t at_once : {1, 2, 5}) BOOST_TEST(same_bits(attend(first, last, at_once), whole));
  for (const std::int32_t rows : {1, 3}) {
    const auto row = static_cast<std::ptrdiff_t>(whole.size()) / last;
    BOOST_TEST(same_bits(attend(first, rows, rows), {whole.begin(), whole.begin() + rows * row}));
    BOOST_TEST(same_bits(attend(tokens - rows, rows, rows), {whole.end() - rows * row, whole.end()}));
  }
}

}  // namespace

BOOST_DATA_TEST_CASE(a_row_attends_alike_in_any_company, every_isa(), isa) {
  for (const auto type : kv_types) {
    for (const std::int32_t dim : {20, 24, 64, 80, 128, 256})
      check_companies(isa, type, {6, 2, dim, 0.3F, 0});
    check_companies(isa, type, {4, 2, 64, 0.3F, 100});
    check_companies(isa, type, {32, 2, 16, 0.3F, 0});
    // Sums that are subnormal now and then, which some instructions take for zero.
    if (!on_cuda) check_companies(isa, type, {4, 2, 24, 0.3F, 100}, 2e-38F);
  }
}

BOOST_AUTO_TEST_SUITE_END()
