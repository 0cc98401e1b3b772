#include <cstdio>
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "model/tokenizer/tokenizer.hpp"

/// dump_tokens MODEL_DIR [special]: for each line of standard input, a JSON string, prints a JSON list of
/// ids. For comparisons with other libraries, by hand and from scripts/make_tokenizer_goldens.py --compare.
int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL_DIR [special|decode]\n", argv[0]);
    return 2;
  }
  const std::string mode = argc > 2 ? argv[2] : "";
  const auto tokens = fastserve::model::load_tokenizer(argv[1]);
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) {
    const auto value = nlohmann::json::parse(line);
    if (mode == "decode") {
      const auto ids = value.get<std::vector<fastserve::model::token_id>>();
      std::cout << nlohmann::json(tokens->decode(ids, false)).dump() << '\n';
    } else {
      std::cout << nlohmann::json(tokens->encode(value.get<std::string>(), mode == "special")).dump() << '\n';
    }
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
