#include <algorithm>
#include <limits>

#include "fixture.hpp"

using namespace fastserve::kernels;

BOOST_AUTO_TEST_SUITE(attention)

namespace {

struct shape_case {
  std::int32_t heads;
  std::int32_t kv_heads;
  std::int32_t head_dim;
  std::int32_t window;
};

/// Stores whose attention is code of its own.
const std::vector<dtype> kinds = on_cuda ? std::vector<dtype>{dtype::f32, dtype::bf16, dtype::f16, dtype::i8}
                                         : std::vector<dtype>{dtype::f32, dtype::bf16};

/// A sequence of which the first tokens are already in the store when the step begins.
struct sequence_case {
  std::int32_t before;
  std::int32_t rows;
};

struct options {
  dtype type = dtype::f32;
  rope_kind rotation = rope_kind::half;
  std::int32_t pairs = -1;  // -1: half of head_dim
  bool head_norms = false;
  int threads = 2;
};

/// Blocks in an order of their own; whatever no token was written to is NaN.
void poison(bench_top& top, kv_store& kv) {
  const std::vector<std::byte> nan(kv.shape().block_bytes(), std::byte{0xff});  // one in every type
  for (std::int32_t b = 0; b < kv.shape().blocks; ++b) top.ops->write_block(kv, b, nan.data(), top.on());
  top.on().synchronize();
}

/// Whether such a store is attended by products of bf16 pairs, which lie in pairs in it: queries are rounded
/// to bf16 then, and so are weights.
bool in_pairs(const std::string& isa, dtype type) {
  return isa == "avx512bf16" && (type == dtype::bf16 || type == dtype::i8);
}

/// Tensor cores want queries and weights rounded to the store's type, too.
double slack_of(dtype type, const std::string& isa) {
  if (on_cuda && type != dtype::f32) return type == dtype::f16 ? 5e-3 : 3e-2;
  if (in_pairs(isa, type)) return 1e-2;
  switch (type) {
    case dtype::f32:
      return 2e-5;
    case dtype::f16:
      return 2e-4;
    case dtype::bf16:
      return 2e-3;
    default:
      return 1e-2;
  }
}

/// What the rows of one sequence should give, [rows, heads * head_dim]. qkv: of all its tokens.
matrix expected_attention(const shape_case& s, const sequence_case& c, const options& with,
                          const rope_table& rope, float scale, bool pairs, matrix qkv,
                          const std::vector<float>& query_gain, const std::vector<float>& key_gain) {
  // What the store and the queries should hold.
  for (std::int64_t t = 0; t < qkv.rows; ++t) {
    for (std::int32_t h = 0; h < s.heads + s.kv_heads; ++h) {
      float* head = &qkv.at(t, std::int64_t{h} * s.head_dim);
      if (with.head_norms) {
        matrix one{1, s.head_dim};
        std::copy_n(head, s.head_dim, one.values.begin());
        one = reference::rms_norm(one, h < s.heads ? query_gain : key_gain, 1e-6F);
        std::copy_n(one.values.begin(), s.head_dim, head);
      }
      if (with.rotation != rope_kind::none) reference::rotate(head, rope, static_cast<std::int32_t>(t));
    }
  }
  matrix out{c.rows, std::int64_t{s.heads} * s.head_dim};
  for (std::int32_t g = 0; g < s.kv_heads; ++g) {
    matrix keys{qkv.rows, s.head_dim};
    matrix values{qkv.rows, s.head_dim};
    for (std::int64_t t = 0; t < qkv.rows; ++t) {
      for (std::int32_t d = 0; d < s.head_dim; ++d) {
        keys.at(t, d) = qkv.at(t, (s.heads + g) * s.head_dim + d);
        values.at(t, d) = qkv.at(t, (s.heads + s.kv_heads + g) * s.head_dim + d);
      }
    }
    keys = rounded(keys, with.type);
    values = rounded(values, with.type);
    const std::int32_t group = s.heads / s.kv_heads;
    for (std::int32_t h = g * group; h < (g + 1) * group; ++h) {
      for (std::int32_t r = 0; r < c.rows; ++r) {
        const std::int32_t position = c.before + r;
        const float* head = &qkv.at(position, std::int64_t{h} * s.head_dim);
        std::vector<float> query{head, head + s.head_dim};
        if (pairs) {
          for (auto& q : query) q *= scale;
          query = rounded(query, dtype::bf16);
        }
        const auto row =
            reference::attend(query.data(), keys, values, position, s.window, pairs ? 1.0F : scale);
        for (std::int32_t d = 0; d < s.head_dim; ++d)
          out.at(r, std::int64_t{h} * s.head_dim + d) = row[static_cast<std::size_t>(d)];
      }
    }
  }
  return out;
}

/// Tokens [0, before) in one step and [before, before + rows) in the next, against the reference.
void check_attention(const std::string& isa, const shape_case& s, const std::vector<sequence_case>& cases,
                     const options& with) {
  bench_top top{isa, with.threads};
  const std::int32_t width = (s.heads + 2 * s.kv_heads) * s.head_dim;
  const attention_shape shape{s.heads, s.kv_heads, s.head_dim,
                              1.0F / std::sqrt(static_cast<float>(s.head_dim)), s.window};
  rope_table rope{with.rotation, {}, 1.25F};
  const std::int32_t pairs = with.pairs >= 0 ? with.pairs : s.head_dim / 2;
  for (std::int32_t i = 0; i < pairs; ++i) {
    rope.inverse_frequency.push_back(std::pow(10000.0F, -static_cast<float>(i) / static_cast<float>(pairs)));
  }
  const auto query_gain = random_values(static_cast<std::size_t>(s.head_dim), 91);
  const auto key_gain = random_values(static_cast<std::size_t>(s.head_dim), 92);
  const auto query_gain_row = top.put(query_gain);
  const auto key_gain_row = top.put(key_gain);
  const norm_weights query_norm{norm_kind::rms, 1e-6F, query_gain_row.view, {}};
  const norm_weights key_norm{norm_kind::rms, 1e-6F, key_gain_row.view, {}};

  std::int32_t blocks = 3;
  for (const auto& c : cases) blocks += (c.before + c.rows + 15) / 16;
  auto kv = top.ops->make_kv_store({2, blocks, s.kv_heads, s.head_dim, with.type});
  poison(top, *kv);
  std::vector<std::int32_t> ids;
  for (std::int32_t b = 0; b < blocks; ++b) ids.push_back(b);
  std::shuffle(ids.begin(), ids.end(), std::mt19937{5});

  std::vector<matrix> qkv;  // by sequence: [all tokens, width]
  std::vector<std::vector<std::int32_t>> tables;
  std::size_t taken = 0;
  for (const auto& c : cases) {
    const std::int32_t tokens = c.before + c.rows;
    qkv.push_back(random_matrix(tokens, width, static_cast<unsigned>(40 + qkv.size())));
    const std::size_t count = static_cast<std::size_t>(tokens + 15) / 16;
    tables.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(taken),
                        ids.begin() + static_cast<std::ptrdiff_t>(taken + count));
    taken += count;
  }

  const auto expected = [&](std::size_t i) -> const matrix& {
    const bool by_pairs = in_pairs(isa, with.type);
    std::string key = std::to_string(i) + (by_pairs ? " by pairs" : "");
    for (const auto n : {s.heads, s.kv_heads, s.head_dim, s.window, cases[i].before, cases[i].rows, pairs,
                         static_cast<std::int32_t>(with.type), static_cast<std::int32_t>(with.rotation),
                         static_cast<std::int32_t>(with.head_norms)})
      key += " " + std::to_string(n);
    return once(key, [&] {
      return expected_attention(s, cases[i], with, rope, shape.scale, by_pairs, qkv[i], query_gain, key_gain);
    });
  };

  for (const bool prefix : {true, false}) {
    step_layout layout;
    std::vector<float> rows;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const std::int32_t first = prefix ? 0 : cases[i].before;
      const std::int32_t count = prefix ? cases[i].before : cases[i].rows;
      if (count == 0) continue;
      layout.sequences.push_back(
          {static_cast<std::int32_t>(layout.positions.size()), count, first, tables[i]});
      for (std::int32_t t = first; t < first + count; ++t) layout.positions.push_back(t);
      const float* from = qkv[i].values.data() + std::int64_t{first} * width;
      rows.insert(rows.end(), from, from + std::int64_t{count} * width);
    }
    if (layout.positions.empty()) continue;
    matrix all{static_cast<std::int64_t>(layout.positions.size()), width};
    all.values = rows;
    auto device = top.put(all);
    const auto plan = top.ops->plan_step(layout, rope, shape, top.on());
    top.ops->rotate_and_store(device.view, with.head_norms ? &query_norm : nullptr,
                              with.head_norms ? &key_norm : nullptr, *kv, 1, shape, *plan, top.on());
    if (prefix) continue;
    const auto query = device.view.col_range(0, std::int64_t{s.heads} * s.head_dim);
    for (const auto out_type : float_types) {
      // Where the result is rounded is one line of a kernel; f16 stores see the other types.
      if (emulated && with.type != dtype::f16 && out_type != dtype::f32) continue;
      auto out = top.empty(all.rows, query.cols, out_type);
      top.ops->attention(out.view, query, *kv, 1, shape, *plan, top.on());
      const auto found = top.get(out.view);
      std::int64_t row = 0;
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const auto& wanted = expected(i);
        // A rotated key that falls to the other side of a rounding border moves scores a little.
        const double slack = slack_of(with.type, isa);
        for (std::int64_t r = 0; r < wanted.rows; ++r) {
          for (std::int64_t c = 0; c < wanted.cols; ++c) {
            const double value = found.at(row + r, c);
            const double want = wanted.at(r, c);
            if (std::abs(value - want) <= slack + rounding(out_type) * std::abs(want)) continue;
            BOOST_FAIL("sequence " << i << " row " << r << " head " << c / s.head_dim << " dim "
                                   << c % s.head_dim << ": found " << value << ", expected " << want);
          }
        }
        row += cases[i].rows;
      }
    }
  }
}

}  // namespace

BOOST_DATA_TEST_CASE(head_sizes_and_groups, every_isa(), isa) {
  const std::vector<sequence_case> cases = {{0, 1}, {0, 37}, {15, 1}, {16, 1}, {31, 18}, {100, 3}};
  for (const auto type : kinds) {
    options with;
    with.type = type;
    for (const std::int32_t dim : {8, 16, 48, 64, 80, 128}) check_attention(isa, {4, 2, dim, 0}, cases, with);
    if (on_cuda) check_attention(isa, {4, 2, 96, 0}, cases, with);
    if (on_cuda) check_attention(isa, {2, 1, 256, 0}, cases, with);
    check_attention(isa, {3, 3, 32, 0}, cases, with);
    check_attention(isa, {8, 1, 32, 0}, cases, with);
    check_attention(isa, {14, 2, 16, 0}, cases, with);
    check_attention(isa, {5, 1, 20, 0}, cases, with);
    check_attention(isa, {71, 1, 8, 0}, cases, with);
    if (!on_cuda) check_attention(isa, {2, 1, 13, 0}, cases, with);
  }
  if (on_cuda) check_attention(isa, {1, 1, 288, 0}, {{0, 20}, {33, 1}}, {dtype::bf16});
}

BOOST_DATA_TEST_CASE(every_position_of_the_first_blocks, every_isa(), isa) {
  std::vector<sequence_case> cases;
  for (std::int32_t p = 0; p < 70; ++p) cases.push_back({p, 1});
  for (const auto type : kinds) {
    options with;
    with.type = type;
    check_attention(isa, {4, 2, 16, 0}, cases, with);
    check_attention(isa, {4, 2, 16, 0}, {{0, 130}}, with);
  }
}

BOOST_DATA_TEST_CASE(store_types, every_isa(), isa) {
  for (const auto type : kv_types) {
    for (const std::int32_t dim : {16, 20, 64, 80}) {
      options with;
      with.type = type;
      check_attention(isa, {6, 2, dim, 0}, {{0, 40}, {63, 2}, {17, 1}}, with);
    }
  }
}

BOOST_DATA_TEST_CASE(windows, every_isa(), isa) {
  for (const auto type : {dtype::f32, dtype::bf16, dtype::i8}) {
    options with;
    with.type = type;
    for (const std::int32_t window : {1, 2, 15, 16, 17, 33, 64, 65, 100}) {
      check_attention(isa, {4, 2, 16, window}, {{0, 150}, {130, 1}, {64, 1}, {63, 2}, {0, 1}, {79, 40}},
                      with);
    }
  }
}

namespace {

/// One token of one head through a store of bytes: what its key and value became, and their scales.
struct stored_token {
  std::vector<float> key, value;
  float key_scale = 0, value_scale = 0;
};

stored_token through_i8(const std::string& isa, const std::vector<float>& key,
                        const std::vector<float>& value, std::int32_t slot) {
  bench_top top{isa};
  const auto dim = static_cast<std::int32_t>(key.size());
  const attention_shape shape{1, 1, dim, 1.0F, 0};
  auto kv = top.ops->make_kv_store({1, 1, 1, dim, dtype::i8});
  matrix qkv{1, 3 * dim};
  std::copy(key.begin(), key.end(), qkv.values.begin() + dim);
  std::copy(value.begin(), value.end(), qkv.values.begin() + 2 * dim);
  auto device = top.put(qkv);
  step_layout layout;
  layout.positions = {slot};
  layout.sequences = {{0, 1, slot, {0}}};
  const auto plan = top.ops->plan_step(layout, {}, shape, top.on());
  top.ops->rotate_and_store(device.view, nullptr, nullptr, *kv, 0, shape, *plan, top.on());
  std::vector<std::int8_t> block(kv->shape().block_bytes());
  top.ops->read_block(block.data(), *kv, 0, top.on());
  top.on().synchronize();
  const auto half = block.size() / 2;
  const auto at = static_cast<std::size_t>(slot);
  const auto width = static_cast<std::size_t>(dim);
  stored_token out;
  std::memcpy(&out.key_scale, &block[16 * width + 4 * at], 4);
  std::memcpy(&out.value_scale, &block[half + 16 * width + 4 * at], 4);
  for (std::size_t d = 0; d < width; ++d) {
    auto key_at = on_cuda ? at * width + d : 16 * d + at;  // the layout is the back end's
    auto value_at = at * width + d;
    if (in_pairs(isa, dtype::i8)) {
      if (d < width / 2 * 2) key_at = d / 2 * 32 + 2 * at + d % 2;
      value_at = at / 2 * 2 * width + 2 * d + at % 2;
    }
    out.key.push_back(static_cast<float>(block[key_at]) * out.key_scale);
    out.value.push_back(static_cast<float>(block[half + value_at]) * out.value_scale);
  }
  return out;
}

}  // namespace

/// Every element within half a step of 254 from end to end, the largest within a rounding of itself.
BOOST_DATA_TEST_CASE(i8_is_as_near_as_its_step, every_isa(), isa) {
  for (const std::size_t dim : {1U, 8U, 20U, 64U, 128U}) {
    for (const float magnitude : {1e-20F, 1.0F, 1e20F}) {
      const auto key = random_values(dim, 7, magnitude);
      const auto value = random_values(dim, 8, magnitude);
      const auto found = through_i8(isa, key, value, static_cast<std::int32_t>(dim % 16));
      const auto near = [](const std::vector<float>& got, const std::vector<float>& want, float scale) {
        float largest = 0;
        for (std::size_t i = 0; i < want.size(); ++i) {
          BOOST_TEST(std::abs(got[i] - want[i]) <= 0.5001F * scale);
          largest = std::max(largest, std::abs(want[i]));
        }
        BOOST_TEST(std::abs(scale - largest / 127) <= 1e-6F * scale);
      };
      near(found.key, key, found.key_scale);
      near(found.value, value, found.value_scale);
    }
  }
  const auto zeros = through_i8(isa, {0, 0, 0}, {0, 1e-35F, 0}, 3);
  BOOST_TEST(zeros.key == std::vector<float>(3, 0.0F));
  BOOST_TEST(zeros.value == std::vector<float>(3, 0.0F));
}

/// Damage is seen, not rounded away.
BOOST_DATA_TEST_CASE(i8_keeps_what_is_no_number, every_isa(), isa) {
  for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
    std::vector<float> key = random_values(20, 1);
    key[17] = wrong;
    BOOST_TEST(std::isnan(through_i8(isa, key, random_values(20, 2), 5).key_scale));
    BOOST_TEST(std::isnan(through_i8(isa, random_values(20, 2), key, 5).value_scale));
  }
}

BOOST_DATA_TEST_CASE(long_contexts_in_segments, every_isa(), isa) {
  for (const int threads : {1, 8}) {
    if (on_cuda && threads > 1) break;
    options with;
    with.threads = threads;
    if (on_cuda) {
      with.type = dtype::bf16;
      check_attention(isa, {4, 2, 64, 0}, {{700, 1}, {255, 1}, {256, 1}, {250, 40}}, with);
      check_attention(isa, {2, 1, 16, 300}, {{900, 1}, {600, 30}}, with);
      // More heads than an emulated device needs to be busy: a block goes through all of the segments.
      check_attention(isa, {8, 8, 16, 0}, {{2300, 1}}, with);
    }
    with.type = dtype::i8;
    check_attention(isa, {4, 2, 16, 0}, {{2100, 1}, {1020, 9}}, with);
    with.type = dtype::f32;
    check_attention(isa, {4, 2, 16, 0}, {{2100, 1}}, with);
    check_attention(isa, {4, 2, 16, 0}, {{1023, 1}, {1024, 1}, {1020, 9}}, with);
    check_attention(isa, {2, 1, 16, 700}, {{2500, 1}, {1700, 5}}, with);
    check_attention(isa, {2, 1, 16, 1500}, {{3100, 2}}, with);
  }
}

BOOST_DATA_TEST_CASE(rotations_and_head_norms, every_isa(), isa) {
  const std::vector<sequence_case> cases = {{0, 20}, {33, 1}};
  for (const auto rotation : {rope_kind::none, rope_kind::half, rope_kind::interleaved}) {
    for (const bool norms : {false, true}) {
      for (const std::int32_t pairs : {-1, 6}) {
        options with;
        with.rotation = rotation;
        with.head_norms = norms;
        with.pairs = pairs;
        check_attention(isa, {4, 2, 32, 0}, cases, with);
      }
    }
  }
}

/// Scores of hundreds must not overflow, and one key may take all the weight.
BOOST_DATA_TEST_CASE(large_scores, every_isa(), isa) {
  bench_top top{isa};
  const std::int32_t dim = 16;
  const std::int32_t tokens = 50;
  const attention_shape shape{1, 1, dim, 1.0F, 0};
  auto kv = top.ops->make_kv_store({1, 4, 1, dim, dtype::f32});
  matrix qkv = random_matrix(tokens, 3 * dim, 1, 30.0F);
  step_layout layout;
  for (std::int32_t t = 0; t < tokens; ++t) layout.positions.push_back(t);
  layout.sequences = {{0, tokens, 0, {2, 0, 3, 1}}};
  const auto plan = top.ops->plan_step(layout, {}, shape, top.on());
  auto device = top.put(qkv);
  top.ops->rotate_and_store(device.view, nullptr, nullptr, *kv, 0, shape, *plan, top.on());
  auto out = top.empty(tokens, dim);
  top.ops->attention(out.view, device.view.col_range(0, dim), *kv, 0, shape, *plan, top.on());
  const auto found = top.get(out.view);
  matrix keys{tokens, dim};
  matrix values{tokens, dim};
  for (std::int32_t t = 0; t < tokens; ++t) {
    for (std::int32_t d = 0; d < dim; ++d) {
      keys.at(t, d) = qkv.at(t, dim + d);
      values.at(t, d) = qkv.at(t, 2 * dim + d);
    }
  }
  for (std::int32_t t = 0; t < tokens; ++t) {
    const auto expected = reference::attend(&qkv.at(t, 0), keys, values, t, 0, 1.0F);
    for (std::int32_t d = 0; d < dim; ++d) {
      BOOST_REQUIRE_SMALL(found.at(t, d) - expected[static_cast<std::size_t>(d)], 0.05F);
    }
  }
}

BOOST_AUTO_TEST_CASE(blocks_move) {
  bench_top top{""};
  for (const auto type : kv_types) {
    auto kv = top.ops->make_kv_store({3, 4, 2, 20, type});
    const auto bytes = kv->shape().block_bytes();
    BOOST_REQUIRE_EQUAL(bytes, 2U * 3 * 2 * 16 * (20 * size_of(type) + (type == dtype::i8 ? 4 : 0)));
    std::vector<std::vector<std::byte>> written;
    for (std::int32_t b = 0; b < 4; ++b) {
      written.push_back(bytes_of(random_values(bytes / 4, static_cast<unsigned>(b)), dtype::f32));
      top.ops->write_block(*kv, b, written.back().data(), top.on());
    }
    top.ops->copy_block(*kv, 1, 3, top.on());
    top.ops->copy_block(*kv, 2, 2, top.on());
    written[1] = written[3];
    for (std::int32_t b = 0; b < 4; ++b) {
      std::vector<std::byte> read(bytes);
      top.ops->read_block(read.data(), *kv, b, top.on());
      top.on().synchronize();
      BOOST_TEST((read == written[static_cast<std::size_t>(b)]));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
