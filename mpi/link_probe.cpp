#include "mpi/link_probe.hpp"

#include <algorithm>
#include <vector>

namespace fastserve::mpi {

namespace {

constexpr int small_rounds = 48;
constexpr int large_rounds = 8;
constexpr std::int64_t large_numbers = 1 << 18;  // 1 MiB of f32

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

}  // namespace

std::optional<link_figures> probe_link(tensor_channel& over, int self, int peer, std::uint32_t epoch,
                                       std::uint64_t first_step, kernels::backend& by,
                                       std::chrono::nanoseconds deadline) {
  using clock = std::chrono::steady_clock;
  const auto stream = by.make_stream();
  const auto room = by.allocate(static_cast<std::size_t>(large_numbers) * sizeof(float));
  const std::vector<float> zeros(static_cast<std::size_t>(large_numbers));
  by.upload(room.view(kernels::dtype::f32, 1, large_numbers), zeros.data(), *stream);
  auto step = first_step;
  // Times of whole rounds, without the first ones, which wake both ends.
  const auto play = [&](int rounds, std::int64_t numbers) -> std::optional<double> {
    const auto tensor = room.view(kernels::dtype::f32, 1, numbers);
    std::vector<double> times;
    for (int i = 0; i < rounds; ++i) {
      const tensor_key key{epoch, step++};
      const auto start = clock::now();
      if (self < peer) over.send(peer, key, tensor, by, *stream);
      if (!over.receive(peer, key, tensor, by, *stream, deadline)) return {};
      if (self > peer) over.send(peer, key, tensor, by, *stream);
      if (i >= rounds / 4) times.push_back(std::chrono::duration<double>(clock::now() - start).count());
    }
    return median(times);
  };
  const auto small = play(small_rounds, 1);
  const auto large = small ? play(large_rounds, large_numbers) : std::nullopt;
  if (!large) return {};
  const auto bytes = static_cast<double>(large_numbers) * sizeof(float);
  return link_figures{*small / 2, bytes / std::max((*large - *small) / 2, 1e-9)};
}

}  // namespace fastserve::mpi
