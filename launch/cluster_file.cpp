#include "launch/cluster_file.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <vector>

#include "launch/formatted.hpp"
#include "launch/parse_value.hpp"
#include "launch/suggest.hpp"
#include "launch/text_file.hpp"
#include "launch/yaml_tree.hpp"

namespace fastserve::launch {

namespace {

constexpr std::size_t max_cluster_bytes = 1U << 20U;
constexpr std::size_t max_ranks = 100000;
constexpr std::size_t max_groups = 256;
constexpr float most_gops = 1e9F;
constexpr float most_us = 1e9F;

using type = yaml_node::type;

class cluster_reader {
 public:
  explicit cluster_reader(const std::string& name) : name_{name} {}

  planner::cluster read(const yaml_node& root) {
    const yaml_node* links = nullptr;
    each_key(root, "", {"ranks", "links"}, [&](const std::string& key, const yaml_node& value) {
      if (key == "links")
        links = &value;
      else
        each_item(value, "ranks", [this](const yaml_node& item) { read_group(item); });
    });
    if (out_.ranks.empty()) fail(root, "no ranks: expected a list 'ranks' of groups");
    const auto n = names_.size();
    out_.groups = n;
    out_.links.assign(n * n, {});
    told_.assign(n * n, false);
    if (links != nullptr) each_item(*links, "links", [this](const yaml_node& item) { read_link(item); });
    for (std::size_t a = 0; a < n; ++a)
      for (std::size_t b = a; b < n; ++b)
        if (!told_[a * n + b] && (a != b || members_[a] > 1))
          fail(links != nullptr ? *links : root,
               "no link between " + in_quotes(names_[a]) + " and " + in_quotes(names_[b]) + " under 'links'");
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(const yaml_node& at, const std::string& what) const {
    throw std::runtime_error{at_line(name_, at.line) + what};
  }
  static std::string kind_of(const yaml_node& node) {
    switch (node.is) {
      case type::null:
        return "nothing";
      case type::scalar:
        return in_quotes(node.text);
      case type::sequence:
        return "a list";
      case type::map:
        return "keys";
    }
    return {};
  }

  template <class Take>
  void each_key(const yaml_node& map, const std::string& of, const std::vector<std::string>& known,
                Take take) const {
    if (map.is != type::map)
      fail(map, "expected keys" + (of.empty() ? "" : " of " + of) + ", found " + kind_of(map));
    std::set<std::string> seen;
    for (std::size_t i = 0; i < map.keys.size(); ++i) {
      const auto& key = map.keys[i];
      if (key.is != type::scalar) fail(key, "expected a key, found " + kind_of(key));
      if (std::find(known.begin(), known.end(), key.text) == known.end())
        fail(key, "unknown key " + in_quotes(key.text) + (of.empty() ? "" : " of " + of) +
                      did_you_mean(key.text, known));
      if (!seen.insert(key.text).second) fail(key, "key " + in_quotes(key.text) + " is given twice");
      take(key.text, map.items[i]);
    }
  }
  template <class Take>
  void each_item(const yaml_node& list, const std::string& of, Take take) const {
    if (list.is != type::sequence) fail(list, "expected a list under '" + of + "', found " + kind_of(list));
    for (const auto& item : list.items) take(item);
  }
  template <class Parse>
  auto value(const yaml_node& node, const std::string& key, Parse parse) const {
    if (node.is != type::scalar) fail(node, key + ": expected a value, found " + kind_of(node));
    try {
      return parse(node.text);
    } catch (const std::invalid_argument& complaint) {
      fail(node, key + ": " + complaint.what());
    }
  }
  double real(const yaml_node& node, const std::string& key, float high, bool above_zero) const {
    return value(node, key, [&](const std::string& t) { return parse_real(t, 0.0F, high, above_zero); });
  }
  double amount(const yaml_node& node, const std::string& key) const {
    const auto bytes = value(node, key, [](const std::string& t) { return parse_bytes(t); });
    if (bytes == 0) fail(node, key + ": expected more than nothing, found " + in_quotes(node.text));
    return static_cast<double>(bytes);
  }

  void read_group(const yaml_node& item) {
    planner::rank_profile r;
    std::int64_t count = 1;
    r.step_s = default_step_s;
    each_key(
        item, "a group",
        {"group", "count", "memory", "bandwidth", "gops", "gelements", "step_us", "operation_us", "alone"},
        [&](const std::string& key, const yaml_node& v) {
          if (key == "group") {
            r.name = value(v, key, [](const std::string& t) { return t; });
            if (r.name.empty()) fail(v, "group: expected a name, found nothing");
          } else if (key == "count") {
            count = value(v, key, [](const std::string& t) {
              return parse_integer(t, 1, static_cast<std::int64_t>(max_ranks));
            });
          } else if (key == "memory") {
            r.memory_bytes = amount(v, key);
          } else if (key == "bandwidth") {
            r.bytes_per_s = amount(v, key);
          } else if (key == "gops") {
            read_rates(v, r);
          } else if (key == "gelements") {
            r.elements_per_s = 1e9 * real(v, key, most_gops, true);
          } else if (key == "alone") {
            each_key(v, key, {"gops", "bandwidth"}, [&](const std::string& what, const yaml_node& n) {
              const double times =
                  value(n, what, [](const std::string& t) { return parse_real(t, 1.0F, 1000.0F); });
              (what == "gops" ? r.alone_ops : r.alone_bytes) = times;
            });
          } else if (key == "step_us") {
            r.step_s = 1e-6 * real(v, key, most_us, false);
          } else {
            r.operation_s = 1e-6 * real(v, key, most_us, false);
          }
        });
    const auto need = [&](bool there, const char* key) {
      if (!there) fail(item, std::string{"a group without '"} + key + "'");
    };
    need(!r.name.empty(), "group");
    need(r.memory_bytes > 0, "memory");
    need(r.bytes_per_s > 0, "bandwidth");
    need(r.ops_per_s[0] > 0, "gops");
    if (std::find(names_.begin(), names_.end(), r.name) != names_.end())
      fail(item, "group " + in_quotes(r.name) + " is given twice");
    if (names_.size() == max_groups) fail(item, "more than " + std::to_string(max_groups) + " groups");
    if (out_.ranks.size() + static_cast<std::size_t>(count) > max_ranks)
      fail(item, "more than " + std::to_string(max_ranks) + " ranks");
    r.group = static_cast<int>(names_.size());
    names_.push_back(r.name);
    members_.push_back(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      r.rank = static_cast<int>(out_.ranks.size());
      out_.ranks.push_back(r);
    }
  }

  // A rate that is not told is that of the next wider type: on processors without the instruction it is so.
  void read_rates(const yaml_node& node, planner::rank_profile& r) const {
    std::vector<std::string> known;
    for (std::size_t a = 0; a < planner::arithmetics; ++a)
      known.emplace_back(planner::name_of(static_cast<planner::arithmetic>(a)));
    each_key(node, "gops", known, [&](const std::string& key, const yaml_node& v) {
      const auto a = std::find(known.begin(), known.end(), key) - known.begin();
      r.ops_per_s[static_cast<std::size_t>(a)] = 1e9 * real(v, key, most_gops, true);
    });
    if (r.ops_per_s[0] == 0) fail(node, "gops without 'f32', which attention is computed in");
    for (const auto a : {planner::arithmetic::f16, planner::arithmetic::bf16}) {
      auto& rate = r.ops_per_s[static_cast<std::size_t>(a)];
      if (rate == 0) rate = r.ops_per_s[0];
    }
    auto& int8 = r.ops_per_s[static_cast<std::size_t>(planner::arithmetic::int8)];
    if (int8 == 0) int8 = r.ops_per_s[static_cast<std::size_t>(planner::arithmetic::bf16)];
    auto& int4 = r.ops_per_s[static_cast<std::size_t>(planner::arithmetic::int4)];
    if (int4 == 0) int4 = int8;
  }

  void read_link(const yaml_node& item) {
    planner::link l;
    std::vector<std::size_t> ends;
    bool has_latency = false;
    each_key(item, "a link", {"between", "latency_us", "bandwidth"},
             [&](const std::string& key, const yaml_node& v) {
               if (key == "between") {
                 each_item(v, key, [&](const yaml_node& end) {
                   const auto name = value(end, key, [](const std::string& t) { return t; });
                   const auto at = std::find(names_.begin(), names_.end(), name);
                   if (at == names_.end())
                     fail(end, "no group " + in_quotes(name) + " under 'ranks'" + did_you_mean(name, names_));
                   ends.push_back(static_cast<std::size_t>(at - names_.begin()));
                 });
                 if (ends.size() != 2)
                   fail(v, "between: expected two groups, found " + std::to_string(ends.size()));
               } else if (key == "latency_us") {
                 l.latency_s = 1e-6 * real(v, key, most_us, false);
                 has_latency = true;
               } else {
                 l.bytes_per_s = amount(v, key);
               }
             });
    if (ends.empty()) fail(item, "a link without 'between'");
    if (!has_latency) fail(item, "a link without 'latency_us'");
    if (l.bytes_per_s == 0) fail(item, "a link without 'bandwidth'");
    const auto n = names_.size();
    if (told_[ends[0] * n + ends[1]])
      fail(item, "the link between " + in_quotes(names_[ends[0]]) + " and " + in_quotes(names_[ends[1]]) +
                     " is given twice");
    for (const auto& [a, b] : {std::pair{ends[0], ends[1]}, std::pair{ends[1], ends[0]}}) {
      out_.links[a * n + b] = l;
      told_[a * n + b] = true;
    }
  }

  static constexpr double default_step_s = 60e-6;

  const std::string& name_;
  planner::cluster out_;
  std::vector<std::string> names_;
  std::vector<std::size_t> members_;
  std::vector<bool> told_;
};

std::string yaml_text(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  }
  return out + '"';
}

}  // namespace

planner::cluster read_cluster_text(std::string_view text, const std::string& name) {
  return cluster_reader{name}.read(parse_yaml(text, name));
}

planner::cluster read_cluster_file(const std::string& path) {
  return read_cluster_text(read_text_file(path, "cluster file", max_cluster_bytes), path);
}

std::string format_cluster(const planner::cluster& of) {
  std::string out = "ranks:\n";
  std::vector<std::string> names(of.groups);
  for (std::size_t i = 0; i < of.ranks.size();) {
    const auto& r = of.ranks[i];
    std::size_t count = 1;
    while (i + count < of.ranks.size() && of.ranks[i + count].group == r.group) ++count;
    names[static_cast<std::size_t>(r.group)] = r.name;
    out += "  - group: " + yaml_text(r.name) +
           formatted("\n    count: %zu\n    memory: %.0f\n    bandwidth: %.0f\n", count, r.memory_bytes,
                     r.bytes_per_s);
    out += "    gops: {";
    bool first = true;
    for (std::size_t a = 0; a < planner::arithmetics; ++a) {
      if (r.ops_per_s[a] == 0) continue;
      out += (first ? "" : ", ") + std::string{planner::name_of(static_cast<planner::arithmetic>(a))} +
             formatted(": %.4g", r.ops_per_s[a] / 1e9);
      first = false;
    }
    out += "}\n";
    if (r.elements_per_s > 0) out += formatted("    gelements: %.4g\n", r.elements_per_s / 1e9);
    out += formatted("    alone: {gops: %.4g, bandwidth: %.4g}\n", r.alone_ops, r.alone_bytes);
    out += formatted("    step_us: %.4g\n    operation_us: %.4g\n", 1e6 * r.step_s, 1e6 * r.operation_s);
    i += count;
  }
  out += "links:\n";
  for (std::size_t a = 0; a < of.groups; ++a)
    for (std::size_t b = a; b < of.groups; ++b) {
      const auto& l = of.links[a * of.groups + b];
      if (l.bytes_per_s <= 0) continue;
      out += "  - {between: [" + yaml_text(names[a]) + ", " + yaml_text(names[b]) +
             formatted("], latency_us: %.4g, bandwidth: %.0f}\n", 1e6 * l.latency_s, l.bytes_per_s);
    }
  return out;
}

}  // namespace fastserve::launch
