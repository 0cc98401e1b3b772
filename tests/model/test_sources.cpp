// Weights of folders: shards, missing tensors, wrong shapes, and that a stage reads only its own layers.
#include <sys/mman.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>
#include <set>

#include "../support/temporary_folder.hpp"
#include "expect_error.hpp"
#include "model/model_folder.hpp"
#include "model/random_source.hpp"
#include "pipeline.hpp"
#include "safetensors_writer.hpp"

namespace fastserve::model::test {
namespace {

using kernels::dtype;

const std::string config_text = R"({"model_type": "llama", "vocab_size": 200, "hidden_size": 64,
  "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
  "max_position_embeddings": 64, "torch_dtype": "bfloat16", "tie_word_embeddings": TIED})";

std::string config(bool tied = false) {
  auto text = config_text;
  return text.replace(text.find("TIED"), 4, tied ? "true" : "false");
}

std::vector<tensor_spec> specs_of(const std::string& config_json) {
  const auto arch = parse_architecture(config_json, "config.json");
  return tensors_of(arch, whole_range(arch), names_of(arch.model_type).prefix);
}

/// A folder with one file of weights.
void write_model(const temporary_folder& folder, const std::string& config_json,
                 const std::vector<tensor_spec>& specs, std::size_t header_padding = 0) {
  folder.write("config.json", config_json);
  folder.write("model.safetensors", safetensors_of(specs, dtype::bf16, header_padding));
}

void load(const temporary_folder& folder, stage_range range, const load_progress& progress = {}) {
  model_folder model(folder.path());
  const auto cpu = kernels::make_cpu_backend(1);
  stage s(model.arch(), model.weights(), {range, dtype::bf16, 4, 4}, *cpu, progress);
}

/// Remembers which tensors were asked for.
class watched_source : public weight_source {
 public:
  explicit watched_source(weight_source& source) : source_{source} {}
  bool has(std::string_view name) const override { return source_.has(name); }
  host_tensor tensor(std::string_view name) override {
    read.insert(std::string(name));
    ++held[std::string(name)];
    return source_.tensor(name);
  }
  host_tensor describe(std::string_view name) override { return source_.describe(name); }
  std::string where(std::string_view name) const override { return source_.where(name); }
  std::vector<file_part> file_parts(std::string_view name) override {
    placed.insert(std::string(name));
    return source_.file_parts(name);
  }
  void release(std::string_view name) override { --held[std::string(name)]; }

  std::set<std::string> read, placed;
  std::map<std::string, int> held;  ///< given, not yet released

 private:
  weight_source& source_;
};

std::set<std::string> names_of_range(const architecture& arch, const stage_range& range) {
  std::set<std::string> out;
  for (const auto& spec : tensors_of(arch, range, "model.")) out.insert(spec.name);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_stage_asks_only_for_its_own_tensors) {
  for (const bool tied : {false, true}) {
    const auto arch = parse_architecture(config(tied), "config.json");
    const auto cpu = kernels::make_cpu_backend(1);
    for (std::int32_t stages = 1; stages <= 4; ++stages) {
      for (const auto& range : even_ranges(arch, stages)) {
        random_source random(arch, dtype::bf16);
        watched_source source(random);
        stage s(arch, source, {range, dtype::bf16, 1, 1}, *cpu);
        const auto own = names_of_range(arch, range);
        BOOST_CHECK(source.read == own);
        for (const auto& name : source.placed) BOOST_CHECK(own.contains(name));
        // all given back but the table, which may live in the source's memory
        for (const auto& [name, count] : source.held)
          BOOST_CHECK_EQUAL(count, range.embeds && name == "model.embed_tokens.weight" ? 1 : 0);
      }
    }
  }
}

// Every range after every other: the new stage asks for what the old one did not have, and says so in bytes.
BOOST_AUTO_TEST_CASE(a_stage_in_place_of_another_loads_what_is_missing) {
  for (const bool tied : {false, true}) {
    const auto arch = parse_architecture(config(tied), "config.json");
    const auto cpu = kernels::make_cpu_backend(1);
    std::vector<stage_range> ranges;
    for (std::int32_t stages = 1; stages <= arch.layers; ++stages)
      for (const auto& range : even_ranges(arch, stages)) ranges.push_back(range);
    for (const auto& before : ranges)
      for (const auto& after : ranges) {
        random_source random(arch, dtype::bf16);
        watched_source source(random);
        stage old(arch, source, {before, dtype::bf16, 1, 1}, *cpu);
        auto kept = old.take_weights();
        kept.keep_only(after);
        source.read.clear();
        std::size_t told = 0;
        const auto progress = [&told](std::size_t done, std::size_t total) {
          told = total;
          BOOST_REQUIRE_LE(done, total);
        };
        stage now(arch, source, {after, dtype::bf16, 1, 1}, *cpu, progress, &kept);

        auto missing = names_of_range(arch, after);
        for (const auto& name : names_of_range(arch, before))
          if (name != "model.norm.weight") missing.erase(name);
        // A table and a packed head of one tensor are two things.
        if (tied && ((after.embeds && !before.embeds) || (after.heads && !before.heads)))
          missing.insert("model.embed_tokens.weight");
        BOOST_CHECK(source.read == missing);
        BOOST_CHECK_EQUAL(told == 0, missing.empty());

        const stage fresh(arch, source, {after, dtype::bf16, 1, 1}, *cpu);
        BOOST_CHECK_EQUAL(now.weight_bytes(), fresh.weight_bytes());
        BOOST_CHECK_EQUAL(now.step_weight_bytes(), fresh.step_weight_bytes());
      }
  }
}

BOOST_AUTO_TEST_CASE(a_stage_touches_no_byte_of_other_layers) {
  // Layers large enough to hold whole pages; all pages of other stages' tensors are made unreadable, so that
  // a stray read ends the test by a signal.
  auto text = config();
  text.replace(text.find("\"hidden_size\": 64"), 17, "\"hidden_size\": 256");
  const temporary_folder folder;
  write_model(folder, text, specs_of(text));
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto cpu = kernels::make_cpu_backend(1);
  for (const std::size_t chosen : {0, 1, 2}) {
    model_folder model(folder.path());
    const auto range = even_ranges(model.arch(), 3)[chosen];
    const auto own = names_of_range(model.arch(), range);
    std::size_t hidden_bytes = 0;
    for (const auto& spec : specs_of(text)) {
      if (own.contains(spec.name)) continue;
      const auto tensor = model.weights().tensor(spec.name);
      const auto begin = (reinterpret_cast<std::uintptr_t>(tensor.data) + page - 1) / page * page;
      const auto end = (reinterpret_cast<std::uintptr_t>(tensor.data) + tensor.bytes()) / page * page;
      if (begin >= end) continue;
      BOOST_REQUIRE_EQUAL(::mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_NONE), 0);
      hidden_bytes += end - begin;
    }
    BOOST_CHECK_GT(hidden_bytes, std::size_t{1} << 20);
    stage s(model.arch(), model.weights(), {range, dtype::bf16, 1, 1}, *cpu);
    BOOST_CHECK_GT(s.weight_bytes(), 0U);
  }
}

BOOST_AUTO_TEST_CASE(shards_of_other_layers_are_not_opened) {
  const auto specs = specs_of(config());
  const temporary_folder folder;
  folder.write("config.json", config());
  std::string index = R"({"metadata":{},"weight_map":{)";
  std::vector<tensor_spec> first, second;
  for (const auto& spec : specs) {
    const bool late = spec.name.find("layers.5.") != spec.name.npos;
    (late ? second : first).push_back(spec);
    index += std::string("\"") + spec.name + "\":\"" + (late ? "b" : "a") + ".safetensors\",";
  }
  index.back() = '}';
  folder.write("model.safetensors.index.json", index + "}");
  folder.write("a.safetensors", safetensors_of(first, dtype::bf16));
  expect_error([&] { load(folder, {0, 2, true, false}); }, {"index.json: shard 'b.safetensors' is missing"});
  // there, but rotten: found out by the stage that needs it
  folder.write("b.safetensors", "rotten");
  BOOST_CHECK_NO_THROW(load(folder, {0, 5, true, false}));
  expect_error([&] { load(folder, {5, 6, false, true}); }, {"b.safetensors: 6 bytes"});
  folder.write("b.safetensors", safetensors_of(first, dtype::bf16));
  expect_error(
      [&] {
        load(folder, {5, 6, false, true});
      },
      {"b.safetensors: tensor 'model.layers.5.input_layernorm.weight' is missing, but", "index.json"});
  folder.write("b.safetensors", safetensors_of(second, dtype::bf16));
  BOOST_CHECK_NO_THROW(load(folder, {0, 6, true, true}));
}

BOOST_AUTO_TEST_CASE(missing_and_misshapen_tensors) {
  const auto good = specs_of(config());
  const auto refused = [&](std::vector<tensor_spec> specs, std::initializer_list<std::string_view> parts) {
    const temporary_folder folder;
    write_model(folder, config(), specs);
    expect_error([&] { load(folder, {0, 6, true, true}); }, parts);
  };
  for (const auto* name : {"model.layers.3.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"}) {
    auto specs = good;
    std::erase_if(specs, [&](const auto& s) { return s.name == name; });
    refused(specs, {"model.safetensors: tensor '", name, "' is missing"});
  }
  auto specs = good;
  std::erase_if(specs, [&](const auto& s) { return s.name == "model.embed_tokens.weight"; });
  refused(specs, {"tensor 'model.embed_tokens.weight' is missing, expected in every llama model"});
  for (auto& s : specs = good)
    if (s.name == "model.layers.2.self_attn.k_proj.weight") s.shape = {64, 64};
  refused(specs, {"model.safetensors: tensor 'model.layers.2.self_attn.k_proj.weight': shape is [64, 64], "
                  "expected [32, 64]"});
  for (auto& s : specs = good)
    if (s.name == "model.layers.2.input_layernorm.weight") s.shape = {64, 1};
  refused(specs, {"shape is [64, 1], expected [64]"});

  const temporary_folder folder;
  write_model(folder, config(), good);
  BOOST_CHECK_NO_THROW(load(folder, {0, 6, true, true}));
  auto bytes = safetensors_of(good, dtype::bf16);
  const auto at = bytes.find("BF16", bytes.find("layers.4.self_attn.v_proj"));
  bytes.replace(at, 4, "I16\"");  // the same bytes, another type; the quote moves into the padding
  bytes.erase(bytes.find('"', at + 4), 1);
  bytes.insert(bytes.rfind("}}") + 2, " ");
  folder.write("model.safetensors", bytes);
  expect_error(
      [&] {
        load(folder, {0, 6, true, true});
      },
      {"tensor 'model.layers.4.self_attn.v_proj.weight': dtype is I16, expected F32, F16 or BF16"});
}

BOOST_AUTO_TEST_CASE(folders_without_a_model) {
  const temporary_folder folder;
  expect_error([&] { model_folder model(folder.path() / "none"); }, {"none: no such model"});
  expect_error([&] { model_folder model(folder.path()); }, {"config.json: no such file"});
  folder.write("config.json", config());
  folder.write("pytorch_model.bin", "x");
  expect_error([&] { model_folder model(folder.path()); },
               {"no weights, expected model.safetensors or model.safetensors.index.json"});
}

BOOST_AUTO_TEST_CASE(odd_headers_do_not_matter) {
  // data at odd addresses: tensors must come back aligned and the same
  const auto specs = specs_of(config(true));
  const auto cpu = kernels::make_cpu_backend(1);
  logit_rows want;
  for (const std::size_t padding : {0, 1, 3}) {
    const temporary_folder folder;
    write_model(folder, config(true), specs, padding);
    model_folder looked_at(folder.path());
    for (const auto& spec : specs)
      BOOST_CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(looked_at.weights().tensor(spec.name).data) % 2, 0U);
    model_folder model(folder.path());
    pipeline p(model.arch(), model.weights(), *cpu, 2, dtype::bf16, dtype::bf16);
    const auto rows = p.feed({3, 14, 15, 92, 6});
    if (want.empty()) want = rows;
    BOOST_CHECK(rows == want);
  }
}

BOOST_AUTO_TEST_CASE(progress_is_told) {
  const temporary_folder folder;
  write_model(folder, config(), specs_of(config()));
  std::size_t last = 0, total = 0, calls = 0;
  load(folder, {0, 6, true, true}, [&](std::size_t done, std::size_t all) {
    BOOST_CHECK_GE(done, last);
    BOOST_CHECK(total == 0 || all == total);
    last = done;
    total = all;
    ++calls;
  });
  BOOST_CHECK_GT(calls, 6U * 7);
  BOOST_CHECK_EQUAL(last, total);
  BOOST_CHECK_EQUAL(total, 2U * static_cast<std::size_t>(parse_architecture(config(), "").parameters()));
}

BOOST_AUTO_TEST_CASE(random_weights) {
  const auto arch = parse_architecture(config(), "config.json");
  random_source a(arch, dtype::bf16);
  random_source b(arch, dtype::bf16);
  for (const auto& spec : specs_of(config())) {
    const auto first = a.tensor(spec.name);
    const auto second = b.tensor(spec.name);
    BOOST_REQUIRE(first.shape == spec.shape && first.type == dtype::bf16);
    BOOST_CHECK_EQUAL(std::memcmp(first.data, second.data, first.bytes()), 0);
    std::vector<float> values(static_cast<std::size_t>(spec.elements()));
    kernels::to_f32(values.data(), first.data, first.type, values.size());
    double squares = 0;
    for (const auto v : values) squares += double{v} * v;
    const auto variance = squares / static_cast<double>(values.size());
    if (spec.gain) {
      BOOST_CHECK(values == std::vector<float>(values.size(), 1.0F));
    } else {
      BOOST_CHECK_CLOSE(variance, 1.0 / static_cast<double>(spec.shape.back()), 10.0);
    }
    const std::vector<std::byte> copy(static_cast<const std::byte*>(first.data),
                                      static_cast<const std::byte*>(first.data) + first.bytes());
    a.release(spec.name);
    BOOST_CHECK_EQUAL(std::memcmp(a.tensor(spec.name).data, copy.data(), copy.size()), 0);
  }
  expect_error([&] { a.tensor("nonsense"); }, {"random weights: tensor 'nonsense' is missing"});

  // a table larger than the block that repeats, and a model that runs
  auto large = parse_architecture(
      R"({"model_type": "gpt2", "vocab_size": 40000, "n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 32})",
      "");
  random_source weights(large, dtype::f16);
  const auto cpu = kernels::make_cpu_backend(1);
  pipeline p(large, weights, *cpu, 1, dtype::f16, dtype::f16);
  const auto rows = p.feed({1, 39999});
  for (const auto& row : rows)
    for (const auto x : row) BOOST_REQUIRE(std::isfinite(x));
  BOOST_CHECK(rows[0] != rows[1]);
}
BOOST_AUTO_TEST_CASE(stages_may_share_a_source) {
  // the last stage's tied head must not take away the memory of the first stage's table
  const auto arch = parse_architecture(config(true), "config.json");
  const auto cpu = kernels::make_cpu_backend(1);
  random_source one(arch, dtype::bf16);
  random_source two(arch, dtype::bf16);
  pipeline whole(arch, one, *cpu, 1, dtype::bf16, dtype::bf16);
  pipeline parts(arch, two, *cpu, 3, dtype::bf16, dtype::bf16);
  BOOST_CHECK(whole.feed({1, 2, 3, 199}) == parts.feed({1, 2, 3, 199}));
}

BOOST_AUTO_TEST_CASE(describe_a_folder) {
  const temporary_folder folder;
  auto specs = specs_of(config(true));
  write_model(folder, config(true), specs);
  folder.write("tokenizer.json", "{}");
  auto d = model_folder(folder.path()).describe();
  BOOST_CHECK_EQUAL(d.model_type, "llama");
  const std::int64_t layer = 2 * 64 + 64 * 128 + 64 * 64 + 3 * 64 * 128;
  BOOST_CHECK_EQUAL(d.layer_parameters, layer);
  BOOST_CHECK_EQUAL(d.parameters, 6 * layer + 200 * 64 + 64);
  BOOST_CHECK_EQUAL(d.weight_file_bytes, 2U * static_cast<std::size_t>(d.parameters));
  BOOST_CHECK_EQUAL(d.layer_bytes, 2U * static_cast<std::size_t>(layer));
  BOOST_REQUIRE_EQUAL(d.dtypes.size(), 1U);
  BOOST_CHECK_EQUAL(d.dtypes[0].dtype, "BF16");
  BOOST_CHECK_EQUAL(d.dtypes[0].tensors, specs.size());
  BOOST_CHECK(d.tied_head && d.unused.empty());
  BOOST_CHECK_EQUAL(d.tokenizer, "tokenizer.json");
  BOOST_CHECK_EQUAL(d.kv_token_bytes_16bit, 6U * 2 * 2 * 16 * 2);
  BOOST_REQUIRE_EQUAL(d.stage_bytes.size(), 3U);  // 1, 2, 4
  BOOST_CHECK_EQUAL(d.stage_bytes[0].second, d.weight_file_bytes);
  BOOST_CHECK_EQUAL(d.stage_bytes[1].second, 2U * (3 * layer + 200 * 64 + 64));

  specs.push_back({"model.layers.0.rotary.inv_freq", {8}, true, false});
  write_model(folder, config(true), specs);
  d = model_folder(folder.path()).describe();
  BOOST_CHECK(d.unused == std::vector<std::string>{"model.layers.0.rotary.inv_freq"});
  specs.erase(specs.begin() + 3);
  write_model(folder, config(true), specs);
  expect_error([&] { model_folder(folder.path()).describe(); }, {"is missing"});
}

BOOST_AUTO_TEST_CASE(tensors_that_would_change_answers_are_refused) {
  const temporary_folder folder;
  const auto with = [&](const std::string& name, std::vector<std::int64_t> shape, bool tied = false) {
    auto specs = specs_of(config(tied));
    specs.push_back({name, std::move(shape), true, false});
    write_model(folder, config(tied), specs);
  };
  const auto refused = [&](const std::string& name, std::int64_t size) {
    with(name, {size});
    expect_error([&] { model_folder(folder.path()).describe(); },
                 {"model.safetensors: tensor '" + name + "' is none that a llama model has"});
    expect_error([&] { load(folder, {0, 6, true, true}); }, {"tensor '" + name + "' is none"});
  };
  refused("lm_head.bias", 200);
  refused("model.norm.bias", 64);
  refused("model.embed_norm.weight", 64);
  refused("model.layers.0.self_attn.q_proj.bias", 64);
  refused("model.layers.5.mlp.down_proj.bias", 64);
  refused("model.layers.0.self_attn.q_norm.weight", 16);
  refused("model.layers.0.self_attn.sinks", 4);
  refused("model.layers.6.input_layernorm.weight", 64);  // of 6
  refused("model.layers.x", 4);
  // Other ranks have that layer.
  with("model.layers.5.mlp.down_proj.bias", {64});
  BOOST_CHECK_NO_THROW(load(folder, {0, 5, true, false}));

  const auto accepted = [&](const std::string& name, std::vector<std::int64_t> shape, bool tied = false) {
    with(name, std::move(shape), tied);
    BOOST_CHECK(model_folder(folder.path()).describe().unused == std::vector<std::string>{name});
    BOOST_CHECK_NO_THROW(load(folder, {0, 6, true, true}));
  };
  accepted("model.layers.0.self_attn.rotary_emb.inv_freq", {8});
  accepted("model.layers.0.self_attn.k_scale", {1});
  accepted("vision_tower.layers.0.bias", {8});
  accepted("lm_head.weight", {200, 64}, true);
  // Biases of zeros, as packers of integers write them.
  with("model.layers.1.self_attn.o_proj.bias", {64});
  auto bytes = folder.read("model.safetensors");
  std::fill(bytes.end() - 64 * 2, bytes.end(), '\0');
  folder.write("model.safetensors", bytes);
  BOOST_CHECK_NO_THROW(load(folder, {0, 6, true, true}));
}

BOOST_AUTO_TEST_CASE(masks_of_gpt2_are_no_bias) {
  const temporary_folder folder;
  const auto text = R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 16,
                        "vocab_size": 50})";
  const auto a = parse_architecture(text, "config.json");
  for (const auto* prefix : {"transformer.", ""}) {
    auto specs = tensors_of(a, whole_range(a), prefix);
    specs.push_back({std::string(prefix) + "h.0.attn.bias", {1, 1, 16, 16}, true, false});
    specs.push_back({std::string(prefix) + "h.1.attn.masked_bias", {1}, true, false});
    write_model(folder, text, specs);
    BOOST_CHECK_EQUAL(model_folder(folder.path()).describe().unused.size(), 2U);
    specs.back().name = std::string(prefix) + "h.1.crossattention.c_proj.weight";
    write_model(folder, text, specs);
    expect_error([&] { model_folder(folder.path()).describe(); },
                 {"crossattention.c_proj.weight' is none that a gpt2"});
  }
}

}  // namespace fastserve::model::test
