#include "mpi/mpi_tensor_channel.hpp"

#include <cstring>
#include <utility>

namespace fastserve::mpi {
namespace {

/// Stands before the elements in a frame of the tensors' channel; the epoch is in the frame's own header.
struct tensor_envelope {
  std::uint64_t step = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::uint64_t type = 0;
};
static_assert(sizeof(tensor_envelope) == 32);

constexpr std::uint64_t dtypes = static_cast<std::uint64_t>(kernels::dtype::i32) + 1;

/// Whether rows * cols elements are `bytes` bytes, with no overflow on the way.
bool adds_up(const tensor_envelope& e, std::size_t bytes) {
  if (e.type >= dtypes || e.rows < 0 || e.cols < 0) return false;
  std::uint64_t elements = 0;
  std::uint64_t wanted = 0;
  return !__builtin_mul_overflow(static_cast<std::uint64_t>(e.rows), static_cast<std::uint64_t>(e.cols),
                                 &elements) &&
         !__builtin_mul_overflow(elements, kernels::size_of(static_cast<kernels::dtype>(e.type)), &wanted) &&
         wanted == bytes;
}

}  // namespace

mpi_tensor_channel::mpi_tensor_channel(message_pump& pump) : pump_{pump} {
  pump.set_handler(channel::tensors, [this](frame&& what) { on_frame(std::move(what)); });
}

void mpi_tensor_channel::send(int peer, tensor_key key, kernels::tensor_view what, kernels::backend& by,
                              kernels::stream& on) {
  require_contiguous(what, "tensor_channel::send");
  if (box_.ended(key.epoch)) return;
  tensor_envelope envelope;
  envelope.step = key.step;
  envelope.rows = what.rows;
  envelope.cols = what.cols;
  envelope.type = static_cast<std::uint64_t>(what.type);
  auto out = pump_.make_frame(channel::tensors, 0, key.epoch, sizeof envelope + what.bytes());
  auto* payload = out.payload().data();
  std::memcpy(payload, &envelope, sizeof envelope);
  if (what.bytes() != 0) std::memcpy(payload + sizeof envelope, by.host_read(what, on), what.bytes());
  pump_.push(peer, std::move(out));
}

bool mpi_tensor_channel::receive(int peer, tensor_key key, kernels::tensor_view out, kernels::backend& by,
                                 kernels::stream& on, std::chrono::nanoseconds deadline) {
  require_contiguous(out, "tensor_channel::receive");
  auto parcel = box_.take(peer, key, deadline);
  if (!parcel) return false;
  unpack(*parcel, out, by, on);
  return true;
}

void mpi_tensor_channel::on_frame(frame&& what) {
  const auto payload = what.payload();
  tensor_envelope envelope;
  if (payload.size() < sizeof envelope) {
    ++malformed_;
    return;
  }
  std::memcpy(&envelope, payload.data(), sizeof envelope);
  if (!adds_up(envelope, payload.size() - sizeof envelope)) {
    ++malformed_;
    return;
  }
  tensor_parcel parcel;
  parcel.peer = what.peer();
  parcel.key = {what.header().epoch, envelope.step};
  parcel.type = static_cast<kernels::dtype>(envelope.type);
  parcel.rows = envelope.rows;
  parcel.cols = envelope.cols;
  parcel.bytes = std::move(what.bytes());
  parcel.offset = sizeof(frame_header) + sizeof envelope;
  box_.put(std::move(parcel));
}

}  // namespace fastserve::mpi
