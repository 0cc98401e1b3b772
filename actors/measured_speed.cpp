#include "actors/measured_speed.hpp"

#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <system_error>

#include "actors/median.hpp"
#include "kernels/quantized.hpp"

namespace fastserve::actors {

namespace {

namespace fs = std::filesystem;
using kernels::dtype;
using planner::arithmetic;

constexpr std::int64_t width = 2048;      // of the matrix: a layer's, of a small model
constexpr std::int64_t many_rows = 64;    // of the smallest chunk of a prompt
constexpr double streamed_least = 128e6;  // several times a last-level cache's share
constexpr double budget_s = 0.12;
constexpr double step_s = 60e-6;  // messages, scheduling and drawing of a step, docs/performance.md "Actors"
constexpr const char* form = "fastserve-speed-3";  // of the cache's lines

// The median of several rounds, in seconds. A plan is for hours, in which a shared machine is not at its
// best.
template <class Work>
double median_of(Work work) {
  using clock = std::chrono::steady_clock;
  const auto since = [](clock::time_point t) {
    return std::chrono::duration<double>(clock::now() - t).count();
  };
  work();  // to wake the threads
  std::vector<double> rounds;
  for (const auto start = clock::now(); rounds.size() < 3 || since(start) < budget_s;) {
    const auto round = clock::now();
    work();
    rounds.push_back(since(round));
  }
  return std::max(median(std::move(rounds)), 1e-9);
}

// Attention runs in f32, whatever the products are.
std::vector<arithmetic> measured(std::vector<arithmetic> kinds) {
  if (std::find(kinds.begin(), kinds.end(), arithmetic::f32) == kinds.end()) kinds.push_back(arithmetic::f32);
  return kinds;
}

// Besides the products: elements, a tiny operation, bytes.
constexpr std::size_t other_phases = 3;

class bench {
 public:
  explicit bench(kernels::backend& on) : on_{on}, stream_{on.make_stream()} {
    // Small numbers that are neither zero nor denormal; the times do not depend on them.
    values_.resize(static_cast<std::size_t>(width * width));
    for (std::size_t i = 0; i < values_.size(); ++i)
      values_[i] = 0.01F * static_cast<float>(static_cast<int>(i * 2654435761U % 17) - 8);
    in_ = on.allocate(static_cast<std::size_t>(many_rows * width * 2) * sizeof(float));
    out_ = on.allocate(static_cast<std::size_t>(many_rows * width * 2) * sizeof(float));
    on.upload(in_.view(dtype::f32, many_rows, 2 * width), values_.data(), *stream_);
  }

  std::unique_ptr<kernels::weight> pack(arithmetic a, std::int64_t rows, std::int64_t cols) {
    const kernels::host_matrix m{values_.data(), dtype::f32, rows, cols};
    switch (a) {
      case arithmetic::int8:
        return on_.quantize({&m, 1}, {8, 128, kernels::zero_kind::none, dtype::f16});
      case arithmetic::int4:
        return on_.quantize({&m, 1}, {4, 32, kernels::zero_kind::none, dtype::f16});
      case arithmetic::f16:
        return on_.pack({&m, 1}, dtype::f16);
      case arithmetic::bf16:
        return on_.pack({&m, 1}, dtype::bf16);
      case arithmetic::f32:
        break;
    }
    return on_.pack({&m, 1}, dtype::f32);
  }
  void multiply(const kernels::weight& by, std::int64_t rows) {
    on_.linear(out_.view(dtype::f32, rows, by.rows()), in_.view(by.input_type(), rows, by.cols()), by, {},
               false, *stream_);
    stream_->synchronize();
  }
  void activate() {
    on_.activate(out_.view(dtype::f32, many_rows / 2, width), in_.view(dtype::f32, many_rows / 2, 2 * width),
                 kernels::activation::silu, true, *stream_);
    stream_->synchronize();
  }
  /// The inputs hold numbers of this type.
  void prepare(dtype type) {
    // Through the back end itself, which alone knows how inputs of integer products lie.
    std::vector<float> ones(static_cast<std::size_t>(width), 1.0F);
    auto gain = on_.allocate(ones.size() * sizeof(float));
    on_.upload(gain.view(dtype::f32, 1, width), ones.data(), *stream_);
    auto from = on_.allocate(static_cast<std::size_t>(many_rows * width) * sizeof(float));
    on_.upload(from.view(dtype::f32, many_rows, width), values_.data(), *stream_);
    kernels::norm_weights by;
    by.gain = gain.view(dtype::f32, 1, width);
    on_.norm(in_.view(type, many_rows, width), from.view(dtype::f32, many_rows, width), by, *stream_);
  }

 private:
  kernels::backend& on_;
  std::unique_ptr<kernels::stream> stream_;
  std::vector<float> values_;
  kernels::buffer in_, out_;
};

std::string processor() {
  std::ifstream in{"/proc/cpuinfo"};
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  return "unknown";
}

}  // namespace

struct speed_bench::parts {
  explicit parts(kernels::backend& on) : b{on} {}
  bench b;
  std::vector<std::unique_ptr<kernels::weight>> streamed;
  double streamed_bytes = 0;

  // One matrix after the other, as layers come: of many, the weights are in no cache.
  double ops(const std::vector<std::unique_ptr<kernels::weight>>& by) {
    b.prepare(by.front()->input_type());
    std::size_t next = 0;
    return 2.0 * width * width * many_rows /
           median_of([&] { b.multiply(*by[next++ % by.size()], many_rows); });
  }
  // Weights as they are read in a step of one row: more of them than any cache holds.
  double bytes(double operation_s) {
    b.prepare(streamed.front()->input_type());
    const auto took = median_of([&] {
      for (const auto& m : streamed) b.multiply(*m, 1);
    });
    return streamed_bytes / std::max(took - operation_s * static_cast<double>(streamed.size()), took / 2);
  }
};

speed_bench::speed_bench(kernels::backend& on, std::vector<arithmetic> kinds)
    : kinds_{measured(std::move(kinds))}, parts_{std::make_unique<parts>(on)} {
  auto& p = *parts_;
  while (p.streamed_bytes < streamed_least) {
    p.streamed.push_back(p.b.pack(kinds_.front(), width, width));
    p.streamed_bytes += static_cast<double>(p.streamed.back()->bytes());
  }
}

speed_bench::~speed_bench() = default;

std::size_t speed_bench::phases(const std::vector<arithmetic>& kinds) {
  return other_phases + measured(kinds).size();
}

void speed_bench::measure_together(const std::function<void()>& meet) {
  auto& p = *parts_;
  const auto tiny = p.b.pack(arithmetic::f32, 16, 64);
  std::vector<std::vector<std::unique_ptr<kernels::weight>>> single(kinds_.size());
  for (std::size_t i = 1; i < kinds_.size(); ++i) single[i].push_back(p.b.pack(kinds_[i], width, width));
  speed_.ops_per_s.assign(planner::arithmetics, 0);

  meet();
  speed_.elements_per_s = static_cast<double>(many_rows / 2 * width) / median_of([&] { p.b.activate(); });
  meet();
  p.b.prepare(tiny->input_type());
  speed_.operation_s = median_of([&] {
                         for (int i = 0; i < 100; ++i) p.b.multiply(*tiny, 1);
                       }) /
                       100;
  meet();
  speed_.bytes_per_s = p.bytes(speed_.operation_s);
  for (std::size_t i = 0; i < kinds_.size(); ++i) {
    meet();
    speed_.ops_per_s[static_cast<std::size_t>(kinds_[i])] = p.ops(i == 0 ? p.streamed : single[i]);
  }
}

void speed_bench::measure_alone() {
  auto& p = *parts_;
  // Not slower than in company, whatever the clock says.
  const auto together = speed_.ops_per_s[static_cast<std::size_t>(kinds_.front())];
  speed_.alone_ops = std::max(p.ops(p.streamed) / together, 1.0);
  speed_.alone_bytes = std::max(p.bytes(speed_.operation_s) / speed_.bytes_per_s, 1.0);
}

std::string speed_key(const kernels::backend& on, arithmetic kind, int local_ranks) {
  return processor() + "; " + on.info().name + "; " + std::string{planner::name_of(kind)} + "; " +
         std::to_string(local_ranks) + " ranks a host; " + FASTSERVE_VERSION;
}

speed_cache::speed_cache(fs::path folder) : folder_{std::move(folder)} {
  if (!folder_.empty()) return;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg == '/')
    folder_ = fs::path{xdg} / "fastserve";
  else if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    folder_ = fs::path{home} / ".cache" / "fastserve";
}

fs::path speed_cache::file_of(const std::string& key) const {
  // FNV-1a: a name that is the same on all hosts of a shared home.
  std::uint64_t hash = 14695981039346656037U;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  std::ostringstream name;
  name << "speed-" << std::hex << hash;
  return folder_ / name.str();
}

std::string text_of(const rank_speed& speed) {
  std::ostringstream out;
  out.precision(9);
  out << form;
  for (std::size_t i = 0; i < planner::arithmetics; ++i)
    out << ' ' << (i < speed.ops_per_s.size() ? speed.ops_per_s[i] : 0.0);
  out << ' ' << speed.bytes_per_s << ' ' << speed.elements_per_s << ' ' << speed.operation_s << ' '
      << speed.alone_ops << ' ' << speed.alone_bytes << " end";
  return out.str();
}

std::optional<rank_speed> speed_from(const std::string& text) {
  std::istringstream in{text};
  std::string name, end;
  rank_speed out;
  out.ops_per_s.resize(planner::arithmetics);
  in >> name;
  for (auto& r : out.ops_per_s) in >> r;
  in >> out.bytes_per_s >> out.elements_per_s >> out.operation_s >> out.alone_ops >> out.alone_bytes >> end;
  const auto sound = [](double v) { return std::isfinite(v) && v >= 0; };
  const bool whole =
      in && name == form && end == "end" && std::all_of(out.ops_per_s.begin(), out.ops_per_s.end(), sound) &&
      sound(out.bytes_per_s) && out.bytes_per_s > 0 && sound(out.elements_per_s) && sound(out.operation_s) &&
      sound(out.alone_ops) && out.alone_ops > 0 && sound(out.alone_bytes) && out.alone_bytes > 0;
  return whole ? std::optional{out} : std::nullopt;
}

std::optional<rank_speed> speed_cache::find(const std::string& key) const {
  if (folder_.empty()) return {};
  std::ifstream in{file_of(key)};
  std::string line, figures;
  if (!std::getline(in, line) || line != key || !std::getline(in, figures)) return {};
  return speed_from(figures);
}

void speed_cache::keep(const std::string& key, const rank_speed& speed) const {
  if (folder_.empty()) return;
  std::error_code ignored;
  fs::create_directories(folder_, ignored);
  const auto file = file_of(key);
  // Renamed into place: a reader sees a whole file, of whichever rank was last.
  auto fresh = file;
  fresh += "." + std::to_string(::getpid());
  {
    std::ofstream out{fresh};
    out << key << '\n' << text_of(speed) << '\n';
    if (!out.flush()) {
      fs::remove(fresh, ignored);
      return;
    }
  }
  fs::rename(fresh, file, ignored);
  if (ignored) fs::remove(fresh, ignored);
}

planner::rank_profile profile_of(const node_profile& node, const rank_speed& speed) {
  planner::rank_profile out;
  out.rank = node.rank;
  out.name = node.host;
  std::copy_n(speed.ops_per_s.begin(), std::min(speed.ops_per_s.size(), planner::arithmetics),
              out.ops_per_s.begin());
  out.bytes_per_s = speed.bytes_per_s;
  out.elements_per_s = speed.elements_per_s;
  out.operation_s = speed.operation_s;
  out.alone_ops = speed.alone_ops;
  out.alone_bytes = speed.alone_bytes;
  out.step_s = step_s;
  out.memory_bytes = static_cast<double>(node.memory_bytes);
  return out;
}

}  // namespace fastserve::actors
