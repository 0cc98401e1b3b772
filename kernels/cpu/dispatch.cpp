#include "kernels/cpu/dispatch.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "kernels/backend.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastserve::kernels {
namespace cpu {
namespace {

static_assert(static_cast<int>(dtype::f32) == element_f32 && static_cast<int>(dtype::f16) == element_f16 &&
              static_cast<int>(dtype::bf16) == element_bf16);
static_assert(kv_block_tokens == block_tokens);
static_assert(q8_columns == record_columns && q8_record_bytes == record_bytes);
static_assert(static_cast<int>(zero_kind::integer) == zeros_integer &&
              static_cast<int>(zero_kind::offset) == zeros_offset);
static_assert(static_cast<int>(activation::silu) == gate_silu &&
              static_cast<int>(activation::gelu) == gate_gelu &&
              static_cast<int>(activation::gelu_tanh) == gate_gelu_tanh &&
              static_cast<int>(activation::relu) == gate_relu);

struct choice {
  const char* name;
  const kernel_table& (*table)();
  bool (*runs_here)();
};

bool always() { return true; }

#if defined(__x86_64__)
[[maybe_unused]] bool has_avx2() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  // Clang 14's __builtin_cpu_supports does not know f16c.
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
  return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

[[maybe_unused]] bool has_avxvnni() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1U << 4)) != 0;
}

[[maybe_unused]] bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

[[maybe_unused]] bool has_avx512vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

[[maybe_unused]] bool has_avx512bf16() { return has_avx512vnni() && __builtin_cpu_supports("avx512bf16"); }
#endif

/// Those that were built (FASTSERVE_ISAS), best last.
constexpr choice choices[] = {
    {"portable", portable_table, always},
#if defined(FASTSERVE_ISA_AVX2)
    {"avx2", avx2_table, has_avx2},
#endif
#if defined(FASTSERVE_ISA_AVXVNNI)
    {"avxvnni", avxvnni_table, has_avxvnni},
#endif
#if defined(FASTSERVE_ISA_AVX512)
    {"avx512", avx512_table, has_avx512},
#endif
#if defined(FASTSERVE_ISA_AVX512VNNI)
    {"avx512vnni", avx512vnni_table, has_avx512vnni},
#endif
#if defined(FASTSERVE_ISA_AVX512BF16)
    {"avx512bf16", avx512bf16_table, has_avx512bf16},
#endif
};

std::string joined(const std::vector<std::string>& names) {
  std::string all;
  for (const auto& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

}  // namespace

const kernel_table& choose_table(const std::string& isa) {
  const char* forced = std::getenv("FASTSERVE_ISA");
  const bool from_environment = isa.empty() && forced != nullptr && *forced != '\0';
  const std::string wanted = from_environment ? forced : isa;
  const auto here = supported_isas();
  const auto& name = wanted.empty() ? here.back() : wanted;
  for (const auto& c : choices) {
    if (name == c.name && c.runs_here()) return c.table();
  }
  const bool known =
      std::any_of(std::begin(choices), std::end(choices), [&](const choice& c) { return name == c.name; });
  throw std::runtime_error((from_environment ? "FASTSERVE_ISA: " : "") + ("instruction set '" + name) +
                           "' is " + (known ? "not supported by this processor" : "unknown") +
                           "; choose one of " + joined(here));
}

processor_habits habits_here() {
  processor_habits habits;
#if defined(__x86_64__)
  if (__builtin_cpu_is("amd")) {
    habits.fetch_ahead = false;
    habits.open_nibbles = false;
  }
#endif
  return habits;
}

}  // namespace cpu

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const auto& c : cpu::choices) {
    if (c.runs_here()) names.emplace_back(c.name);
  }
  return names;
}

}  // namespace fastserve::kernels
