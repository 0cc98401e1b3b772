#include <cstdlib>
#include <optional>

#include "fixture.hpp"
#include "kernels/cuda/graphs.hpp"
#ifdef FASTSERVE_CUDA_EMULATION
#include "runtime.hpp"
#endif

using namespace fastserve::kernels;

// Recorded decode steps give what the same ops give one by one, whatever changes from step to step.

BOOST_AUTO_TEST_SUITE(graphs)

namespace {

constexpr std::int32_t hidden = 72;  // no whole units: products pad their input into scratch
constexpr std::int32_t heads = 3;
constexpr std::int32_t head_dim = 24;
constexpr std::int32_t vocabulary = 40;
constexpr std::int32_t longest = 1200;  // tokens: five segments
constexpr std::int32_t sequence_blocks = (longest + kv_block_tokens - 1) / kv_block_tokens;
constexpr std::int32_t most_sequences = 6;
constexpr std::int32_t most_rows = 40;

/// Two layers and a head over a store that is full of something, so that a sequence may be anywhere.
class decoder {
 public:
  explicit decoder(bool rounded)
      : ops{make_device()},
        on{ops->make_stream()},
        words_{bytes_of(random_values(std::size_t{vocabulary} * hidden, 1), dtype::f32)},
        tokens_{ops->table({words_.data(), dtype::f32, vocabulary, hidden, false})},
        kv_{ops->make_kv_store({2, most_sequences * sequence_blocks, 1, head_dim, dtype::bf16})} {
    const auto gain = random_values(hidden, 2);
    gain_ = ops->allocate(gain.size() * sizeof(float));
    ops->upload(gain_.view(dtype::f32, 1, hidden), gain.data(), *on);
    for (unsigned layer = 0; layer < 2; ++layer) {
      qkv_weight_.push_back(pack((heads + 2) * head_dim, hidden, rounded, 10 * layer + 3));
      out_weight_.push_back(pack(hidden, heads * head_dim, rounded, 10 * layer + 4));
    }
    head_ = pack(vocabulary, hidden, rounded, 5);
    for (int i = 0; i < head_dim / 2; ++i)
      rope_.inverse_frequency.push_back(std::pow(0.5F, static_cast<float>(i)));
    const auto room = [&](dtype type, std::int64_t cols) {
      return ops->allocate(bytes_of(type, most_rows, cols) + bytes_of(type, 1, cols));
    };
    x_ = room(dtype::f32, hidden);
    normed_ = room(input(), hidden);
    qkv_ = room(dtype::f32, (heads + 2) * head_dim);
    mixed_ = room(dtype::f32, heads * head_dim);
    sampled_ = room(dtype::f32, hidden);
    logits_ = room(dtype::f32, vocabulary);
    const auto bytes = kv_->shape().block_bytes();
    for (std::int32_t b = 0; b < kv_->shape().blocks; ++b) {
      const auto values = bytes_of(random_values(bytes / 2, static_cast<unsigned>(b)), dtype::bf16);
      ops->write_block(*kv_, b, values.data(), *on);
      on->synchronize();
    }
  }

  void run(const step_layout& layout, step_recorder& by) {
    const auto plan = ops->plan_step(layout, rope_, shape_, *on);
    run(layout, *plan, by);
  }
  void run(const step_layout& layout, const step_plan& plan, step_recorder& by) {
    by.run(plan, *kv_, *on, [&] { step(layout, plan); });
  }

  std::vector<float> logits(const step_layout& layout) {
    const auto view =
        logits_.view(dtype::f32, static_cast<std::int64_t>(layout.sampled_rows.size()), vocabulary);
    const auto* values = static_cast<const float*>(ops->host_read(view, *on));
    return {values, values + view.rows * view.cols};
  }
  std::vector<std::byte> store() {
    const auto bytes = kv_->shape().block_bytes();
    std::vector<std::byte> all(bytes * static_cast<std::size_t>(kv_->shape().blocks));
    for (std::int32_t b = 0; b < kv_->shape().blocks; ++b)
      ops->read_block(all.data() + static_cast<std::size_t>(b) * bytes, *kv_, b, *on);
    on->synchronize();
    return all;
  }

  std::unique_ptr<backend> ops;
  std::unique_ptr<stream> on;
  std::function<void()> during_step;

 private:
  void step(const step_layout& layout, const step_plan& plan) {
    const auto rows = static_cast<std::int64_t>(layout.positions.size());
    const norm_weights norm{norm_kind::rms, 1e-5F, gain_.view(dtype::f32, 1, hidden), {}};
    const auto x = x_.view(dtype::f32, rows, hidden);
    const auto normed = normed_.view(input(), rows, hidden);
    const auto qkv = qkv_.view(dtype::f32, rows, (heads + 2) * head_dim);
    const auto mixed_type = input() == dtype::q8 ? dtype::f32 : input();
    const auto mixed = mixed_.view(mixed_type, rows, heads * head_dim);
    ops->embed(x, *tokens_, nullptr, plan, *on);
    for (std::int32_t layer = 0; layer < 2; ++layer) {
      const auto at = static_cast<std::size_t>(layer);
      ops->norm(normed, x, norm, *on);
      ops->linear(qkv, normed, *qkv_weight_[at], {}, false, *on);
      ops->rotate_and_store(qkv, nullptr, nullptr, *kv_, layer, shape_, plan, *on);
      ops->attention(mixed, qkv.col_range(0, heads * head_dim), *kv_, layer, shape_, plan, *on);
      ops->linear(x, mixed, *out_weight_[at], {}, true, *on);
      if (during_step) during_step();
    }
    const auto sampled = static_cast<std::int64_t>(layout.sampled_rows.size());
    const auto rows_out = sampled_.view(dtype::f32, sampled, hidden);
    const auto normed_out = normed_.view(input(), sampled, hidden);
    if (sampled == 0) return;
    ops->gather_sampled(rows_out, x, plan, *on);
    ops->norm(normed_out, rows_out, norm, *on);
    ops->linear(logits_.view(dtype::f32, sampled, vocabulary), normed_out, *head_, {}, false, *on);
  }
  std::unique_ptr<weight> pack(std::int64_t rows, std::int64_t cols, bool rounded, unsigned seed) {
    const auto values =
        bytes_of(random_values(static_cast<std::size_t>(rows * cols), seed, 0.1F), dtype::f32);
    const host_matrix host{values.data(), dtype::f32, rows, cols, false};
    if (rounded) return ops->quantize({&host, 1}, {8, 0, zero_kind::none, dtype::f32});
    return ops->pack({&host, 1}, dtype::bf16);
  }
  dtype input() const { return head_->input_type(); }

  attention_shape shape_{heads, 1, head_dim, 0.25F, 0};
  rope_table rope_{rope_kind::half, {}, 1.0F};
  std::vector<std::byte> words_;
  std::unique_ptr<weight> tokens_;
  std::unique_ptr<kv_store> kv_;
  std::vector<std::unique_ptr<weight>> qkv_weight_, out_weight_;
  std::unique_ptr<weight> head_;
  buffer gain_, x_, normed_, qkv_, mixed_, sampled_, logits_;
};

/// Steps of random sequences at random places.
class step_maker {
 public:
  explicit step_maker(unsigned seed) : random_{seed} {
    for (std::int32_t b = 0; b < most_sequences * sequence_blocks; ++b) blocks_.push_back(b);
  }
  std::int32_t pick(std::int32_t low, std::int32_t high) {
    return std::uniform_int_distribution<std::int32_t>{low, high}(random_);
  }
  /// `rows` of them for each sequence; 0 or more rows of all sampled.
  step_layout make(std::int32_t sequences, std::int32_t rows, std::int32_t most_position, bool all_sampled) {
    std::shuffle(blocks_.begin(), blocks_.end(), random_);
    step_layout out;
    for (std::int32_t s = 0; s < sequences; ++s) {
      step_sequence sequence{
          static_cast<std::int32_t>(out.positions.size()), rows, pick(0, most_position), {}};
      for (std::int32_t r = 0; r < rows; ++r) {
        if (all_sampled || pick(0, 1) == 0)
          out.sampled_rows.push_back(static_cast<std::int32_t>(out.positions.size()));
        out.token_ids.push_back(pick(0, vocabulary - 1));
        out.positions.push_back(sequence.first_position + r);
      }
      const auto first = blocks_.begin() + s * sequence_blocks;
      sequence.blocks.assign(first, first + (sequence.first_position + rows - 1) / kv_block_tokens + 1);
      out.sequences.push_back(std::move(sequence));
    }
    return out;
  }

 private:
  std::mt19937 random_;
  std::vector<std::int32_t> blocks_;
};

/// The same steps recorded and op by op.
struct both {
  explicit both(bool rounded = false)
      : recorded{rounded}, plain{rounded}, by{recorded.ops->make_recorder()} {}

  cuda::cuda_recorder& recorder() { return dynamic_cast<cuda::cuda_recorder&>(*by); }
  void check(const step_layout& layout) { check(layout, *by); }
  void check(const step_layout& layout, step_recorder& through) {
    recorded.run(layout, through);
    plain.run(layout, op_by_op);
    BOOST_REQUIRE(same_bits(recorded.logits(layout), plain.logits(layout)));
  }
  void check_stores() { BOOST_TEST((recorded.store() == plain.store())); }

  decoder recorded, plain;
  std::unique_ptr<step_recorder> by;
  step_recorder op_by_op;
};

/// A variable of the environment for as long as this lives.
class with_variable {
 public:
  with_variable(const char* name, const char* value) : name_{name} {
    if (const char* old = std::getenv(name)) before_ = old;
    ::setenv(name, value, 1);
  }
  ~with_variable() {
    if (before_)
      ::setenv(name_, before_->c_str(), 1);
    else
      ::unsetenv(name_);
  }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(decode_steps_give_the_same_bits) {
  for (const bool rounded : {false, true}) {
    both b{rounded};
    step_maker steps{rounded ? 3U : 4U};
    for (int i = 0; i < (emulated ? 100 : 600); ++i) {
      const auto kind = steps.pick(0, 9);
      if (kind == 0) {
        b.check(steps.make(steps.pick(1, 3), steps.pick(2, 12), 700, true));  // prompts
      } else if (kind < 7) {
        b.check(steps.make(steps.pick(1, 4), 1, steps.pick(0, 1) == 0 ? 200 : longest - 1, true));
      } else {
        b.check(steps.make(steps.pick(1, most_sequences), 1, longest - 1, false));
      }
    }
    b.check_stores();
    const auto& n = b.recorder().steps();
    BOOST_TEST_MESSAGE(n.plain << " steps op by op, " << n.captured << " captured, " << n.replayed
                               << " replayed");
    BOOST_TEST(!b.recorder().gave_up());
    BOOST_TEST(n.captured >= 5U);
    BOOST_TEST(n.replayed >= 10U);
  }
}

/// A growing sequence: the same shape for many steps, then one with more tasks.
BOOST_AUTO_TEST_CASE(shapes_last) {
  both b;
  step_maker steps{5};
  auto layout = steps.make(1, 1, 0, true);
  for (std::int32_t position = 240; position < 300; ++position) {
    layout.positions[0] = layout.sequences[0].first_position = position;
    layout.token_ids[0] = position % vocabulary;
    layout.sequences[0].blocks.clear();
    for (std::int32_t block = 0; block <= position / kv_block_tokens; ++block)
      layout.sequences[0].blocks.push_back(3 * block);
    b.check(layout);
  }
  b.check_stores();
  const auto& n = b.recorder().steps();
  BOOST_TEST(n.captured == 2U);  // of one segment and of several
  BOOST_TEST(n.plain <= 4U);     // two for the shapes, the others where scratch has moved
  BOOST_TEST(n.captured + n.plain + n.replayed == 60U);
}

BOOST_AUTO_TEST_CASE(graphs_go_when_scratch_moves) {
  both b;
  step_maker steps{6};
  const auto decode = [&] { b.check(steps.make(2, 1, longest - 1, true)); };
  for (int i = 0; i < 8; ++i) decode();
  const auto before = b.recorder().steps();
  BOOST_TEST(before.captured >= 1U);
  BOOST_TEST(b.recorder().graphs() >= 1U);
  // Too many rows for the softmax states and padded inputs so far.
  b.check(steps.make(1, most_rows, 1100, true));
  b.check(steps.make(most_sequences, 4, longest - 10, true));
  decode();
  BOOST_TEST(b.recorder().steps().replayed == before.replayed);
  BOOST_TEST(b.recorder().graphs() == 0U);
  for (int i = 0; i < 8; ++i) decode();
  BOOST_TEST(b.recorder().steps().replayed > before.replayed);
  BOOST_TEST(!b.recorder().gave_up());
}

BOOST_AUTO_TEST_CASE(the_least_recently_used_goes) {
  both b;
  step_maker steps{7};
  const std::uint64_t still = 0;
  const auto decode = [&](cuda::cuda_recorder& by, std::int32_t sequences) {
    b.check(steps.make(sequences, 1, 100, true), by);
  };
  cuda::cuda_recorder warm{0, true, still};
  for (const std::int32_t n : {5, 1}) decode(warm, n);  // scratch is large enough from here on

  cuda::cuda_recorder two{0, true, still, {2, 1 << 20}};
  for (const std::int32_t n : {1, 1, 2, 2, 1, 3, 3}) decode(two, n);
  BOOST_TEST(two.graphs() == 2U);
  BOOST_TEST(two.steps().captured == 3U);
  BOOST_TEST(two.steps().replayed == 1U);
  decode(two, 1);
  BOOST_TEST(two.steps().replayed == 2U);
  decode(two, 2);  // had gone
  BOOST_TEST(two.steps().captured == 3U);
  BOOST_TEST(two.steps().plain == 4U);

  // Of more kernels than there is room for: only the last one.
  cuda::cuda_recorder few{0, true, still, {64, 1}};
  for (const std::int32_t n : {1, 1, 2, 2, 2}) decode(few, n);
  BOOST_TEST(few.graphs() == 1U);
  BOOST_TEST(few.steps().captured == 2U);
  BOOST_TEST(few.steps().replayed == 1U);
}

BOOST_AUTO_TEST_CASE(graphs_in_flight_are_waited_for) {
  both b;
  step_maker steps{13};
  for (int i = 0; i < 3; ++i) b.check(steps.make(2, 1, 100, true));
  const auto last = steps.make(2, 1, 100, true);
  b.recorded.run(last, *b.by);
  BOOST_TEST(b.recorder().steps().replayed >= 1U);
  b.by.reset();
  b.plain.run(last, b.op_by_op);
  BOOST_TEST(same_bits(b.recorded.logits(last), b.plain.logits(last)));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_captured_is_run) {
  both b;
  step_maker steps{8};
  const auto decode = [&] { b.check(steps.make(2, 1, 100, true)); };
  decode();
  // Memory cannot be had in a capture, so the second step of the shape fails to be one.
  b.recorded.during_step = [&] { (void)b.recorded.ops->allocate(1 << 20); };
  BOOST_TEST(b.recorder().failure() == "");
  decode();
  BOOST_TEST(b.recorder().gave_up());
  b.recorded.during_step = {};
  for (int i = 0; i < 3; ++i) decode();
  b.check_stores();
  BOOST_TEST(b.recorder().steps().captured == 0U);
  BOOST_TEST(b.recorder().steps().plain == 5U);
}

BOOST_AUTO_TEST_CASE(one_plan_at_a_time_is_recorded) {
  both b;
  step_maker steps{9};
  for (int i = 0; i < 3; ++i) b.check(steps.make(2, 1, 100, true));
  const auto first = steps.make(2, 1, 100, true);
  const auto second = steps.make(2, 1, 100, true);
  const attention_shape shape{heads, 1, head_dim, 0.25F, 0};
  rope_table rope{rope_kind::half, {}, 1.0F};
  for (int i = 0; i < head_dim / 2; ++i)
    rope.inverse_frequency.push_back(std::pow(0.5F, static_cast<float>(i)));
  const auto before = b.recorder().steps();
  {
    const auto held = b.recorded.ops->plan_step(first, rope, shape, *b.recorded.on);
    b.check(second);
    b.recorded.run(first, *held, *b.by);
    b.plain.run(first, b.op_by_op);
    BOOST_TEST(same_bits(b.recorded.logits(first), b.plain.logits(first)));
  }
  BOOST_TEST(b.recorder().steps().replayed == before.replayed + 1);
  BOOST_TEST(b.recorder().steps().plain == before.plain + 1);
  // Another stream's steps are other graphs.
  const auto used = std::exchange(b.recorded.on, b.recorded.ops->make_stream());
  for (int i = 0; i < 3; ++i) b.check(steps.make(2, 1, 100, true));
  BOOST_TEST(b.recorder().graphs() == 2U);
  b.check_stores();
}

BOOST_AUTO_TEST_CASE(the_environment_turns_them_off) {
  {
    const with_variable off{"FASTSERVE_CUDA_GRAPHS", "0"};
    both b;
    step_maker steps{10};
    for (int i = 0; i < 4; ++i) b.check(steps.make(2, 1, 100, true));
    BOOST_TEST(b.recorder().steps().plain == 4U);
    BOOST_TEST(b.recorder().failure() == "");  // as wanted
  }
  const with_variable wrong{"FASTSERVE_CUDA_GRAPHS", "yes"};
  const auto ops = make_device();
  BOOST_CHECK_EXCEPTION(ops->make_recorder(), std::runtime_error, [](const std::runtime_error& e) {
    return std::string{e.what()} == "FASTSERVE_CUDA_GRAPHS is 'yes', expected 0 or 1";
  });
}

#ifdef FASTSERVE_CUDA_EMULATION

BOOST_AUTO_TEST_CASE(every_failure_falls_back) {
  for (const auto* call :
       {"cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch"}) {
    for (const int at : {1, 4}) {
      if (at == 4 && std::string{call} != "cudaGraphLaunch") continue;
      BOOST_TEST_CONTEXT(call << ", step " << at) {
        both b;
        step_maker steps{11};
        for (int i = 0; i < 6; ++i) {
          if (i == at) fastserve::emulation::refuse(call);
          b.check(steps.make(i < 2 ? 1 : 2, 1, 100, true));
        }
        b.check_stores();
        BOOST_TEST(b.recorder().failure() == "the device has no memory left");
        BOOST_TEST(b.recorder().graphs() == 0U);
        BOOST_TEST(b.recorder().steps().captured == (at == 1 ? 0U : 2U));
      }
    }
  }
}

/// The host may be any number of steps ahead of the device, and asks it for nothing.
BOOST_AUTO_TEST_CASE(a_host_ahead_allocates_nothing_and_waits_for_no_stream) {
  both b;
  step_maker steps{12};
  for (int i = 0; i < 12; ++i) b.check(steps.make(3, 1, longest - 1, true));
  for (int i = 0; i < 3; ++i) b.check(steps.make(3, 1, 200, true));
  const auto ten = [&] {
    std::vector<step_layout> out;
    for (int i = 0; i < 10; ++i) out.push_back(steps.make(3, 1, 200, true));
    return out;
  };
  const auto queue = [&](const std::vector<step_layout>& layouts) {
    for (const auto& layout : layouts) b.recorded.run(layout, *b.by);
    for (const auto& layout : layouts) b.plain.run(layout, b.op_by_op);
  };
  queue(ten());  // pinned memory for some steps ahead
  const auto counts = [] {
    std::vector<std::uint64_t> out;
    for (const auto* call : {"cudaMalloc", "cudaFree", "cudaMallocHost", "cudaFreeHost",
                             "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaGraphInstantiate"})
      out.push_back(fastserve::emulation::calls(call));
    return out;
  };
  const auto ahead = ten();
  const auto before = counts();
  queue(ahead);
  BOOST_TEST(counts() == before, boost::test_tools::per_element());
  BOOST_TEST(same_bits(b.recorded.logits(ahead.back()), b.plain.logits(ahead.back())));
  b.check_stores();
}

#endif

BOOST_AUTO_TEST_SUITE_END()
