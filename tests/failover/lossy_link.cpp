/// A bad network for scripts/virtual_cluster where the kernel has no netem: the cable of each node is a pair
/// of TAP devices, and this program carries the frames between them. What a node sends is delayed and
/// dropped, as `tc qdisc add dev eth0 root netem delay D loss L` would do in the node.
///
/// Usage: lossy_link NODES FIFO
///   Makes ve1, ve2, ... (for the bridge) and vt1, vt2, ... (for the nodes). They live as long as the
///   program. Each line of FIFO is "DELAY_MS LOSS_PERCENT" from then on. At the start both are 0.
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

/// A TAP device without offloads: whole Ethernet frames with their checksums, none larger than the MTU.
int open_tap(const std::string& name) {
  const int fd = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw std::system_error{errno, std::generic_category(), "/dev/net/tun"};
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  std::strncpy(request.ifr_name, name.c_str(), sizeof request.ifr_name - 1);
  if (::ioctl(fd, TUNSETIFF, &request) < 0) throw std::system_error{errno, std::generic_category(), name};
  return fd;
}

struct weather {
  std::chrono::milliseconds delay{0};
  double loss = 0;  // of 1
};

struct frame {
  clock_type::time_point due;
  std::vector<char> bytes;
};

/// One node's cable.
struct cable {
  int bridge = -1;
  int node = -1;
  std::deque<frame>
      late;  // on their way from the node, by due time: a delay that shrinks may not reorder them
};

/// As netem's default, in a cable: what a full queue cannot take is lost.
constexpr std::size_t queue_limit = 1000;

class network {
 public:
  network(int nodes, const char* fifo) {
    // For writing too: no end of file when a writer has gone.
    control_ = ::open(fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (control_ < 0) throw std::system_error{errno, std::generic_category(), fifo};
    for (int n = 1; n <= nodes; ++n)
      cables_.push_back({open_tap("ve" + std::to_string(n)), open_tap("vt" + std::to_string(n)), {}});
  }

  [[noreturn]] void run() {
    std::vector<pollfd> waiting;
    waiting.push_back({control_, POLLIN, 0});
    for (const auto& c : cables_) {
      waiting.push_back({c.bridge, POLLIN, 0});
      waiting.push_back({c.node, POLLIN, 0});
    }
    for (;;) {
      ::poll(waiting.data(), waiting.size(), patience());
      if (waiting[0].revents != 0) listen();
      for (std::size_t i = 0; i < cables_.size(); ++i) {
        if (waiting[1 + 2 * i].revents != 0) to_node(cables_[i]);
        if (waiting[2 + 2 * i].revents != 0) from_node(cables_[i]);
      }
      deliver();
    }
  }

 private:
  /// Milliseconds until the next frame is due; -1: none is on its way.
  int patience() const {
    auto next = clock_type::time_point::max();
    for (const auto& c : cables_)
      if (!c.late.empty()) next = std::min(next, c.late.front().due);
    if (next == clock_type::time_point::max()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - clock_type::now());
    return static_cast<int>(std::max<std::chrono::milliseconds::rep>(left.count(), 0));
  }

  void listen() {
    std::array<char, 256> text{};
    const auto size = ::read(control_, text.data(), text.size() - 1);
    if (size <= 0) return;
    int delay = 0;
    double percent = 0;
    if (std::sscanf(text.data(), "%d %lf", &delay, &percent) != 2 || delay < 0 || percent < 0 ||
        percent > 100) {
      std::fprintf(stderr, "lossy_link: not \"DELAY_MS LOSS_PERCENT\": %s\n", text.data());
      return;
    }
    now_ = {std::chrono::milliseconds{delay}, percent / 100};
    std::printf("delay %d ms, loss %g %%; so far %zu frames carried, %zu dropped\n", delay, percent, carried_,
                dropped_);
    std::fflush(stdout);
  }

  void to_node(const cable& c) {
    for (ssize_t size = 0; (size = ::read(c.bridge, buffer_.data(), buffer_.size())) > 0;) put(c.node, size);
  }

  void from_node(cable& c) {
    for (ssize_t size = 0; (size = ::read(c.node, buffer_.data(), buffer_.size())) > 0;) {
      if (chance_(random_) < now_.loss || c.late.size() >= queue_limit) {
        ++dropped_;
      } else if (now_.delay.count() == 0 && c.late.empty()) {
        put(c.bridge, size);
      } else {
        auto due = clock_type::now() + now_.delay;
        if (!c.late.empty()) due = std::max(due, c.late.back().due);
        c.late.push_back({due, {buffer_.data(), buffer_.data() + size}});
      }
    }
  }

  void deliver() {
    const auto time = clock_type::now();
    for (auto& c : cables_)
      for (; !c.late.empty() && c.late.front().due <= time; c.late.pop_front()) {
        std::memcpy(buffer_.data(), c.late.front().bytes.data(), c.late.front().bytes.size());
        put(c.bridge, static_cast<ssize_t>(c.late.front().bytes.size()));
      }
  }

  /// A device that is down loses the frame, as a pulled cable does.
  void put(int device, ssize_t size) {
    if (::write(device, buffer_.data(), static_cast<std::size_t>(size)) == size)
      ++carried_;
    else
      ++dropped_;
  }

  int control_ = -1;
  std::vector<cable> cables_;
  weather now_;
  std::mt19937 random_{1};
  std::uniform_real_distribution<double> chance_{0, 1};
  std::array<char, 65536> buffer_{};
  std::size_t carried_ = 0;
  std::size_t dropped_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const int nodes = argc == 3 ? std::atoi(argv[1]) : 0;
  if (nodes < 1) {
    std::fprintf(stderr, "usage: lossy_link NODES FIFO\n");
    return 2;
  }
  try {
    network{nodes, argv[2]}.run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "lossy_link: %s\n", e.what());
    return 1;
  }
}
