#include <boost/test/unit_test.hpp>
#include <cmath>
#include <fstream>
#include <iostream>
#include <limits>
#include <type_traits>

#include "../support/temporary_folder.hpp"
#include "expect_error.hpp"
#include "gguf_of.hpp"
#include "gguf_writer.hpp"
#include "golden.hpp"
#include "model/gguf_source.hpp"

namespace fastserve::model::test {
namespace {

using kernels::dtype;

gguf_header parse(const std::string& bytes) {
  return parse_gguf_header(std::as_bytes(std::span(bytes.data(), bytes.size())), "x.gguf");
}

/// A file of one tensor, [2, 32] of F32.
gguf_writer small() {
  gguf_writer w;
  w.text("general.architecture", "llama");
  w.f32_tensor("t", {2, 32}, std::vector<float>(64, 1.0F));
  return w;
}

void refused(const gguf_writer& w, std::initializer_list<std::string_view> parts) {
  expect_error([&] { parse(w.bytes()); }, parts);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_header_is_read) {
  auto w = small();
  w.number("n", 7U);
  w.number("x", 0.5F);
  w.flag("yes", true);
  w.value("minus", gguf_type::i8, "\xFE");
  w.value("large", gguf_type::u64, gguf_writer::raw(std::uint64_t{1} << 40));
  w.texts("words", {"a", "", "\xC4\xA0t"});
  w.numbers<float>("floats", gguf_type::f32, {1.5F, -2.0F});
  w.numbers<std::int32_t>("ints", gguf_type::i32, {3, -4});
  w.tensor("s", {3, 256}, 12, std::string(3 * 144, 'x'));
  for (const std::uint32_t version : {2U, 3U}) {
    w.version = version;
    const auto bytes = w.bytes();
    const auto h = parse(bytes);
    BOOST_CHECK_EQUAL(h.version, version);
    BOOST_REQUIRE_EQUAL(h.tensors.size(), 2U);
    BOOST_CHECK_EQUAL(h.tensors[0].name, "s");
    BOOST_CHECK_EQUAL(h.tensors[0].type->name, "Q4_K");
    BOOST_CHECK((h.tensors[0].shape == std::vector<std::int64_t>{3, 256}));
    BOOST_CHECK_EQUAL(h.tensors[0].end, bytes.size());
    BOOST_CHECK_EQUAL(h.tensors[1].end - h.tensors[1].begin, 256U);
    BOOST_CHECK_EQUAL(h.tensors[1].begin % 32, 0U);
    const auto& m = h.metadata;
    BOOST_CHECK_EQUAL(m.integer("n", 0, 10), 7);
    BOOST_CHECK_EQUAL(m.integer("minus", -5, 5), -2);
    BOOST_CHECK_EQUAL(m.integer("large", 0, std::int64_t{1} << 41), std::int64_t{1} << 40);
    BOOST_CHECK_EQUAL(m.number("x", 0, 1), 0.5);
    BOOST_CHECK_EQUAL(m.number("n", 0, 10), 7);
    BOOST_CHECK(m.flag("yes", false) && m.flag("absent", true));
    BOOST_CHECK((m.texts("words") == std::vector<std::string_view>{"a", "", "\xC4\xA0t"}));
    BOOST_CHECK((m.floats("floats") == std::vector<float>{1.5F, -2.0F}));
    BOOST_CHECK((m.integers("ints") == std::vector<std::int32_t>{3, -4}));
    BOOST_CHECK(m.texts("absent").empty() && m.floats("absent").empty());
    expect_error([&] { m.integer("n", 0, 6); }, {"x.gguf", "'n' is 7", "[0, 6]"});
    expect_error([&] { m.integer("x", 0, 6); }, {"'x' is 0.5", "whole number"});
    expect_error([&] { m.integer("absent", 0, 6); }, {"'absent' is missing"});
    expect_error([&] { m.number("words", 0, 6); }, {"'words' is an array of 3 STRING"});
    expect_error([&] { m.flag("n", false); }, {"'n' is 7", "true or false"});
    expect_error([&] { m.text("yes"); }, {"'yes' is true", "a string"});
    expect_error([&] { m.texts("floats"); }, {"'floats' is an array of 2 FLOAT32", "array of STRING"});
    expect_error([&] { m.floats("ints"); }, {"array of FLOAT32"});
    expect_error([&] { m.integers("general.architecture"); }, {"'llama'", "array of INT32"});
  }
}

BOOST_AUTO_TEST_CASE(hostile_headers_are_refused) {
  expect_error([] { parse(""); }, {"x.gguf", "does not begin with 'GGUF'"});
  expect_error([] { parse("PK\3\4 and so on"); }, {"not a GGUF file"});
  auto w = small();
  w.version = 1;
  refused(w, {"version 1, expected 2 or 3"});
  w.version = 0x03000000;
  refused(w, {"big-endian"});
  w.version = 3;
  expect_error([&] { parse(w.header(1, ~0ULL)); }, {"claims 18446744073709551615 keys"});
  expect_error([&] { parse(w.header(1ULL << 60, 1)); }, {"claims 1152921504606846976 tensors"});
  const auto whole = w.bytes();
  for (std::size_t cut = 0; cut < whole.size(); ++cut)
    expect_error([&] { parse(whole.substr(0, cut)); }, {"x.gguf: "});

  w = small();
  w.number("general.architecture", 1U);
  refused(w, {"key 'general.architecture' appears twice"});
  w = small();
  w.value("k", static_cast<gguf_type>(13), "");
  refused(w, {"'k' is of type 13"});
  w = small();
  w.value("k", gguf_type::boolean, "\2");
  refused(w, {"'k' holds 2 as a truth value"});
  w = small();
  w.value("k", gguf_type::string, gguf_writer::raw(~0ULL));
  refused(w, {"value of key 'k'", "18446744073709551615 bytes"});
  const auto array = [](gguf_type type, std::uint64_t count) {
    return gguf_writer::raw(static_cast<std::uint32_t>(type)) + gguf_writer::raw(count);
  };
  for (const auto type : {gguf_type::u8, gguf_type::f64, gguf_type::string}) {
    w = small();
    w.value("k", gguf_type::array, array(type, 1ULL << 61));
    refused(w, {"'k' claims 2305843009213693952 elements"});
  }
  w = small();
  w.value("k", gguf_type::array, array(gguf_type::array, 1));
  refused(w, {"'k' is an array of arrays"});
  w = small();
  w.value(std::string(70000, 'k'), gguf_type::u8, "x");
  refused(w, {"70000 bytes, expected at most 65535"});

  const auto tensor = [](const std::vector<std::int64_t>& shape, std::uint32_t type, std::uint64_t at) {
    auto out = small();
    out.tensor_at("u", shape, type, at);
    return out;
  };
  refused(tensor({}, 0, 256), {"'u' has 0 dimensions"});
  refused(tensor({1, 1, 1, 1, 1}, 0, 256), {"'u' has 5 dimensions"});
  refused(tensor({0}, 0, 0), {"dimension 0 is 0"});
  refused(tensor({1LL << 40, 1LL << 40}, 0, 0), {"'u': dimension 1 is 1099511627776"});
  refused(tensor({1LL << 62}, 0, 0), {"'u': dimension 0"});
  refused(tensor({4}, 4, 0), {"'u' is of type 4, which no tensor has"});
  refused(tensor({4}, 999, 0), {"type 999"});
  refused(tensor({2, 33}, 2, 0), {"rows of 33 values, expected a multiple of 32 for Q4_0"});
  refused(tensor({8}, 0, 4), {"offset 4, expected a multiple of the alignment 32"});
  refused(tensor({8}, 0, 256), {"offset 256 of 32 bytes, but the file has 256 bytes"});
  refused(tensor({8}, 0, ~31ULL), {"(is it truncated?)"});
  refused(tensor({8}, 0, 224), {"they overlap"});
  w = small();
  w.f32_tensor("t", {1}, std::vector<float>{1});
  refused(w, {"tensor 't' appears twice"});
  for (const std::uint32_t alignment : {0U, 4U, 24U, 1U << 30}) {
    w = small();
    w.number("general.alignment", alignment);
    refused(w, {"'general.alignment' is " + std::to_string(alignment)});
  }
  w = small();
  w.text("general.alignment", "32");
  refused(w, {"'general.alignment' is '32'"});
}

/// Random blocks of every type beside the numbers that the format's own library makes of them
/// (scripts/make_gguf_goldens.py).
BOOST_AUTO_TEST_CASE(blocks_unpack_exactly) {
  const gguf_file file(FASTSERVE_TEST_DATA "/gguf/blocks.gguf");
  int types = 0;
  for (const auto& tensor : file.tensors()) {
    if (!tensor.type->quantized) continue;
    ++types;
    BOOST_TEST_CONTEXT(tensor.name) {
      const auto* values = file.find(std::string(tensor.name) + ".values");
      BOOST_REQUIRE(values != nullptr && values->shape == tensor.shape);
      std::vector<float> want(static_cast<std::size_t>(tensor.shape[0] * tensor.shape[1]));
      kernels::to_f32(want.data(), file.bytes(*values).data(), dtype::f32, want.size());
      kernels::quantized_tensor q(*tensor.type->quantized, tensor.shape[0], tensor.shape[1]);
      unpack_blocks(*tensor.type, file.bytes(tensor), q.codes.data(), q.scales.data(), q.offsets.data());
      kernels::check(q.view());
      std::vector<float> got(want.size());
      write_numbers(got.data(), q);
      std::vector<float> slow(want.size());
      for (std::int64_t r = 0; r < q.rows; ++r)
        kernels::dequantize_row(slow.data() + r * q.cols, q.view(), r);
      BOOST_CHECK(got == slow);
      for (std::size_t i = 0; i < want.size(); ++i) {
        // both round the sum of two exact terms once; libraries differ in fused multiply-add
        const float ulp = std::abs(want[i]) * std::numeric_limits<float>::epsilon();
        const bool same = q.offsets.empty() ? got[i] == want[i] : std::abs(got[i] - want[i]) <= ulp;
        BOOST_REQUIRE_MESSAGE(same, "value " << i << " is " << got[i] << ", expected " << want[i]);
      }
    }
  }
  BOOST_CHECK_EQUAL(types, 10);
}

/// Every golden model that GGUF can express, by way of a GGUF file.
BOOST_AUTO_TEST_CASE(models_match_the_reference) {
  const auto cpu = kernels::make_cpu_backend(1);
  std::vector<std::string> kinds;
  for (const auto& g : all_goldens()) {
    model_folder original(g.folder);
    const auto& windows = original.arch().window;
    if (std::adjacent_find(windows.begin(), windows.end(), std::not_equal_to<>()) != windows.end()) continue;
    const auto usual =
        original.arch().model_type == "gpt2" ? kernels::activation::gelu_tanh : kernels::activation::silu;
    if (original.arch().act != usual || original.arch().rope.magnitude != 1.0F) continue;
    BOOST_TEST_CONTEXT(g.name) {
      const temporary_folder folder;
      const auto file = folder.path() / "model.gguf";
      std::ofstream(file, std::ios::binary) << gguf_of(original).bytes();
      model_folder model(file);
      const auto d = model.describe();
      BOOST_CHECK(d.unused.empty());
      BOOST_CHECK_EQUAL(d.parameters, original.arch().parameters());
      BOOST_CHECK_EQUAL(model.arch().max_positions, original.arch().max_positions);
      kinds.push_back(model.arch().model_type);
      pipeline p(model.arch(), model.weights(), *cpu, 2, dtype::f32, dtype::f32);
      const auto prompt = p.feed(g.prompt_ids);
      double worst = relative_error(prompt.back(), g.rows[0]);
      BOOST_CHECK_EQUAL(argmax(prompt.back()), g.greedy_ids[0]);
      for (std::size_t i = 0; i + 1 < g.greedy_ids.size(); ++i) {
        const auto row = p.feed({g.greedy_ids[i]}).front();
        worst = std::max(worst, relative_error(row, g.rows[i + 1]));
        BOOST_CHECK_EQUAL(argmax(row), g.greedy_ids[i + 1]);
      }
      BOOST_CHECK_LT(worst, 1e-4);
    }
  }
  for (const auto* kind : {"gpt2", "llama", "qwen2", "qwen3"})
    BOOST_CHECK_MESSAGE(std::find(kinds.begin(), kinds.end(), kind) != kinds.end(), kind);
}

BOOST_AUTO_TEST_CASE(parts_of_a_model_are_one) {
  const temporary_folder folder;
  model_folder original(all_goldens().at(1).folder);
  const auto whole = gguf_of(original).bytes();
  const auto header = parse(whole);
  gguf_writer parts[2];
  for (const auto& v : header.metadata.values()) {
    std::string bytes(reinterpret_cast<const char*>(v.bytes.data()), v.bytes.size());
    parts[0].value(v.key, v.type, v.type == gguf_type::string ? gguf_writer::raw_text(bytes) : bytes);
  }
  for (std::size_t i = 0; i < header.tensors.size(); ++i) {
    const auto& t = header.tensors[i];
    parts[i % 2].tensor(t.name, t.shape, t.type->id,
                        std::string_view(whole).substr(t.begin, t.end - t.begin));
  }
  for (std::uint32_t i = 0; i < 2; ++i) {
    parts[i].value("split.count", gguf_type::u16, gguf_writer::raw(std::uint16_t{2}));
    parts[i].value("split.no", gguf_type::u16, gguf_writer::raw(static_cast<std::uint16_t>(i)));
    folder.write("m-0000" + std::to_string(i + 1) + "-of-00002.gguf", parts[i].bytes());
  }
  model_folder model(folder.path() / "m-00001-of-00002.gguf");
  const auto d = model.describe();
  BOOST_CHECK_EQUAL(d.files, 2);
  BOOST_CHECK(d.unused.empty());
  expect_error([&] { gguf_source source(folder.write("alone.gguf", parts[0].bytes())); },
               {"alone.gguf: one of 2 parts, expected a name that ends in -00001-of-00002.gguf"});
  folder.write("m-00002-of-00002.gguf", parts[0].bytes());
  expect_error([&] { gguf_source source(folder.path() / "m-00001-of-00002.gguf"); },
               {"m-00002-of-00002.gguf", "'split.no' is 0, expected 1"});
  std::filesystem::remove(folder.path() / "m-00002-of-00002.gguf");
  expect_error([&] { gguf_source source(folder.path() / "m-00001-of-00002.gguf"); },
               {"m-00002-of-00002.gguf", "cannot be opened"});
}

BOOST_AUTO_TEST_CASE(a_wrong_model_is_refused) {
  const temporary_folder folder;
  model_folder original(all_goldens().at(3).folder);
  BOOST_REQUIRE_EQUAL(original.arch().model_type, "llama");
  const auto with = [&](const std::string& from, const std::string& to) {
    auto bytes = gguf_of(original).bytes();
    const auto at = bytes.find(from);
    BOOST_REQUIRE(at != bytes.npos && from.size() == to.size());
    bytes.replace(at, from.size(), to);
    const auto file = folder.write("m.gguf", bytes);
    return [file] { model_folder(file).describe(); };
  };
  const auto number = [](std::string_view key, std::int32_t n) {
    return std::string(key) + gguf_writer::raw(std::uint32_t{4}) + gguf_writer::raw(n);
  };
  const auto& a = original.arch();
  BOOST_CHECK_NO_THROW(with("llama", "llama")());
  expect_error(with("llama.embedding_length", "bloom.embedding_length"),
               {"'llama.embedding_length' is missing"});
  expect_error(with(number("head_count_kv", a.kv_heads), number("head_count_kv", a.heads + 1)),
               {"'llama.attention.head_count_kv' is", "a divisor of"});
  expect_error(with(number("block_count", a.layers), number("block_count", a.layers + 1)),
               {"tensor 'model.layers." + std::to_string(a.layers), "is missing"});
  expect_error(with(number("embedding_length", a.hidden_size), number("embedding_length", a.hidden_size * 2)),
               {"shape is", "by the file's metadata"});
  expect_error(with(number("block_count", a.layers), number("block_count", 0)), {"'llama.block_count' is 0"});
  expect_error(with("token_embd.weight", "token_embX.weight"), {"'token_embd.weight' is missing"});

  auto w = gguf_of(original);
  w.number("llama.expert_count", 8U);
  expect_error([&] { model_folder m(folder.write("m.gguf", w.bytes())); }, {"'llama.expert_count' is 8"});
  w = gguf_of(original);
  w.text("llama.rope.scaling.type", "longrope");
  expect_error([&] { model_folder m(folder.write("m.gguf", w.bytes())); },
               {"'llama.rope.scaling.type' is 'longrope', expected one of: none, linear, yarn"});
  gguf_writer other;
  other.text("general.architecture", "mamba");
  expect_error([&] { model_folder m(folder.write("m.gguf", other.bytes())); }, {"'mamba'", "llama, qwen2"});
}

/// The tensors of a GGUF file are its configuration.
BOOST_AUTO_TEST_CASE(tensors_that_would_change_answers_are_refused) {
  const temporary_folder folder;
  model_folder original(all_goldens().at(3).folder);
  const auto& a = original.arch();
  BOOST_REQUIRE_EQUAL(a.model_type, "llama");
  BOOST_REQUIRE(!a.qkv_bias && !a.tied_head && a.layers > 1);
  const auto with = [&](const std::string& name, std::int64_t size) {
    auto w = gguf_of(original);
    w.f32_tensor(name, {size}, std::vector<float>(static_cast<std::size_t>(size), 3.0F));
    return folder.write("m.gguf", w.bytes());
  };
  const auto refused = [&](const std::string& name, std::int64_t size) {
    const auto file = with(name, size);
    for (const bool whole : {false, true})
      expect_error(
          [&] {
            if (whole) {
              model_folder(file).describe();
            } else {
              gguf_source source(file);
            }
          },
          {"m.gguf: tensor '" + name + "' is none that a llama model has", "remove the tensor"});
  };
  refused("blk.0.attn_q_norm.weight", a.head_dim);
  refused("output.bias", a.vocab_size);
  refused("rope_factors_long.weight", a.head_dim / 2);
  refused("blk.0.attn_sinks.weight", a.heads);
  refused("blk.0.attn_norm.bias", a.hidden_size);
  refused("blk." + std::to_string(a.layers) + ".attn_norm.weight", a.hidden_size);
  BOOST_CHECK_NO_THROW(model_folder(with("blk.0.attn_rot_embd.weight", a.head_dim / 2)).describe());
  // Biases of some layers, or of some of their matrices.
  for (const auto* name : {"attn_q", "attn_v"})
    expect_error(
        [&] { model_folder(with("blk.1." + std::string(name) + ".bias", a.query_size())).describe(); },
        {"tensor 'model.layers.0.self_attn.q_proj.bias' is missing"});
  expect_error([&] { model_folder(with("blk.1.ffn_down.bias", a.hidden_size)).describe(); },
               {"tensor 'model.layers.0.mlp.gate_proj.bias' is missing"});
}

BOOST_AUTO_TEST_CASE(keys_that_would_change_answers_are_refused) {
  const temporary_folder folder;
  model_folder original(all_goldens().at(3).folder);
  const auto refused = [&](const std::string& key, auto value, std::string_view expected) {
    auto w = gguf_of(original);
    if constexpr (std::is_same_v<decltype(value), bool>) {
      w.flag("llama." + key, value);
    } else {
      w.number("llama." + key, value);
    }
    expect_error([&] { model_folder m(folder.write("m.gguf", w.bytes())); },
                 {"'llama." + key + "' is", expected});
  };
  for (const auto* key : {"attn_logit_softcapping", "final_logit_softcapping", "attention.clamp_kqv",
                          "attention.max_alibi_bias", "attention.scale", "rope.scaling.yarn_log_multiplier"})
    refused(key, 8.0F, "0 or none");
  refused("rope.scaling.yarn_attn_factor", 0.5F, "1 or none");
  refused("use_parallel_residual", true, "false");
  refused("attention.causal", false, "true");
}

BOOST_AUTO_TEST_CASE(types_that_we_lack_are_named) {
  const temporary_folder folder;
  gguf_writer w;
  w.text("general.architecture", "llama");
  for (const auto* key :
       {"embedding_length", "block_count", "attention.head_count", "feed_forward_length", "context_length"})
    w.number(std::string("llama.") + key, std::string_view(key) == "embedding_length" ? 256U : 1U);
  w.number("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  w.tensor("token_embd.weight", {4, 256}, 16, std::string(4 * 66, 'x'));
  model_folder model(folder.write("m.gguf", w.bytes()));
  expect_error([&] { model.weights().tensor("model.embed_tokens.weight"); },
               {"m.gguf", "'token_embd.weight' is IQ2_XXS, expected one of: F32"});
}

}  // namespace fastserve::model::test
