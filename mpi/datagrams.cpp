#include "mpi/datagrams.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iomanip>
#include <random>
#include <sstream>

namespace fastserve::mpi {

namespace {

// A machine's first ones: each costs a datagram a heartbeat.
constexpr std::size_t most_addresses = 4;

std::vector<std::uint32_t> own_addresses() {
  std::vector<std::uint32_t> out;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return out;
  for (const auto* i = all; i != nullptr && out.size() < most_addresses; i = i->ifa_next) {
    const auto wanted = IFF_UP | IFF_RUNNING;
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_LOOPBACK) != 0 ||
        (i->ifa_flags & static_cast<unsigned>(wanted)) != static_cast<unsigned>(wanted))
      continue;
    sockaddr_in at{};
    std::memcpy(&at, i->ifa_addr, sizeof at);
    out.push_back(at.sin_addr.s_addr);
  }
  ::freeifaddrs(all);
  return out;
}

}  // namespace

/// What travels. All ranks are of one build, see require_same_build().
struct datagrams::sign {
  word key;
  std::int32_t from;
  std::int32_t to;
};

datagrams::datagrams(environment& env)
    : rank_{env.rank()},
      to_(static_cast<std::size_t>(env.size())),
      last_(static_cast<std::size_t>(env.size())) {
  if (env.local_size() == env.size()) return;
  std::random_device random;
  for (auto& byte : key_) byte = static_cast<unsigned char>(random());
  socket_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  wake_ = ::eventfd(0, EFD_CLOEXEC);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  if (socket_ >= 0 &&
      (wake_ < 0 || ::bind(socket_, reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0)) {
    ::close(socket_);
    socket_ = -1;
  }
  const auto all = env.allgather(own_text());
  for (std::size_t r = 0; r < all.size(); ++r) {
    word key{};
    auto to = addresses_in(all[r], key);
    if (r == 0) key_ = key;
    if (!env.is_local(static_cast<int>(r))) to_[r] = std::move(to);
  }
  if (open()) thread_ = std::thread{[this] { listen(); }};
}

datagrams::~datagrams() {
  if (thread_.joinable()) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
    thread_.join();
  }
  if (socket_ >= 0) ::close(socket_);
  if (wake_ >= 0) ::close(wake_);
}

// Key, port and addresses; the key alone of a rank that cannot hear.
std::string datagrams::own_text() const {
  std::ostringstream out;
  out << std::hex << std::setfill('0');
  for (const auto byte : key_) out << std::setw(2) << unsigned{byte};
  sockaddr_in bound{};
  socklen_t size = sizeof bound;
  if (!open() || ::getsockname(socket_, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return out.str();
  out << ' ' << bound.sin_port;
  for (const auto ip : own_addresses()) out << ' ' << ip;
  return out.str();
}

std::vector<datagrams::address> datagrams::addresses_in(const std::string& text, word& key) {
  std::istringstream in{text};
  std::string digits;
  in >> digits;
  for (std::size_t i = 0; i < key.size() && 2 * i + 1 < digits.size(); ++i)
    key[i] = static_cast<unsigned char>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
  std::vector<address> out;
  in >> std::hex;
  std::uint16_t port = 0;
  in >> port;
  for (std::uint32_t ip = 0; in >> ip;) out.push_back({ip, port});
  return out;
}

void datagrams::send(int rank) const noexcept {
  if (!open()) return;
  const sign what{key_, rank_, rank};
  for (const auto& a : to_[static_cast<std::size_t>(rank)]) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = a.ip;
    to.sin_port = a.port;
    // One that cannot be sent is as one that is lost.
    ::sendto(socket_, &what, sizeof what, MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  }
}

datagrams::clock::time_point datagrams::last(int rank) const {
  return clock::time_point{clock::duration{last_[static_cast<std::size_t>(rank)].load()}};
}

void datagrams::listen() {
  std::array<pollfd, 2> on{pollfd{socket_, POLLIN, 0}, pollfd{wake_, POLLIN, 0}};
  for (;;) {
    ::poll(on.data(), on.size(), -1);
    if (on[1].revents != 0) return;
    sign heard{};
    const auto size = ::recv(socket_, &heard, sizeof heard, MSG_TRUNC);
    if (size != static_cast<ssize_t>(sizeof heard) || heard.key != key_ || heard.to != rank_ ||
        heard.from < 0 || static_cast<std::size_t>(heard.from) >= last_.size())
      continue;
    last_[static_cast<std::size_t>(heard.from)] = clock::now().time_since_epoch().count();
  }
}

}  // namespace fastserve::mpi
