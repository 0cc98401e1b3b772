// Entry point for libFuzzer (option FASTSERVE_FUZZERS, clang): the first byte chooses the parser.
#include "fuzz_targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastserve::model::test;
  if (size == 0) return 0;
  const std::span rest(data + 1, size - 1);
  switch (data[0] % 6) {
    case 0:
      fuzz_safetensors(rest);
      break;
    case 1:
      fuzz_shard_index(rest);
      break;
    case 2:
      fuzz_gguf(rest);
      break;
    case 3:
      fuzz_gguf_model(rest);
      break;
    case 4:
      fuzz_pack_header(rest);
      break;
    default:
      fuzz_config(rest);
      break;
  }
  return 0;
}
