#pragma once

namespace fastserve::test {

/// Whether this build is instrumented and so many times slower: cases that only repeat a shape are left out,
/// and random ones are fewer.
#ifdef FASTSERVE_SANITIZED
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace fastserve::test
