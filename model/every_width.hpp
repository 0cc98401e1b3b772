#pragma once

/// One copy of a loop for each vector width, chosen when the program starts. Only for what gives the same
/// bits on every one of them.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FASTSERVE_EVERY_WIDTH __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FASTSERVE_EVERY_WIDTH
#endif
