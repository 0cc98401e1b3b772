// How fast a model comes into memory, against a plain read of the same bytes: bench_loading MODEL [threads
// [rounds]]. Cold: the files are dropped from the system's cache before each run. The packed cache lies in a
// temporary folder, whose file system should be the model's for a comparison.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <thread>

#include "../support/temporary_folder.hpp"
#include "kernels/cpu/waiting.hpp"
#include "model/model_folder.hpp"
#include "model/pack_cache.hpp"
#include "model/stage.hpp"

namespace {

using namespace fastserve;
namespace fs = std::filesystem;
using clock_type = std::chrono::steady_clock;

constexpr std::size_t piece = std::size_t{4} << 20;

double seconds_since(clock_type::time_point start) {
  return std::chrono::duration<double>(clock_type::now() - start).count();
}

/// Out of the system's cache.
void drop(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY);
  if (fd < 0) return;
  ::fsync(fd);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

/// All bytes of the files with pread on some threads, into memory that is kept or into one piece that is used
/// again.
double plain_read(const std::vector<fs::path>& files, int threads, bool kept) {
  const auto start = clock_type::now();
  std::vector<kernels::buffer> memory;
  const auto on = kernels::make_cpu_backend(1);
  for (const auto& file : files) {
    const int fd = ::open(file.c_str(), O_RDONLY);
    const auto size = static_cast<std::size_t>(fs::file_size(file));
    if (kept) memory.push_back(on->allocate(size));
    std::atomic<std::size_t> next{0};
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t)
      all.emplace_back([&] {
        std::vector<char> own(kept ? 0 : piece);
        for (std::size_t at; (at = next.fetch_add(piece)) < size;) {
          auto* to = kept ? static_cast<char*>(memory.back().data()) + at : own.data();
          for (std::size_t done = 0, count = std::min(piece, size - at); done < count;) {
            const auto got = ::pread(fd, to + done, count - done, static_cast<off_t>(at + done));
            if (got <= 0) std::abort();
            done += static_cast<std::size_t>(got);
          }
        }
      });
    for (auto& thread : all) thread.join();
    ::close(fd);
  }
  return seconds_since(start);
}

struct way {
  std::string name;
  std::optional<kernels::quantized_format> rounded;
  bool cached;
};

}  // namespace

int main(int argc, char** argv) {
  kernels::cpu::bound_idle_spinning(argv);
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL [threads [rounds]]\n", argv[0]);
    return 2;
  }
  const fs::path model = argv[1];
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  const auto files = model::open_weights(model)->files();
  std::size_t bytes = 0;
  for (const auto& file : files) bytes += static_cast<std::size_t>(fs::file_size(file));
  const temporary_folder packed;
  const std::vector<way> ways{{"stored type", {}, false},
                              {"int8", kernels::quantized_format{8, 128}, false},
                              {"int4", kernels::quantized_format{4, 32}, false},
                              {"stored type, packed before", {}, true},
                              {"int8, packed before", kernels::quantized_format{8, 128}, true},
                              {"int4, packed before", kernels::quantized_format{4, 32}, true}};
  std::map<std::string, std::vector<double>> times;
  std::map<std::string, std::size_t> read;
  const auto load = [&](const way& how, const char* when) {
    const auto backend = kernels::make_cpu_backend(threads);
    const auto start = clock_type::now();
    model::model_folder folder(model);
    std::unique_ptr<model::pack_cache> cache;
    if (how.cached) cache = std::make_unique<model::pack_cache>(packed.path(), nullptr);
    model::stage stage(folder.arch(), folder.weights(),
                       {model::whole_range(folder.arch()), folder.arch().stored_type, 1, 1, how.rounded},
                       *backend, {}, nullptr, cache.get());
    const auto name = std::string(when) + how.name;
    times[name].push_back(seconds_since(start));
    read[name] = stage.weights().read_bytes();
    if (cache) cache->flush();
  };
  for (const auto& how : ways)
    if (how.cached) load(how, "first, writing the cache: ");
  for (int r = 0; r < rounds; ++r)
    for (const bool cold : {true, false}) {
      const std::string when = cold ? "cold: " : "warm: ";
      const auto before = [&] {
        if (!cold) return;
        for (const auto& file : files) drop(file);
        for (const auto& entry : fs::directory_iterator(packed.path())) drop(entry.path());
      };
      for (const bool kept : {true, false}) {
        before();
        const auto name = when + (kept ? "plain read, kept" : "plain read, into one buffer");
        times[name].push_back(plain_read(files, threads, kept));
        read[name] = bytes;
      }
      for (const auto& how : ways) {
        before();
        load(how, when.c_str());
      }
    }
  std::printf("%s, %.2f GB, %d threads, medians of %d\n", model.c_str(), static_cast<double>(bytes) / 1e9,
              threads, rounds);
  for (auto& [name, all] : times) {
    std::sort(all.begin(), all.end());
    const auto seconds = all[all.size() / 2];
    std::printf("%-50s %7.3f s  %6.2f GB read  %6.2f GB/s\n", name.c_str(), seconds,
                static_cast<double>(read[name]) / 1e9, static_cast<double>(read[name]) / seconds / 1e9);
  }
  return 0;
}
