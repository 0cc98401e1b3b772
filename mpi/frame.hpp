#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "mpi/buffer_pool.hpp"

namespace fastserve::mpi {

/// Who a frame is for, within a rank.
enum class channel : std::uint16_t {
  control = 0,  ///< the pump itself
  actors = 1,
  tensors = 2,
  user = 3  ///< free for tests and probes
};
inline constexpr std::size_t channel_count = 4;

/// The epoch of frames that no change of epoch makes stale.
inline constexpr std::uint32_t any_epoch = std::numeric_limits<std::uint32_t>::max();

/// What every MPI message begins with. All ranks run the same build on the same kind of processor, so the
/// bytes are those of memory.
struct frame_header {
  static constexpr std::uint32_t magic_value = 0x56525346;  // "FSRV"
  static constexpr std::uint16_t current_version = 1;

  std::uint32_t magic = magic_value;
  std::uint16_t version = current_version;
  channel to = channel::control;
  std::uint32_t epoch = any_epoch;
  std::uint32_t kind = 0;  ///< the channel's own
  std::uint64_t payload_bytes = 0;
  std::uint64_t reserved = 0;  ///< keeps payloads aligned
};
static_assert(sizeof(frame_header) == 32);

/// One message between ranks: a header and a payload in one pooled buffer.
class frame {
 public:
  frame() = default;
  /// An outgoing frame with an uninitialised payload.
  frame(buffer_pool& pool, channel to, std::uint32_t kind, std::uint32_t epoch, std::size_t payload_bytes)
      : bytes_{pool.acquire(sizeof(frame_header) + payload_bytes)} {
    frame_header header;
    header.to = to;
    header.epoch = epoch;
    header.kind = kind;
    header.payload_bytes = payload_bytes;
    std::memcpy(bytes_.data(), &header, sizeof header);
  }
  /// What came from `peer`; check valid() first.
  frame(int peer, pooled_buffer bytes) : bytes_{std::move(bytes)}, peer_{peer} {}

  /// Whether the bytes are a frame of this protocol version, whole and for a known channel.
  bool valid() const {
    if (bytes_.size() < sizeof(frame_header)) return false;
    const auto h = header();
    return h.magic == frame_header::magic_value && h.version == frame_header::current_version &&
           static_cast<std::size_t>(h.to) < channel_count &&
           h.payload_bytes == bytes_.size() - sizeof(frame_header);
  }
  frame_header header() const {
    frame_header h;
    std::memcpy(&h, bytes_.data(), sizeof h);
    return h;
  }
  /// Where it came from, or where it goes to.
  int peer() const { return peer_; }
  void set_peer(int rank) { peer_ = rank; }
  std::span<std::byte> payload() const {
    return {bytes_.data() + sizeof(frame_header), bytes_.size() - sizeof(frame_header)};
  }
  /// The whole message.
  const pooled_buffer& bytes() const { return bytes_; }
  pooled_buffer& bytes() { return bytes_; }
  bool empty() const { return bytes_.empty(); }

 private:
  pooled_buffer bytes_;
  int peer_ = -1;
};

}  // namespace fastserve::mpi
