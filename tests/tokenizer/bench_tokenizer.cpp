#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>

#include "model/tokenizer/stream_decoder.hpp"
#include "model/tokenizer/tokenizer.hpp"

/// bench_tokenizer MODEL_DIR TEXT_FILE: MB/s on one core, cold (the first encode after loading), warm (the
/// best of five) and of the streaming decode.
int main(int argc, char** argv) try {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL_DIR TEXT_FILE\n", argv[0]);
    return 2;
  }
  using clock = std::chrono::steady_clock;
  const auto seconds = [](clock::time_point since) {
    return std::chrono::duration<double>(clock::now() - since).count();
  };
  std::ifstream in(argv[2], std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  const double megabytes = static_cast<double>(text.size()) / 1e6;

  auto start = clock::now();
  const auto tokens = fastserve::model::load_tokenizer(argv[1]);
  const double load_s = seconds(start);

  std::vector<fastserve::model::token_id> ids;
  double cold_s = 0;
  double warm_s = 1e9;
  for (int round = 0; round < 6; ++round) {
    start = clock::now();
    ids = tokens->encode(text, false);
    const double s = seconds(start);
    if (round == 0) {
      cold_s = s;
    } else {
      warm_s = std::min(warm_s, s);
    }
  }

  start = clock::now();
  fastserve::model::stream_decoder decoder(*tokens);
  std::size_t bytes = 0;
  for (const auto id : ids) bytes += decoder.push(id).size();
  bytes += decoder.flush().size();
  const double decode_s = seconds(start);

  std::printf(
      "%s: load %.0f ms, %.2f MB, %zu tokens, encode cold %.1f MB/s, warm %.1f MB/s, decode %.1f MB/s\n",
      argv[1], load_s * 1e3, megabytes, ids.size(), megabytes / cold_s, megabytes / warm_s,
      static_cast<double>(bytes) / 1e6 / decode_s);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
