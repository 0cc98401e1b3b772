#include "launch/yaml_tree.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <sstream>
#include <stdexcept>
#include <utility>

namespace fastserve::launch {

namespace {

constexpr std::size_t max_depth = 4;
constexpr std::size_t max_nodes = 100000;

/// Builds the tree from the parser's events, so that nothing hostile is ever expanded or recursed into.
class tree_builder : public YAML::EventHandler {
 public:
  explicit tree_builder(const std::string& name) : name_{name} {}

  yaml_node take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    forbid_anchor(mark, anchor);
    put(node_at(mark, yaml_node::type::null));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { fail(mark, "aliases are not supported"); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    forbid_anchor(mark, anchor);
    // yaml-cpp gives "?" to plain scalars and "!" to quoted ones.
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark, "tags are not supported");
    yaml_node node = node_at(mark, yaml_node::type::scalar);
    node.text = value;
    node.quoted = tag == "!";
    if (!node.quoted &&
        (value == "~" || value == "null" || value == "Null" || value == "NULL" || value.empty()))
      node.is = yaml_node::type::null;
    put(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, yaml_node::type::sequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, yaml_node::type::map);
  }
  void OnMapEnd() override { close(); }

 private:
  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what) const {
    throw std::runtime_error{at_line(name_, mark.line + 1) + what};
  }
  void forbid_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != 0) fail(mark, "anchors are not supported");
  }
  yaml_node node_at(const YAML::Mark& mark, yaml_node::type type) {
    if (++nodes_ > max_nodes) fail(mark, "more than " + std::to_string(max_nodes) + " values");
    yaml_node node;
    node.is = type;
    node.line = mark.line + 1;
    return node;
  }
  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, yaml_node::type type) {
    forbid_anchor(mark, anchor);
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark, "tags are not supported");
    if (open_.size() == max_depth) fail(mark, "nested too deeply");
    open_.push_back(node_at(mark, type));
  }
  void close() {
    yaml_node node = std::move(open_.back());
    open_.pop_back();
    put(std::move(node));
  }
  void put(yaml_node node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    yaml_node& parent = open_.back();
    const bool is_key = parent.is == yaml_node::type::map && parent.keys.size() == parent.items.size();
    (is_key ? parent.keys : parent.items).push_back(std::move(node));
  }

  const std::string& name_;
  std::vector<yaml_node> open_;
  yaml_node root_;
  std::size_t nodes_ = 0;
};

}  // namespace

namespace {

/// yaml-cpp puts the offending character into some messages, line breaks included.
std::string one_line(const std::string& message) {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  std::string out;
  for (const char c : message) out += control(c) ? '?' : c;
  return out;
}

}  // namespace

std::string at_line(const std::string& name, int line) { return name + ":" + std::to_string(line) + ": "; }

yaml_node parse_yaml(std::string_view text, const std::string& name) {
  std::istringstream in{std::string{text}};
  try {
    YAML::Parser parser{in};
    tree_builder builder{name};
    if (!parser.HandleNextDocument(builder)) return {};
    yaml_node root = builder.take();
    tree_builder rest{name};
    if (parser.HandleNextDocument(rest)) throw std::runtime_error{name + ": more than one document"};
    return root;
  } catch (const YAML::Exception& error) {
    throw std::runtime_error{at_line(name, error.mark.is_null() ? 1 : error.mark.line + 1) +
                             "not YAML: " + one_line(error.msg)};
  }
}

}  // namespace fastserve::launch
