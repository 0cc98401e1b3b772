#include "launch/status_line.hpp"

#include <cstdio>
#include <mutex>

namespace fastserve::launch::status_line {

namespace {

struct state {
  std::mutex mutex;
  bool drawn = false;
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
  make_room_for([] {});
}

void inherit() {
  auto& line = the_line();
  const std::lock_guard lock{line.mutex};
  line.drawn = true;
}

void say(const std::string& lines) {
  make_room_for([&] { std::fputs(lines.c_str(), stderr); });
}

void make_room_for(const std::function<void()>& write) {
  auto& line = the_line();
  const std::lock_guard lock{line.mutex};
  erase(line);
  write();
  std::fflush(stderr);
}

}  // namespace fastserve::launch::status_line
