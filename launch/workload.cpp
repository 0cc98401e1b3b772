#include "launch/workload.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "launch/formatted.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

// SplitMix64's finaliser: a counter in, 64 spread bits out.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// The standard's engine is the same everywhere, its distributions are not: these are.
class dice {
 public:
  explicit dice(std::uint64_t seed) : engine_{seed} {}
  /// In (0, 1).
  double uniform() { return (static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53; }
  std::uint64_t below(std::uint64_t n) { return engine_() % n; }
  double normal() {
    const double r = std::sqrt(-2 * std::log(uniform()));
    return r * std::cos(6.283185307179586 * uniform());
  }
  /// Mean `shape`, scale one (Marsaglia and Tsang, ACM TOMS 26, 2000).
  double gamma(double shape) {
    if (shape < 1) return gamma(shape + 1) * std::pow(uniform(), 1 / shape);
    const double d = shape - 1.0 / 3;
    const double c = 1 / std::sqrt(9 * d);
    for (;;) {
      const double x = normal();
      const double v = std::pow(1 + c * x, 3);
      if (v > 0 && std::log(uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
    }
  }

 private:
  std::mt19937_64 engine_;
};

// A long answer may take half of the context from a long prompt, and no more.
void fit(workload_item& item, std::int32_t context) {
  if (context <= 0) return;
  const auto answer = std::max(std::min(item.output_tokens, context / 2), 1);
  item.prompt_tokens = std::clamp(item.prompt_tokens, 1, std::max(context - answer, 1));
  item.output_tokens = std::clamp(item.output_tokens, 1, std::max(context - item.prompt_tokens, 1));
}

}  // namespace

std::int32_t scaled(std::int32_t tokens, double scale) {
  return static_cast<std::int32_t>(std::clamp(std::round(tokens * scale), 1.0, 2e9));
}

std::string load_cut::text(std::size_t of) const {
  return formatted(
      "%s of %s do not fit the context of %s and are shortened to it: prompts from %s to %s "
      "tokens, answers from %s to %s on average",
      format_count(static_cast<std::int64_t>(requests)).c_str(),
      counted(static_cast<std::int64_t>(of), "request").c_str(), counted(context, "token").c_str(),
      format_measure(prompt_before).c_str(), format_measure(prompt_after).c_str(),
      format_measure(output_before).c_str(), format_measure(output_after).c_str());
}

std::vector<workload_item> make_load(const trace& from, const load_shape& shape, bool keep_order,
                                     load_cut* cut) {
  const auto wanted = static_cast<std::size_t>(std::max(shape.requests, 0));
  const auto known = from.items.size();
  std::vector<std::size_t> order(known);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (!keep_order && !from.prefixes) {
    dice random{mix(shape.seed)};
    for (std::size_t i = known; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  }
  std::vector<workload_item> out;
  out.reserve(wanted);
  const double period = known == 0 ? 0 : from.items.back().at_s;
  load_cut found;
  found.context = shape.max_context;
  for (std::size_t i = 0; i < wanted && known > 0; ++i) {
    auto item = from.items[order[i % known]];
    item.at_s += period * static_cast<double>(i / known);
    item.prompt_tokens = scaled(item.prompt_tokens, shape.scale * shape.prompt_scale);
    item.output_tokens = scaled(item.output_tokens, shape.scale);
    const auto prompt = item.prompt_tokens;
    const auto output = item.output_tokens;
    fit(item, shape.max_context);
    if (item.prompt_tokens != prompt || item.output_tokens != output) {
      ++found.requests;
      found.prompt_before += prompt;
      found.output_before += output;
      found.prompt_after += item.prompt_tokens;
      found.output_after += item.output_tokens;
    }
    out.push_back(std::move(item));
  }
  if (cut == nullptr) return out;
  *cut = found;
  for (auto* sum : {&cut->prompt_before, &cut->output_before, &cut->prompt_after, &cut->output_after})
    *sum /= std::max<double>(static_cast<double>(found.requests), 1);
  return out;
}

void set_arrivals(std::vector<workload_item>& load, const arrival_shape& shape) {
  dice random{mix(shape.seed ^ 0xa11f)};
  double at = 0;
  for (auto& item : load) {
    item.at_s = at;
    double gap = 1;
    if (shape.cv == 1)
      gap = -std::log(random.uniform());
    else if (shape.cv > 0)
      gap = random.gamma(1 / (shape.cv * shape.cv)) * shape.cv * shape.cv;
    at += gap / shape.rate;
  }
}

std::vector<std::int32_t> prompt_of(const workload_item& item, std::uint64_t index, std::int32_t vocab,
                                    std::int32_t block) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(item.prompt_tokens));
  const auto own = mix(~index);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto b = i / static_cast<std::size_t>(std::max(block, 1));
    const auto key = b < item.prefix_ids.size() ? mix(item.prefix_ids[b]) : own;
    out[i] = static_cast<std::int32_t>(mix(key + i) % static_cast<std::uint64_t>(vocab));
  }
  return out;
}

}  // namespace fastserve::launch
