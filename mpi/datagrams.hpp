#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "mpi/environment.hpp"

namespace fastserve::mpi {

/// Signs of life between ranks of different machines that wait for no other packet: UDP, IPv4. TCP delivers
/// in order, so under MPI one lost segment silences a rank for seconds; of datagrams each that arrives
/// counts.
///
/// They only add to what is heard over MPI, so nothing depends on them: where they are filtered, or a machine
/// has no IPv4 address, none is heard. Each rank opens one socket on a port of the system's choice and
/// tells it to the others over MPI; a random word of the job keeps strangers' datagrams out.
class datagrams {
 public:
  using clock = std::chrono::steady_clock;

  /// Collective. A job on one machine opens nothing.
  explicit datagrams(environment& env);
  ~datagrams();
  datagrams(const datagrams&) = delete;
  datagrams& operator=(const datagrams&) = delete;

  bool open() const { return socket_ >= 0; }
  /// To all addresses of that rank; nothing to one of this machine. From any thread; never waits.
  void send(int rank) const noexcept;
  /// When that rank was last heard; the clock's epoch: never.
  clock::time_point last(int rank) const;

 private:
  using word = std::array<unsigned char, 16>;
  struct sign;
  struct address {
    std::uint32_t ip = 0;  ///< in network order, as the port
    std::uint16_t port = 0;
  };

  void listen();
  std::string own_text() const;
  static std::vector<address> addresses_in(const std::string& text, word& key);

  int rank_;
  int socket_ = -1;
  int wake_ = -1;
  word key_{};
  std::vector<std::vector<address>> to_;       // [ranks]; none: of this machine
  std::vector<std::atomic<clock::rep>> last_;  // [ranks]
  std::thread thread_;
};

}  // namespace fastserve::mpi
