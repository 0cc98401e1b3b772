#include "golden.hpp"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace fastserve::model::test {
namespace {

golden read_golden(const std::filesystem::path& folder) {
  const auto json = nlohmann::json::parse(std::ifstream(folder / "golden.json"));
  golden g;
  g.folder = folder;
  g.name = folder.filename().string();
  g.weights_dtype = json.at("weights_dtype");
  g.prompt_ids = json.at("prompt_ids").get<std::vector<std::int32_t>>();
  g.greedy_ids = json.at("greedy_ids").get<std::vector<std::int32_t>>();
  g.prefill_positions = json.at("prefill_positions").get<std::vector<std::int32_t>>();
  g.tolerance = json.at("rel_tol");
  const auto vocab = json.at("vocab_size").get<std::size_t>();
  std::ifstream in(folder / "golden.bin", std::ios::binary);
  for (std::size_t i = 0; i < json.at("logits_rows").get<std::size_t>(); ++i) {
    auto& row = g.rows.emplace_back(vocab);
    in.read(reinterpret_cast<char*>(row.data()), static_cast<std::streamsize>(vocab * sizeof(float)));
  }
  if (!in || g.rows.size() != g.greedy_ids.size() + g.prefill_positions.size())
    throw std::runtime_error(folder.string() + ": golden.bin and golden.json do not agree");
  return g;
}

}  // namespace

std::vector<golden> all_goldens() {
  std::vector<golden> out;
  for (const auto& entry : std::filesystem::directory_iterator(FASTSERVE_TEST_DATA "/models"))
    if (std::filesystem::exists(entry.path() / "golden.json")) out.push_back(read_golden(entry.path()));
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

}  // namespace fastserve::model::test
