#include "launch/formatted.hpp"

#include <cstdarg>
#include <cstdio>

namespace fastserve::launch {

std::string formatted(const char* how, ...) {
  std::string out;
  va_list values;
  va_start(values, how);
  va_list again;
  va_copy(again, values);
  const int length = std::vsnprintf(nullptr, 0, how, values);
  if (length > 0) {
    out.resize(static_cast<std::size_t>(length));
    std::vsnprintf(out.data(), out.size() + 1, how, again);
  }
  va_end(again);
  va_end(values);
  return out;
}

}  // namespace fastserve::launch
