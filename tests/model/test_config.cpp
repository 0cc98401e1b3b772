#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "../support/temporary_folder.hpp"
#include "expect_error.hpp"
#include "model/architecture.hpp"
#include "model/rope.hpp"

namespace fastserve::model::test {
namespace {

using kernels::dtype;
using nlohmann::json;

const std::filesystem::path shared_configs = FASTSERVE_SHARED_DATA "/configs";

boost::test_tools::assertion_result has_shared_data(boost::unit_test::test_unit_id) {
  if (std::filesystem::exists(shared_configs)) return true;
  std::cout << "skipped: no shared data at " << shared_configs << "\n";
  return false;
}

architecture parse(const json& config) { return parse_architecture(config.dump(), "config.json"); }

json llama() {
  return json::parse(
      R"({"model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "torch_dtype": "bfloat16"})");
}

json with(json config, const char* key, json value) {
  config[key] = std::move(value);
  return config;
}

/// The config with `key` = `value` is refused with one line that holds the parts.
void refused(const char* key, json value, std::initializer_list<std::string_view> parts,
             json config = llama()) {
  const auto bad = with(std::move(config), key, std::move(value));
  BOOST_TEST_CONTEXT(key << " = " << bad.at(key)) {
    expect_error([&] { parse(bad); }, parts);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(published_configs, *boost::unit_test::precondition(has_shared_data)) {
  struct row {
    const char* file;
    const char* type;
    std::int32_t layers, hidden, heads, kv_heads, head_dim, intermediate, vocab, context;
    bool tied;
    double billions;
  };
  for (const auto& want : {
           row{"gpt2.json", "gpt2", 12, 768, 12, 12, 64, 3072, 50257, 1024, true, 0.1244},
           row{"llama-1.1b.json", "llama", 22, 2048, 32, 4, 64, 5632, 32000, 2048, false, 1.100},
           row{"llama-2-7b.json", "llama", 32, 4096, 32, 32, 128, 11008, 32000, 4096, false, 6.738},
           row{"llama-3-8b.json", "llama", 32, 4096, 32, 8, 128, 14336, 128256, 8192, false, 8.030},
           row{"llama-3-70b.json", "llama", 80, 8192, 64, 8, 128, 28672, 128256, 8192, false, 70.55},
           row{"llama-3.2-1b.json", "llama", 16, 2048, 32, 8, 64, 8192, 128256, 131072, true, 1.236},
           row{"mistral-7b-v0.1.json", "mistral", 32, 4096, 32, 8, 128, 14336, 32000, 32768, false, 7.242},
           row{"qwen2-7b.json", "qwen2", 28, 3584, 28, 4, 128, 18944, 152064, 32768, false, 7.616},
           row{"qwen2.5-0.5b.json", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, 32768, true, 0.4940},
           row{"qwen3-0.6b.json", "qwen3", 28, 1024, 16, 8, 128, 3072, 151936, 32768, true, 0.5961},
           row{"qwen3-32b.json", "qwen3", 64, 5120, 64, 8, 128, 25600, 151936, 40960, false, 32.76},
       }) {
    BOOST_TEST_CONTEXT(want.file) {
      const auto a = read_architecture(shared_configs / want.file);
      BOOST_CHECK_EQUAL(a.model_type, want.type);
      BOOST_CHECK_EQUAL(a.layers, want.layers);
      BOOST_CHECK_EQUAL(a.hidden_size, want.hidden);
      BOOST_CHECK_EQUAL(a.heads, want.heads);
      BOOST_CHECK_EQUAL(a.kv_heads, want.kv_heads);
      BOOST_CHECK_EQUAL(a.head_dim, want.head_dim);
      BOOST_CHECK_EQUAL(a.intermediate_size, want.intermediate);
      BOOST_CHECK_EQUAL(a.vocab_size, want.vocab);
      BOOST_CHECK_EQUAL(a.max_positions, want.context);
      BOOST_CHECK_EQUAL(a.tied_head, want.tied);
      // the models' published sizes
      BOOST_CHECK_CLOSE(static_cast<double>(a.parameters()) / 1e9, want.billions, 0.1);
    }
  }
}

BOOST_AUTO_TEST_CASE(every_shared_config_is_read_or_refused,
                     *boost::unit_test::precondition(has_shared_data)) {
  int read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(shared_configs)) {
    if (entry.path().extension() != ".json") continue;
    const auto type = json::parse(std::ifstream(entry.path())).at("model_type").get<std::string>();
    BOOST_TEST_CONTEXT(entry.path().filename()) {
      if (type == "bert" || type == "deepseek_v3" || type == "qwen3_moe") {
        expect_error([&] { read_architecture(entry.path()); },
                     {entry.path().filename().string(), "model_type is '" + type + "'",
                      "expected one of: gpt2, llama, mistral, qwen2, qwen3"});
      } else {
        BOOST_CHECK_EQUAL(read_architecture(entry.path()).model_type, type);
        ++read;
      }
    }
  }
  BOOST_CHECK_GE(read, 20);
}

BOOST_AUTO_TEST_CASE(defaults_of_the_reference_library) {
  const auto gpt2 = parse({{"model_type", "gpt2"}});
  BOOST_CHECK_EQUAL(gpt2.parameters(), 124439808);
  BOOST_CHECK(gpt2.act == kernels::activation::gelu_tanh);
  BOOST_CHECK(gpt2.norm == kernels::norm_kind::layer);
  BOOST_CHECK(gpt2.tied_head && gpt2.transposed_linear && gpt2.learned_positions && gpt2.norm_bias);
  BOOST_CHECK(gpt2.qkv_bias && gpt2.attention_output_bias && gpt2.mlp_bias && !gpt2.gated_mlp);
  BOOST_CHECK(gpt2.rope.kind == kernels::rope_kind::none);
  BOOST_CHECK_EQUAL(gpt2.attention_scale, 0.125F);
  BOOST_CHECK_EQUAL(gpt2.bos_id, 50256);
  BOOST_CHECK(gpt2.eos_ids == std::vector<std::int32_t>{50256});

  const auto mistral = parse({{"model_type", "mistral"}});
  BOOST_CHECK_EQUAL(mistral.kv_heads, 8);
  BOOST_CHECK(mistral.window == std::vector<std::int32_t>(32, 4096));
  BOOST_CHECK(parse({{"model_type", "mistral"}, {"sliding_window", nullptr}}).window ==
              std::vector<std::int32_t>(32, 0));

  const auto llama_default = parse({{"model_type", "llama"}});
  BOOST_CHECK_EQUAL(llama_default.kv_heads, 32);
  BOOST_CHECK_EQUAL(llama_default.norm_epsilon, 1e-6F);
  BOOST_CHECK(llama_default.window == std::vector<std::int32_t>(32, 0));
  BOOST_CHECK(llama_default.stored_type == dtype::f32);

  const auto qwen3 = parse({{"model_type", "qwen3"}});
  BOOST_CHECK_EQUAL(qwen3.head_dim, 128);
  BOOST_CHECK(qwen3.query_key_norm && !qwen3.qkv_bias);
  BOOST_CHECK_EQUAL(qwen3.bos_id, -1);
  BOOST_CHECK(qwen3.eos_ids.empty());
  BOOST_CHECK(parse({{"model_type", "qwen2"}}).qkv_bias);
}

BOOST_AUTO_TEST_CASE(flags_and_types) {
  const auto a = parse(llama());
  BOOST_CHECK(a.stored_type == dtype::bf16);
  BOOST_CHECK_EQUAL(a.head_dim, 8);
  BOOST_CHECK_EQUAL(a.qkv_size(), 96);
  BOOST_CHECK(!a.qkv_bias && !a.attention_output_bias && !a.mlp_bias);
  const auto biased = parse(with(with(llama(), "attention_bias", true), "mlp_bias", true));
  BOOST_CHECK(biased.qkv_bias && biased.attention_output_bias && biased.mlp_bias);
  BOOST_CHECK_EQUAL(biased.layer_parameters() - a.layer_parameters(), 96 + 64 + 2 * 96 + 64);
  BOOST_CHECK(parse(with(llama(), "dtype", "float16")).stored_type ==
              dtype::f16);  // transformers 5's name wins
  BOOST_CHECK_EQUAL(parse(with(llama(), "num_key_value_heads", nullptr)).kv_heads, 8);
  BOOST_CHECK_EQUAL(parse(with(llama(), "head_dim", 32)).head_dim, 32);
  BOOST_CHECK_EQUAL(parse(with(llama(), "head_dim", nullptr)).head_dim, 8);
  BOOST_CHECK_EQUAL(parse(with(llama(), "max_position_embeddings", 4096.0)).max_positions, 4096);
  BOOST_CHECK(parse(with(llama(), "hidden_act", "gelu_new")).act == kernels::activation::gelu_tanh);
  BOOST_CHECK(parse(with(llama(), "hidden_act", "gelu")).act == kernels::activation::gelu);
  BOOST_CHECK_EQUAL(parse({{"model_type", "gpt2"}, {"scale_attn_weights", false}}).attention_scale, 1.0F);
  BOOST_CHECK_EQUAL(a.layer_flops(), 2.0 * 64 * (96 + 64 + 3 * 96));
  BOOST_CHECK_EQUAL(a.kv_token_bytes(dtype::bf16), 2U * 2 * 8 * 2);
}

BOOST_AUTO_TEST_CASE(end_of_sequence_ids) {
  BOOST_CHECK(
      (parse(with(llama(), "eos_token_id", {7, 9, 7, 100000})).eos_ids == std::vector<std::int32_t>{7, 9}));
  BOOST_CHECK(parse(with(llama(), "eos_token_id", nullptr)).eos_ids.empty());
  BOOST_CHECK_EQUAL(parse(with(llama(), "bos_token_id", nullptr)).bos_id, -1);
  const temporary_folder folder;
  const auto file = folder.write("config.json", with(llama(), "eos_token_id", 2).dump());
  folder.write("generation_config.json", R"({"eos_token_id": [5, 2]})");
  BOOST_CHECK((read_architecture(file).eos_ids == std::vector<std::int32_t>{2, 5}));
  folder.write("generation_config.json", R"({"eos_token_id": "x"})");
  expect_error([&] { read_architecture(file); }, {"generation_config.json", "eos_token_id is 'x'"});
}

BOOST_AUTO_TEST_CASE(windows_by_layer) {
  auto qwen = with(llama(), "model_type", "qwen2");
  qwen["sliding_window"] = 128;
  using windows = std::vector<std::int32_t>;
  BOOST_CHECK(parse(qwen).window == windows(4, 0));  // off unless use_sliding_window
  qwen["use_sliding_window"] = true;
  BOOST_CHECK(parse(qwen).window == windows(4, 0));  // max_window_layers is 28 by default
  qwen["max_window_layers"] = 1;
  BOOST_CHECK((parse(qwen).window == windows{0, 128, 128, 128}));
  BOOST_CHECK(parse(with(qwen, "sliding_window", nullptr)).window == windows(4, 0));
  qwen["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention", "full_attention"};
  BOOST_CHECK((parse(qwen).window == windows{128, 0, 128, 0}));
  refused("layer_types", {"full_attention"}, {"layer_types is a list of 1", "a list of 4"}, qwen);
  refused("layer_types", {"full_attention", "full_attention", "linear_attention", "full_attention"},
          {"layer_types", "'linear_attention'"}, qwen);
  refused("use_sliding_window", false, {"use_sliding_window is false", "sliding_attention"}, qwen);
}

BOOST_AUTO_TEST_CASE(rope_tables_match_the_reference) {
  const auto data = json::parse(std::ifstream(FASTSERVE_TEST_DATA "/model/rope.json"));
  BOOST_CHECK_EQUAL(data.at("cases").size(), 10U);
  for (const auto& c : data.at("cases")) {
    BOOST_TEST_CONTEXT(c.at("name")) {
      const auto a = parse(c.at("config"));
      const auto want = c.at("inverse_frequency").get<std::vector<float>>();
      BOOST_REQUIRE_EQUAL(a.rope.inverse_frequency.size(), want.size());
      for (std::size_t i = 0; i < want.size(); ++i)
        BOOST_CHECK_MESSAGE(std::abs(a.rope.inverse_frequency[i] - want[i]) <= 3e-7F * want[i],
                            i << ": " << a.rope.inverse_frequency[i] << " for " << want[i]);
      BOOST_CHECK_CLOSE(a.rope.magnitude, c.at("magnitude").get<float>(), 1e-4F);

      // the same in the older spelling
      auto old = c.at("config");
      auto scaling = old.at("rope_parameters");
      old.erase("rope_parameters");
      old["rope_theta"] = scaling.at("rope_theta");
      scaling.erase("rope_theta");
      scaling["type"] = scaling.at("rope_type");
      scaling.erase("rope_type");
      old["rope_scaling"] = scaling;
      BOOST_CHECK(parse(old).rope.inverse_frequency == a.rope.inverse_frequency);
    }
  }
}

BOOST_AUTO_TEST_CASE(context_under_rope_scaling) {
  const auto context = [](json rope) {
    return parse(with(llama(), "rope_scaling", std::move(rope))).max_positions;
  };
  BOOST_CHECK_EQUAL(context(nullptr), 2048);
  BOOST_CHECK_EQUAL(context({{"type", "linear"}, {"factor", 4.0}}), 8192);
  BOOST_CHECK_EQUAL(context({{"type", "dynamic"}, {"factor", 4.0}}), 2048);
  BOOST_CHECK_EQUAL(context({{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 1024}}),
                    4096);
  BOOST_CHECK_EQUAL(context({{"type", "yarn"}, {"factor", 2.0}, {"original_max_position_embeddings", 512}}),
                    2048);
}

BOOST_AUTO_TEST_CASE(bad_values) {
  refused("model_type", "gpt_neox",
          {"config.json: model_type is 'gpt_neox'", "gpt2, llama, mistral, qwen2, qwen3"});
  refused("model_type", nullptr, {"model_type is missing", "a string"});
  refused("model_type", 3, {"model_type is 3"});
  refused("num_hidden_layers", 0, {"num_hidden_layers is 0", "from 1 to 4096"});
  refused("num_hidden_layers", 5000, {"num_hidden_layers is 5000"});
  refused("num_hidden_layers", -1, {"num_hidden_layers is -1"});
  refused("num_hidden_layers", 1.5, {"num_hidden_layers is 1.5"});
  refused("num_hidden_layers", "4", {"num_hidden_layers is '4'"});
  refused("num_hidden_layers", std::uint64_t{1} << 63, {"num_hidden_layers is 9223372036854775808"});
  refused("num_hidden_layers", 1e300, {"num_hidden_layers is 1e+300"});
  refused("hidden_size", 1 << 21, {"hidden_size is 2097152"});
  refused("hidden_size", 65, {"hidden_size is 65", "multiple of num_attention_heads 8"});
  refused("num_key_value_heads", 3, {"num_key_value_heads is 3", "divisor of num_attention_heads 8"});
  refused("num_key_value_heads", 16, {"num_key_value_heads is 16", "divisor"});
  refused("num_attention_heads", 0, {"num_attention_heads is 0"});
  refused("head_dim", 7, {"head_dim is 7", "even"});
  refused("head_dim", 0, {"head_dim is 0"});
  refused("vocab_size", 1 << 22, {"vocab_size is 4194304", "from 1 to 4194303"});
  BOOST_CHECK_EQUAL(parse(with(llama(), "vocab_size", (1 << 22) - 1)).vocab_size, (1 << 22) - 1);
  refused("intermediate_size", -5, {"intermediate_size is -5"});
  refused("max_position_embeddings", 1LL << 40, {"max_position_embeddings is 1099511627776"});
  refused("rms_norm_eps", -1.0, {"rms_norm_eps is -1.0", "from 0 to 1"});
  refused("hidden_act", "mish", {"hidden_act is 'mish'", "silu", "gelu_new"});
  refused("tie_word_embeddings", 1, {"tie_word_embeddings is 1", "true or false"});
  refused("torch_dtype", "float8_e4m3fn", {"torch_dtype is 'float8_e4m3fn'", "float32, float16 or bfloat16"});
  refused("eos_token_id", "two", {"eos_token_id is 'two'"});
  refused("quantization_config", {{"quant_method", "exl2"}}, {"quantization_config.quant_method is 'exl2'"});
  refused("partial_rotary_factor", 0.5, {"partial_rotary_factor is 0.5"});
  refused("sliding_window", 0, {"sliding_window is 0"}, with(llama(), "model_type", "mistral"));
  refused("scale_attn_by_inverse_layer_idx", true, {"scale_attn_by_inverse_layer_idx is true", "false"},
          {{"model_type", "gpt2"}});
  refused("is_causal", false, {"is_causal is false", "true"});
  for (const auto* key :
       {"attn_logit_softcapping", "final_logit_softcapping", "logit_scale", "logits_scaling", "scale_emb",
        "embedding_multiplier", "residual_multiplier", "attention_multiplier", "query_pre_attn_scalar",
        "kv_lora_rank", "num_local_experts", "num_experts", "n_routed_experts"})
    refused(key, 8, {std::string(key) + " is 8, expected"});
  for (const auto* key : {"alibi", "attn_temperature_tuning", "use_bidirectional_attention"})
    refused(key, true, {std::string(key) + " is true, expected 0, false or none"});
  refused("clip_qkv", "8", {"clip_qkv is '8'"});
  refused("position_embedding_type", "alibi", {"position_embedding_type is 'alibi'", "rope or absolute"});
  refused("no_rope_layers", {1, 0, 1, 1}, {"no_rope_layers is a list of 4", "a rotation in every layer"});
  refused("no_rope_layer_interval", 4, {"no_rope_layer_interval is 4"});
  refused("use_sliding_window", true, {"use_sliding_window is true"}, with(llama(), "sliding_window", 5));
  refused("layer_types", {"sliding_attention", "full_attention", "full_attention", "full_attention"},
          {"layer_types", "full_attention in each place, not 'sliding_attention'"});
  refused("layer_types", {"full_attention"}, {"sliding_attention in each place"},
          with(llama(), "model_type", "mistral"));
  refused("n_embd", 770, {"n_embd is 770", "multiple of n_head 12"}, {{"model_type", "gpt2"}});
}

BOOST_AUTO_TEST_CASE(values_that_change_nothing) {
  auto config = llama();
  for (const auto* key : {"attn_logit_softcapping", "attention_multiplier", "num_experts", "clip_qkv"})
    config[key] = nullptr;
  config["logit_scale"] = 1;
  config["residual_multiplier"] = 1.0;
  config["final_logit_softcapping"] = 0.0;
  config["alibi"] = false;
  config["no_rope_layers"] = {1, 1, 1, 1};
  config["no_rope_layer_interval"] = 4;
  config["layer_types"] = {"full_attention", "full_attention", "full_attention", "full_attention"};
  config["sliding_window"] = 4096;  // not of this type
  config["use_sliding_window"] = false;
  BOOST_CHECK(parse(config).window == std::vector<std::int32_t>(4, 0));
}

BOOST_AUTO_TEST_CASE(bad_rope) {
  refused("rope_theta", 0.0, {"rope_theta is 0.0"});
  refused("rope_theta", "x", {"rope_theta is 'x'"});
  refused("rope_scaling", 3, {"rope_scaling is 3", "an object"});
  refused("rope_scaling", {{"type", "longrope"}},
          {"rope_scaling.type is 'longrope'", "default, linear, dynamic, llama3, yarn"});
  refused("rope_scaling", {{"rope_type", "mrope"}}, {"rope_scaling.rope_type is 'mrope'"});
  refused("rope_scaling", {{"type", "linear"}}, {"rope_scaling.factor is missing"});
  refused("rope_scaling", {{"type", "linear"}, {"factor", 0.5}}, {"rope_scaling.factor is 0.5"});
  refused("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}},
          {"rope_scaling.low_freq_factor is missing"});
  refused("rope_scaling",
          {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 4.0}, {"high_freq_factor", 4.0}},
          {"rope_scaling.high_freq_factor is 4.0", "more than low_freq_factor"});
  refused("rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 0}},
          {"rope_scaling.original_max_position_embeddings is 0"});
  refused("rope_parameters", {{"rope_theta", 1e4}, {"llama_4_scaling_beta", 0.1}},
          {"rope_parameters.llama_4_scaling_beta is 0.1"});
  refused("rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}, {"rope_parameters.full_attention"});
}

BOOST_AUTO_TEST_CASE(bad_files) {
  const auto refused_text = [](std::string text, std::initializer_list<std::string_view> parts) {
    expect_error([&] { parse_architecture(text, "config.json"); }, parts);
  };
  refused_text("", {"config.json: not valid JSON"});
  refused_text("{", {"config.json: not valid JSON"});
  refused_text("[1]", {"config.json: holds a list of 1", "an object"});
  refused_text("{\"a\": \"\xff\xfe\"}", {"config.json: not valid JSON"});
  refused_text("{\"model_type\": 1e999}", {"config.json: not valid JSON"});
  refused_text(std::string(100000, '['), {"config.json: nested more than 32 levels deep"});
  refused_text("{\"model_type\": \"a\nb" + std::string(5000, 'x') + "\"}", {"config.json: not valid JSON"});
  refused_text(json{{"model_type", "evil\nname\x01" + std::string(5000, 'x')}}.dump(),
               {"model_type is 'evil?name?xxx", "..."});

  const temporary_folder folder;
  expect_error([&] { read_architecture(folder.path() / "config.json"); }, {"config.json: no such file"});
  expect_error([&] { read_architecture(folder.path()); }, {"no such file"});
  expect_error([&] { read_architecture(folder.write("config.json", std::string(5 << 20, ' '))); },
               {"config.json: larger than"});
}

}  // namespace fastserve::model::test
