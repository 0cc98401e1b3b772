#pragma once

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/team.hpp"
#include "kernels/parts.hpp"

namespace fastserve::kernels::cpu {

/// A part of a product: panels [panel_first, panel_last) of one section of the weights by one block of tiles.
struct product_job {
  std::size_t section;
  std::int64_t panel_first, panel_last;
  std::int64_t tile_block;
};

/// How a section's panels may be cut.
struct section_cut {
  std::int64_t panels;
  std::int64_t longest;   ///< most panels of a job; a multiple of shortest
  std::int64_t shortest;  ///< jobs are multiples of it, but for the section's end
};

/// The jobs of a product, dealt to a team: each thread has a run of neighbouring panels, so that it reads
/// memory in one stream, and takes it in long jobs first and in ever shorter ones towards its end; who has
/// done his own helps the others. So all end together, and a core that something else needs too costs its
/// share and no more.
class job_deal {
 public:
  explicit job_deal(int threads) : runs_(static_cast<std::size_t>(std::max(threads, 1))) {}

  /// Before the team starts. The jobs are all panels of all sections, by all tile blocks.
  void begin(std::span<const section_cut> sections, std::int64_t tile_blocks, int threads) {
    threads_ = threads;
    jobs_.clear();
    for (int t = 0; t < threads; ++t) {
      auto& run = runs_[static_cast<std::size_t>(t)];
      run.next.store(static_cast<std::int64_t>(jobs_.size()), std::memory_order_relaxed);
      std::int64_t left = 0;
      for (const auto& s : sections) {
        assert(s.shortest > 0 && s.longest >= s.shortest);
        left += last(s, t) - first(s, t);
      }
      for (std::size_t i = 0; i < sections.size(); ++i) {
        const auto& s = sections[i];
        const std::int64_t end = last(s, t);
        for (std::int64_t from = first(s, t), panels = 0; from < end; from += panels, left -= panels) {
          // Half of the rest, or a quarter of it by all tile blocks.
          const std::int64_t some = left * std::max<std::int64_t>(tile_blocks, 2) / 4;
          panels = std::min(end - from, std::clamp(some / s.shortest * s.shortest, s.shortest, s.longest));
          for (std::int64_t b = 0; b < tile_blocks; ++b) jobs_.push_back({i, from, from + panels, b});
        }
      }
      run.end = static_cast<std::int64_t>(jobs_.size());
    }
  }

  /// The next job of `thread`; null when all are taken.
  const product_job* take(int thread) {
    for (int i = 0; i < threads_; ++i) {
      auto& run = runs_[static_cast<std::size_t>((thread + i) % threads_)];
      if (run.next.load(std::memory_order_relaxed) >= run.end) continue;
      const std::int64_t job = run.next.fetch_add(1, std::memory_order_relaxed);
      if (job < run.end) return &jobs_[static_cast<std::size_t>(job)];
    }
    return nullptr;
  }

 private:
  struct alignas(64) run {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };

  std::int64_t first(const section_cut& s, int thread) const {
    return share(parts(s.panels, s.shortest), thread, threads_).first * s.shortest;
  }
  std::int64_t last(const section_cut& s, int thread) const {
    return std::min(share(parts(s.panels, s.shortest), thread, threads_).last * s.shortest, s.panels);
  }

  std::vector<product_job> jobs_;  // run by run
  std::vector<run> runs_;
  int threads_ = 1;
};

}  // namespace fastserve::kernels::cpu
