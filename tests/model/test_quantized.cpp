// Quantized Hugging Face folders (scripts/make_quantized_goldens.py): what they stand for, and what is
// refused.
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "../support/temporary_folder.hpp"
#include "expect_error.hpp"
#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/dispatch.hpp"
#include "model/model_folder.hpp"
#include "model/safetensors.hpp"
#include "pipeline.hpp"
#include "safetensors_writer.hpp"

namespace fastserve::model::test {
namespace {

using kernels::dtype;
using kernels::zero_kind;
namespace fs = std::filesystem;

const fs::path forms = FASTSERVE_TEST_DATA "/quantized";

std::vector<float> numbers(const host_tensor& t) {
  std::vector<float> out(t.bytes() / kernels::size_of(t.type));
  kernels::to_f32(out.data(), t.data, t.type, out.size());
  return out;
}

/// A copy of a form whose configuration or header is changed.
struct damaged {
  temporary_folder folder;
  explicit damaged(const std::string& form) {
    for (const auto* name : {"config.json", "model.safetensors"})
      fs::copy(forms / form / name, folder.path() / name);
  }
  void configure(const std::function<void(nlohmann::json&)>& change) {
    auto config = nlohmann::json::parse(folder.read("config.json"));
    change(config["quantization_config"]);
    folder.write("config.json", config.dump());
  }
  /// `from` and `to` of one length, in the header of the weights.
  void replace(const std::string& from, const std::string& to) {
    auto bytes = folder.read("model.safetensors");
    const auto at = bytes.find(from);
    BOOST_REQUIRE(at != bytes.npos && from.size() == to.size());
    folder.write("model.safetensors", bytes.replace(at, from.size(), to));
  }
  void refused(std::initializer_list<std::string_view> parts) {
    expect_error([&] { model_folder(folder.path()).describe(); }, parts);
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(matrices_are_what_they_stand_for) {
  std::set<std::string> seen;
  for (const auto& entry : fs::directory_iterator(forms)) {
    const auto form = entry.path().filename().string();
    seen.insert(form);
    BOOST_TEST_CONTEXT(form) {
      model_folder model(entry.path());
      auto& weights = model.weights();
      const auto d = model.describe();
      BOOST_CHECK(d.unused.empty());
      const safetensors_file expected(entry.path() / "expected.safetensors");
      BOOST_REQUIRE_EQUAL(expected.entries().size(), 3U);
      for (const auto& e : expected.entries()) {
        std::vector<float> want((e.end - e.begin) / sizeof(float));
        kernels::to_f32(want.data(), expected.bytes(e).data(), dtype::f32, want.size());
        const auto about = weights.describe(e.name);
        BOOST_CHECK(about.shape == e.shape);
        BOOST_CHECK(numbers(weights.tensor(e.name)) == want);
        weights.release(e.name);
        BOOST_CHECK_EQUAL(about.quantized.has_value(), form != "gptq_act_order");
        if (!about.quantized) {
          expect_error([&] { weights.quantized(e.name); }, {"is not quantized"});
          continue;
        }
        const auto q = weights.quantized(e.name);
        BOOST_CHECK(q.format == *about.quantized);
        kernels::check(q.view());
        std::vector<float> got(want.size());
        for (std::int64_t r = 0; r < q.rows; ++r)
          kernels::dequantize_row(got.data() + r * q.cols, q.view(), r);
        BOOST_CHECK(got == want);
      }
      const auto format = weights.describe("model.layers.0.mlp.up_proj.weight").quantized;
      if (form == "awq")
        BOOST_CHECK((format == kernels::quantized_format{4, 16, zero_kind::integer, dtype::f16}));
      if (form == "w4a16")
        BOOST_CHECK((format == kernels::quantized_format{4, 32, zero_kind::none, dtype::f32}));
      if (form == "w8a16_packed")
        BOOST_CHECK((format == kernels::quantized_format{8, 32, zero_kind::none, dtype::f16}));
      if (form.starts_with("fp8")) BOOST_CHECK((format == kernels::fp8_rows));
      if (form == "w8a8")
        BOOST_CHECK((format == kernels::quantized_format{8, 0, zero_kind::none, dtype::f32}));
    }
  }
  BOOST_CHECK((seen == std::set<std::string>{"awq", "fp8_channel", "fp8_tensor", "gptq", "gptq_act_order",
                                             "gptq_v2_8bit_row", "w4a16", "w4a16_zeros", "w8a16_packed",
                                             "w8a8", "w8a8_zeros"}));
}

/// The same numbers, said to be numbers.
class as_numbers : public weight_source {
 public:
  explicit as_numbers(weight_source& inner) : inner_{inner} {}
  bool has(std::string_view name) const override { return inner_.has(name); }
  host_tensor tensor(std::string_view name) override { return inner_.tensor(name); }
  host_tensor describe(std::string_view name) override {
    auto out = inner_.describe(name);
    out.quantized.reset();
    return out;
  }
  std::string where(std::string_view name) const override { return inner_.where(name); }
  void release(std::string_view name) override { inner_.release(name); }

 private:
  weight_source& inner_;
};

/// Integers are multiplied as they are: what is left is the rounding of the rows.
BOOST_AUTO_TEST_CASE(models_run_on_their_integers) {
  const auto cpu = kernels::make_cpu_backend(1);
  for (const auto& entry : fs::directory_iterator(forms)) {
    BOOST_TEST_CONTEXT(entry.path().filename().string()) {
      model_folder model(entry.path());
      as_numbers numbers(model.weights());
      pipeline served(model.arch(), model.weights(), *cpu, 1, dtype::f32, dtype::f32);
      pipeline exact(model.arch(), numbers, *cpu, 1, dtype::f32, dtype::f32);
      const auto got = served.feed({1, 2, 3, 4});
      const auto want = exact.feed({1, 2, 3, 4});
      for (std::size_t i = 0; i < want.size(); ++i) BOOST_CHECK_LT(relative_error(got[i], want[i]), 0.25);
      const auto form = entry.path().filename().string();
      const bool integers = form != "gptq_act_order" && !form.starts_with("fp8");
      BOOST_CHECK_EQUAL(got != want, integers);
      BOOST_CHECK_EQUAL(served.stages()[0]->step_weight_bytes() < exact.stages()[0]->step_weight_bytes(),
                        integers);
    }
  }
}

namespace {

/// Processors that multiply numbers of fp8's values, for want of a device of fp8 here.
class opens_fp8 final : public kernels::cpu::cpu_backend {
 public:
  opens_fp8() : cpu_backend{1, kernels::cpu::choose_table({})} {}
  bool multiplies_fp8() const override { return true; }
  bool embeds_packed() const override { return false; }
  std::unique_ptr<kernels::weight> pack_quantized(
      std::span<const kernels::quantized_matrix> stacked) override {
    std::vector<std::vector<float>> values;
    std::vector<kernels::host_matrix> numbers;
    for (const auto& m : stacked) {
      BOOST_CHECK((m.format == kernels::fp8_rows));
      auto& to = values.emplace_back(static_cast<std::size_t>(m.rows * m.cols));
      for (std::int64_t r = 0; r < m.rows; ++r) kernels::dequantize_row(to.data() + r * m.cols, m, r);
      numbers.push_back({to.data(), dtype::f32, m.rows, m.cols});
    }
    matrices += static_cast<int>(stacked.size());
    return pack(numbers, dtype::f32);
  }
  std::unique_ptr<kernels::weight> quantize(std::span<const kernels::host_matrix> stacked,
                                            const kernels::quantized_format& format) override {
    std::vector<kernels::quantized_tensor> tensors;
    std::vector<kernels::quantized_matrix> views;
    for (const auto& m : stacked) {
      std::vector<float> values(static_cast<std::size_t>(m.rows * m.cols));
      kernels::to_f32(values.data(), m.data, m.type, values.size());
      tensors.push_back(kernels::quantize_nearest(format, values.data(), m.rows, m.cols));
    }
    for (const auto& t : tensors) views.push_back(t.view());
    return pack_quantized(views);
  }
  int matrices = 0;  ///< of fp8
};

}  // namespace

BOOST_AUTO_TEST_CASE(fp8_stays_what_it_is_where_the_device_multiplies_it) {
  for (const auto* form : {"fp8_channel", "fp8_tensor"}) {
    opens_fp8 on;
    const auto cpu = kernels::make_cpu_backend(1);
    model_folder model(forms / form);
    // Codes are kept whatever numbers are rounded to: the head is rounded, as it is not fp8 here.
    pipeline kept(model.arch(), model.weights(), on, 1, dtype::f32, dtype::f32);
    BOOST_CHECK_EQUAL(on.matrices, 7);
    pipeline opened(model.arch(), model.weights(), *cpu, 1, dtype::f32, dtype::f32);
    const auto logits = kept.feed({1, 2, 3, 4});
    BOOST_CHECK(logits == opened.feed({1, 2, 3, 4}));
    pipeline rounded(model.arch(), model.weights(), on, 1, dtype::f32, dtype::f32, 64, kernels::fp8_rows);
    BOOST_CHECK_EQUAL(on.matrices, 7 + 8);
    const auto after = rounded.feed({1, 2, 3, 4});
    BOOST_CHECK(after != logits);
    for (std::size_t i = 0; i < logits.size(); ++i) BOOST_CHECK_LT(relative_error(after[i], logits[i]), 0.1);
  }
}

BOOST_AUTO_TEST_CASE(processors_do_not_round_to_fp8) {
  const auto cpu = kernels::make_cpu_backend(1);
  model_folder model(forms / "fp8_tensor");
  BOOST_CHECK_THROW(
      pipeline(model.arch(), model.weights(), *cpu, 1, dtype::f32, dtype::f32, 64, kernels::fp8_rows),
      std::invalid_argument);
}

/// Groups of more than 128 are cut; rows may end inside of a word.
BOOST_AUTO_TEST_CASE(large_groups_and_odd_rows) {
  const temporary_folder folder;
  constexpr std::int64_t rows = 2, cols = 515, words = 65;
  std::string data;
  for (std::int64_t i = 0; i < rows * words; ++i) data += std::string("\x98\xBA\xDC\xFE", 4);
  const float scales[] = {1, 2, 3, 4, 5, 6};
  data.append(reinterpret_cast<const char*>(scales), sizeof scales);
  const std::int64_t shape[] = {rows, cols};
  data.append(reinterpret_cast<const char*>(shape), sizeof shape);
  folder.write(
      "model.safetensors",
      safetensors_bytes(R"({"x.weight_packed":{"dtype":"I32","shape":[2,65],"data_offsets":[0,520]},)"
                        R"("x.weight_scale":{"dtype":"F32","shape":[2,3],"data_offsets":[520,544]},)"
                        R"("x.weight_shape":{"dtype":"I64","shape":[2],"data_offsets":[544,560]}})",
                        data));
  folder.write("config.json",
               R"({"quantization_config":{"quant_method":"compressed-tensors","config_groups":{"g":{
      "weights":{"num_bits":4,"strategy":"group","group_size":256}}}}})");
  const auto weights = open_weights(folder.path());
  const auto q = weights->quantized("x.weight");
  BOOST_CHECK_EQUAL(q.format.group, 128);
  BOOST_CHECK((q.scales == std::vector<float>{1, 1, 2, 2, 3, 4, 4, 5, 5, 6}));
  const auto values = numbers(weights->tensor("x.weight"));
  BOOST_REQUIRE_EQUAL(values.size(), static_cast<std::size_t>(rows * cols));
  for (std::int64_t i = 0; i < rows * cols; ++i)
    BOOST_REQUIRE_EQUAL(values[static_cast<std::size_t>(i)],
                        static_cast<float>(i % cols % 8) * scales[i / cols * 3 + i % cols / 256]);
}

BOOST_AUTO_TEST_CASE(configurations_that_we_lack_are_refused) {
  const auto with = [](const std::string& form, const std::string& key, const nlohmann::json& value,
                       std::initializer_list<std::string_view> parts) {
    damaged d(form);
    d.configure([&](nlohmann::json& c) { c[nlohmann::json::json_pointer("/" + key)] = value; });
    d.refused(parts);
  };
  with("awq", "quant_method", "bitsandbytes",
       {"quant_method is 'bitsandbytes'", "awq, gptq, compressed-tensors"});
  with("awq", "bits", 3, {"bits is 3", "4 or 8"});
  with("awq", "version", "gemv", {"version is 'gemv'", "gemm"});
  with("awq", "zero_point", false, {"zero_point is false"});
  with("awq", "group_size", 48, {"group_size is 48"});
  with("gptq", "bits", 2, {"bits is 2"});
  with("gptq", "checkpoint_format", "marlin", {"checkpoint_format is 'marlin'"});
  damaged newer("gptq");  // the same by its newer name
  newer.configure([](nlohmann::json& c) {
    c.erase("checkpoint_format");
    c["format"] = "marlin";
  });
  newer.refused({"format is 'marlin'", "gptq or gptq_v2"});
  with("w4a16", "transform_config", {{"config_groups", {{"R3", {{"type", "hadamard"}}}}}},
       {"transform_config is an object", "none (no rotations of activations)"});
  with("w4a16", "sparsity_config", {{"format", "sparse-24-bitmask"}},
       {"sparsity_config.format is 'sparse-24-bitmask'", "dense"});
  with("w4a16", "format", "marlin-24", {"format is 'marlin-24'"});
  const std::string weights = "config_groups/group_0/weights/";
  with("w4a16", weights + "type", "nf", {"weights.type is 'nf'", "int or float"});
  with("w4a16", weights + "type", "float", {"weights.num_bits is 4", "8 of type float"});
  with("fp8_channel", weights + "symmetric", false, {"symmetric is false", "of type float"});
  for (const auto* strategy : {"group", "block", "tensor_group"})
    with("fp8_channel", weights + "strategy", strategy, {"weights.strategy is '", "channel or tensor"});
  with("fp8_channel", "format", "nvfp4-pack-quantized",
       {"format is 'nvfp4-pack-quantized'", "float-quantized"});
  with("fp8_tensor", "weight_block_size", {128, 128}, {"weight_block_size is", "one scale a matrix"});
  with("fp8_tensor", "fmt", "e5m2", {"fmt is 'e5m2'", "e4m3"});
  with("w4a16", weights + "strategy", "block", {"strategy is 'block'"});
  with("w4a16", weights + "actorder", "column", {"weights.actorder is 'column'", "group"});
  with("w4a16", weights + "actorder", "group",
       {"weight_g_idx': missing, expected by the configuration's act-order"});
  with("w4a16", "quantization_status", "frozen", {"quantization_status is 'frozen'"});
  damaged two("w4a16");
  two.configure([](nlohmann::json& c) {
    c["config_groups"]["group_1"] = c["config_groups"]["group_0"];
    c["config_groups"]["group_1"]["weights"]["num_bits"] = 8;
  });
  two.refused({"config_groups", "one format for all matrices"});
}

BOOST_AUTO_TEST_CASE(settings_that_change_nothing_are_accepted) {
  const auto with = [](const std::string& form, const std::string& key, const nlohmann::json& value) {
    damaged d(form);
    d.configure([&](nlohmann::json& c) { c[nlohmann::json::json_pointer("/" + key)] = value; });
    BOOST_CHECK_NO_THROW(model_folder(d.folder.path()).describe());
  };
  with("w4a16", "transform_config", nullptr);
  with("w4a16", "transform_config", nlohmann::json::object());
  with("w4a16", "sparsity_config", {{"format", "dense"}});
  with("w4a16", "kv_cache_scheme", {{"num_bits", 8}, {"type", "float"}});
  for (const auto* order : {"weight", "static"})
    with("w4a16", "config_groups/group_0/weights/actorder", order);
  with("awq", "modules_to_not_convert", {"lm_head"});
  with("gptq_act_order", "desc_act", true);
}

BOOST_AUTO_TEST_CASE(tensors_that_do_not_fit_are_refused) {
  const auto with = [](const std::string& form, const std::string& from, const std::string& to,
                       std::initializer_list<std::string_view> parts) {
    damaged d(form);
    d.replace(from, to);
    d.refused(parts);
  };
  with("awq", "mlp.up_proj.qzeros", "mlp.up_proj.qzeroX", {"'model.layers.0.mlp.up_proj.qzeros' is missing"});
  with("gptq", "mlp.up_proj.scales", "mlp.up_proj.scaleX",
       {"'model.layers.0.mlp.up_proj.scales' is missing"});
  with("gptq", "mlp.up_proj.qweight", "mlp.up_proj.qweighX",
       {"'model.layers.0.mlp.up_proj.weight' is missing"});
  damaged group("awq");
  group.configure([](nlohmann::json& c) { c["group_size"] = 32; });
  group.refused({"scales': shape is [2, 32], expected [1, 32]", "groups of 32"});
  damaged bits("w8a8");
  bits.configure([](nlohmann::json& c) { c["config_groups"]["group_0"]["weights"]["num_bits"] = 4; });
  bits.refused({"I8, expected packed codes of 4 bits"});
  with("fp8_channel", "F8_E4M3", "F8_E5M2", {"F8_E5M2", "expected F8_E4M3 [rows, columns]"});
  with("fp8_tensor", "F8_E4M3", "F8_E8M0", {"F8_E8M0", "expected F8_E4M3"});
  with("fp8_channel", "up_proj.weight_scale", "up_proj.weight_scalX", {"up_proj.weight': dtype is F8_E4M3"});
  with("fp8_channel", R"(up_proj.weight_scale":{"dtype":"F32","shape":[64,1])",
       R"(up_proj.weight_scale":{"dtype":"F32","shape":[1,64])",
       {"weight_scale': shape is [1, 64], expected [64, 1]"});
  with("fp8_channel", R"(up_proj.weight":{"dtype":"F8_E4M3","shape":[64,32])",
       R"(up_proj.weight":{"dtype":"F8_E4M3","shape":[32,64])",
       {"weight_scale': shape is [64, 1], expected [32, 1]"});
  with("fp8_channel", R"(up_proj.weight_scale":{"dtype":"F32")", R"(up_proj.weight_scale":{"dtype":"I32")",
       {"weight_scale': dtype is I32, expected F32, F16 or BF16"});
  damaged codes("w8a8");  // said to be floats
  codes.configure([](nlohmann::json& c) { c["config_groups"]["group_0"]["weights"]["type"] = "float"; });
  codes.refused({"weight': I8 [", "expected F8_E4M3"});
  damaged floats("fp8_channel");  // said to be integers
  floats.configure([](nlohmann::json& c) { c["config_groups"]["group_0"]["weights"]["type"] = "int"; });
  floats.refused({"weight': F8_E4M3 [", "expected I8"});
  damaged order("gptq_act_order");
  auto bytes = order.folder.read("model.safetensors");
  const safetensors_file file(order.folder.path() / "model.safetensors");
  const auto begin = file.find("model.layers.0.mlp.down_proj.g_idx")->begin;
  bytes[begin + 3] = '\x7f';
  order.folder.write("model.safetensors", bytes);
  order.refused({"g_idx': names group", "of 4"});
}

}  // namespace fastserve::model::test
