#pragma once

#include <cstdint>
#include <string>

namespace fastserve::launch {

/// Where the user sits. Under mpirun a rank's stdin is a pipe and its stdout a pseudo-terminal or a pipe,
/// both made by the launcher, so they tell nothing; what counts are the launcher's own.
struct terminal_facts {
  enum class style : std::uint8_t {
    script,  ///< input or output is a file or pipe: read whole input lines, print answers only
    plain,  ///< a person, but TERM is dumb or unset: prompts, no escape sequences, the terminal's own editing
    interactive,  ///< a person at a terminal that can be drawn on
  };
  style mode = style::script;
  bool input_is_terminal = false;
  bool output_is_terminal = false;
  bool error_is_terminal = false;  ///< worth a progress bar
  std::string input_device;        ///< to set modes on and ask the size of; empty when there is none
  std::string reason;              ///< for the log: "stdin of mpirun (pid 12) is /dev/pts/3"
};

/// Looks at this process and, where its stdin comes from an MPI launcher on this host, at that launcher. Only
/// the rank that has the job's stdin (rank 0) gets anything but `script`. Reads /proc and the environment.
terminal_facts find_terminal();

}  // namespace fastserve::launch
