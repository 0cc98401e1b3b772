#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "compress/compressor.hpp"
#include "compress/folder_writer.hpp"
#include "compress/perplexity.hpp"
#include "kernels/cpu/topology.hpp"
#include "launch/compress_report.hpp"
#include "launch/output.hpp"
#include "launch/progress_bar.hpp"
#include "launch/run.hpp"
#include "model/json_object.hpp"
#include "model/model_folder.hpp"

namespace fastserve::launch {

namespace {

namespace fs = std::filesystem;
using sequences = std::vector<std::vector<std::int32_t>>;

constexpr std::size_t most_text_bytes = std::size_t{1} << 30;
constexpr std::int32_t sequence_tokens = 512;
constexpr std::int32_t calibration_sequences = 128;
constexpr std::int32_t judged_sequences = 64;

/// A line that fills, where someone looks.
class shown_progress {
 public:
  explicit shown_progress(const char* label) : label_{label}, shown_{isatty(STDERR_FILENO) == 1} {}
  void operator()(std::int64_t done, std::int64_t total) {
    if (!shown_) return;
    const auto now = std::chrono::steady_clock::now();
    if (!bar_) bar_.emplace(label_, static_cast<std::uint64_t>(total), 0, now);
    std::fputs(bar_->update(static_cast<std::uint64_t>(done), now).c_str(), stderr);
    if (done == total) std::fputs(bar_->finish().c_str(), stderr);
  }

 private:
  const char* label_;
  bool shown_;
  std::optional<progress_bar> bar_;
};

/// Texts as sequences. Calibration and judgement never share a token.
struct texts {
  sequences calibration, judged;
};

texts read_texts(const options& settings, const model::architecture& arch) {
  const auto& wish = settings.compress;
  texts out;
  if (wish.calibrate.empty() && wish.evaluate.empty()) return out;
  const auto tokenizer = model::open_tokenizer(settings.model);
  if (!tokenizer)
    throw std::runtime_error(settings.model + ": no tokenizer, expected one to read texts with");
  const auto bos = tokenizer->bos().value_or(-1);
  const bool begins = !tokenizer->encode("a", true).empty() && tokenizer->encode("a", true).front() == bos;
  const auto length = std::min(sequence_tokens, arch.max_positions);
  const auto read = [&](const std::string& file) {
    if (fs::is_directory(file)) throw std::runtime_error(file + ": is a folder, expected a file of text");
    return tokenizer->encode(model::read_text_file(file, most_text_bytes), false);
  };
  const auto cut = [&](std::span<const std::int32_t> tokens, std::int32_t most, const std::string& file) {
    auto all = compress::cut_sequences(tokens, length, most, begins ? bos : -1);
    if (all.empty() || all.front().size() < 2) throw std::runtime_error(file + ": too short a text");
    for (const auto& sequence : all)
      for (const auto id : sequence)
        if (id >= arch.vocab_size)
          throw std::runtime_error(file + ": token " + std::to_string(id) +
                                   " is beyond the model's vocabulary");
    return all;
  };
  if (!wish.evaluate.empty()) out.judged = cut(read(wish.evaluate), judged_sequences, wish.evaluate);
  if (wish.calibrate.empty()) return out;
  const auto tokens = read(wish.calibrate);
  // the last tenth judges unless there is a text for that
  const auto held_out = wish.evaluate.empty() ? tokens.size() / 10 : 0;
  const std::span all(tokens);
  out.calibration = cut(all.first(tokens.size() - held_out), calibration_sequences, wish.calibrate);
  if (held_out > 1) out.judged = cut(all.last(held_out), judged_sequences, wish.calibrate);
  return out;
}

std::optional<kernels::quantized_format> format_of(const compress_wishes& wish) {
  if (wish.format == "none") return {};
  kernels::quantized_format out;
  out.bits = wish.format == "int8" ? 8 : 4;
  out.group = wish.group < 0 ? (out.bits == 8 ? 128 : 32) : wish.group;
  // of 256 codes a zero point would save half of one bit at best
  out.zero = wish.symmetric || out.bits == 8 ? kernels::zero_kind::none : kernels::zero_kind::integer;
  out.scale = kernels::dtype::f16;
  return out;
}

/// Where the model is written until it is whole: beside `output`, in a folder that goes again unless it is
/// kept. What a killed run left there is dropped.
class draft_folder {
 public:
  explicit draft_folder(const fs::path& output) : output_{fs::weakly_canonical(output)} {
    if (!output_.has_filename()) output_ = output_.parent_path();
    std::error_code error;
    if (fs::exists(output_, error) && !(fs::is_directory(output_, error) && fs::is_empty(output_, error)))
      throw std::runtime_error(output.string() + ": exists, expected a new or empty folder");
    path_ = output_.string() + ".unfinished";
    fs::remove_all(path_, error);
    if (error) throw std::runtime_error(path_.string() + ": cannot be removed: " + error.message());
  }
  draft_folder(const draft_folder&) = delete;
  draft_folder& operator=(const draft_folder&) = delete;
  ~draft_folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  void keep() const {
    std::error_code error;
    fs::rename(path_, output_, error);
    // Nothing takes the place of a folder that something is mounted on.
    if (error) fs::copy(path_, output_, fs::copy_options::recursive);
  }

 private:
  fs::path output_, path_;
};

}  // namespace

int run_compress(const options& settings) {
  const auto& wish = settings.compress;
  model::model_folder from(settings.model);
  const auto backend = kernels::make_cpu_backend(settings.engine.threads > 0 ? settings.engine.threads
                                                                             : kernels::cpu::granted_cpus());
  compress::compress_options how;
  how.format = format_of(wish);
  how.prune = compress::parse_pruning(wish.prune);
  if (!how.format && !how.prune.any())
    throw std::runtime_error("--format none leaves nothing to do without --prune");
  const draft_folder draft{wish.output};
  const auto text = read_texts(settings, from.arch());
  how.calibration = text.calibration;

  compress_report report;
  report.before = from.describe();
  compress::folder_writer writer(draft.path(), settings.model, from.arch(), how, from.weights());
  report.matrices = compress::compress_model(from.arch(), from.weights(), how, *backend, writer,
                                             shown_progress("compressing weights"));
  writer.finish();
  model::model_folder result(draft.path());
  report.after = result.describe();
  report.format = how.format ? kernels::to_string(*how.format) : "numbers";
  report.pruned = how.prune.any() ? compress::to_string(how.prune) : "";
  report.calibrated = !how.calibration.empty();
  report.kv = settings.kv_cache.kv_dtype.value_or(report.kv);
  if (!text.judged.empty())
    report.score =
        compress::compare_on_text({from.arch(), from.weights()}, {result.arch(), result.weights(), report.kv},
                                  text.judged, *backend, shown_progress("judging"));
  const auto table = format_report(report);
  write_file(draft.path() / "compress_report.txt", table);
  write_file(draft.path() / "compress_report.svg", draw_report(report));
  draft.keep();
  std::fputs(table.c_str(), stdout);
  return 0;
}

}  // namespace fastserve::launch
