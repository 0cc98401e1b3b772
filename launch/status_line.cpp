#include "launch/status_line.hpp"

#include <cstdio>
#include <mutex>
#include <utility>

namespace fastserve::launch::status_line {

namespace {

struct state {
  std::mutex mutex;
  bool drawn = false;
  std::function<void(const std::string&)> elsewhere;
};

state& the_line() {
  static state line;
  return line;
}

void erase(state& line) {
  if (line.drawn) std::fputs("\r\x1b[K", stderr);
  line.drawn = false;
}

}  // namespace

void draw(const std::string& text) {
  if (text.empty()) return;
  auto& line = the_line();
  const std::lock_guard lock{line.mutex};
  line.drawn = true;
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

void clear() {
  auto& line = the_line();
  const std::lock_guard lock{line.mutex};
  erase(line);
  std::fflush(stderr);
}

void inherit() {
  auto& line = the_line();
  const std::lock_guard lock{line.mutex};
  line.drawn = true;
}

void say(const std::string& lines) {
  auto& line = the_line();
  const std::lock_guard lock{line.mutex};
  if (line.elsewhere) return line.elsewhere(lines);
  erase(line);
  std::fputs(lines.c_str(), stderr);
  std::fflush(stderr);
}

void divert(std::function<void(const std::string&)> write) {
  auto& line = the_line();
  const std::lock_guard lock{line.mutex};
  line.elsewhere = std::move(write);
}

}  // namespace fastserve::launch::status_line
