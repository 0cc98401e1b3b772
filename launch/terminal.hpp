#pragma once

#include <memory>
#include <string>

#include "launch/terminal_probe.hpp"

namespace fastserve::launch {

/// The user's terminal while keys are read one by one. Bytes still arrive at our stdin and leave by our
/// stdout (an MPI launcher in between passes them on); this only sets the device's modes and asks its size.
///
/// Between raw() and restore() there is no echo, no line buffering and no signals: Ctrl-C is the byte 0x03.
/// The modes come back on restore(), on destruction, on fatal signals, and, by a small watching process, even
/// when this process is killed with SIGKILL.
class terminal {
 public:
  struct size {
    int columns = 0;  ///< 0 = unknown
    int rows = 0;
  };

  /// Opens `device`, as terminal_facts names it. Throws std::runtime_error when that is no terminal.
  explicit terminal(const std::string& device);
  terminal(const terminal&) = delete;
  terminal& operator=(const terminal&) = delete;
  ~terminal();

  /// One terminal at a time may be raw in a process; a second throws std::logic_error.
  void raw();
  void restore() noexcept;

  /// As it is now: resizing needs no signal.
  size measure() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

/// Size of the terminal behind a descriptor of ours or, failing that, unknown.
terminal::size size_of_terminal(int fd);

}  // namespace fastserve::launch
