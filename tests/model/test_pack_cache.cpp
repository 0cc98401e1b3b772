// Packed weights kept between starts, and model files read ahead.
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <csignal>
#include <cstring>
#include <random>
#include <thread>

#include "../support/temporary_folder.hpp"
#include "model/content_hash.hpp"
#include "model/model_folder.hpp"
#include "model/pack_cache.hpp"
#include "model/random_source.hpp"
#include "model/read_ahead.hpp"
#include "pipeline.hpp"
#include "safetensors_writer.hpp"

namespace fastserve::model::test {
namespace {

namespace fs = std::filesystem;
using kernels::dtype;

architecture small(bool tied, const std::string& type = "llama") {
  return parse_architecture(R"({"model_type": ")" + type + R"(", "vocab_size": 200, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "torch_dtype": "bfloat16", "tie_word_embeddings": )" +
                                (tied ? "true}" : "false}"),
                            "config.json");
}

/// What a cache says.
struct notices {
  std::mutex mutex;
  std::vector<std::string> lines;
  std::function<void(const std::string&)> taker() {
    return [this](const std::string& line) {
      const std::lock_guard lock{mutex};
      lines.push_back(line);
    };
  }
};

std::vector<std::byte> noise(std::size_t count, unsigned seed) {
  std::mt19937 random{seed};
  std::vector<std::byte> out(count);
  for (auto& b : out) b = static_cast<std::byte>(random());
  return out;
}

/// A weight that is bytes and nothing else.
class bytes_weight final : public kernels::weight {
 public:
  explicit bytes_weight(std::vector<std::byte> bytes) : weight{1, 1, dtype::f32}, bytes_{std::move(bytes)} {}
  dtype input_type() const override { return dtype::f32; }
  std::size_t bytes() const override { return bytes_.size(); }
  std::span<const std::byte> storage() const override { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

std::size_t files_in(const fs::path& folder, std::string_view suffix) {
  std::size_t n = 0;
  for (const auto& entry : fs::directory_iterator(folder)) n += entry.path().extension() == suffix ? 1U : 0U;
  return n;
}

void overwrite(const fs::path& file, std::uint64_t at, char with) {
  std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
  f.seekp(static_cast<std::streamoff>(at));
  f.put(with);
}

struct loaded {
  std::vector<std::vector<float>> logits;
  std::uint64_t read, cached;
  std::shared_ptr<const kernels::weight> head, table;
};

/// The logits of four tokens by a model loaded with this cache.
loaded run(const architecture& arch, weight_source& source, pack_cache* cache,
           const std::optional<kernels::quantized_format>& rounded, dtype compute = dtype::bf16) {
  const auto cpu = kernels::make_cpu_backend(2);
  stage_options options{whole_range(arch), compute, 4, 4, rounded};
  stage s(arch, source, options, *cpu, {}, nullptr, cache);
  if (cache != nullptr) cache->flush();
  const auto stream = cpu->make_stream();
  const auto kv = cpu->make_kv_store(s.kv_shape(1, dtype::f32));
  kernels::step_layout layout;
  layout.token_ids = {1, 2, 3, 199};
  layout.positions = {0, 1, 2, 3};
  layout.sampled_rows = {0, 1, 2, 3};
  layout.sequences = {{0, 4, 0, {0}}};
  s.forward(layout, *kv, *stream);
  loaded out;
  const auto all = values_of(*cpu, *stream, s.logits(4));
  for (std::size_t r = 0; r < 4; ++r)
    out.logits.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(r * 200),
                            all.begin() + static_cast<std::ptrdiff_t>((r + 1) * 200));
  out.read = s.weights().read_bytes();
  out.cached = s.weights().cached_bytes();
  out.head = s.weights().head;
  out.table = s.weights().token_embedding;
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(hashes_are_those_of_xxh64) {
  BOOST_TEST(content_hash("") == 0xEF46DB3751D8E999U);
  BOOST_TEST(content_hash("a") == 0xD24EC4F1A98C6E5BU);
  BOOST_TEST(content_hash("abc") == 0x44BC2CF5AD770999U);
  BOOST_TEST(content_hash("Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1U);
  BOOST_TEST(hash_text(0xABC) == "0000000000000abc");
}

BOOST_AUTO_TEST_CASE(heads_say_what_was_written) {
  for (const std::size_t count :
       {std::size_t{0}, std::size_t{1}, std::size_t{5000}, pack_part_bytes, pack_part_bytes * 2 + 7}) {
    const auto payload = noise(count, 1);
    const auto head = write_pack_header("a key\nof two lines", payload);
    BOOST_TEST(head.size() % pack_alignment == 0U);
    const auto bytes = pack_head_bytes(std::span(head).first(pack_fixed_bytes), head.size() + count);
    const auto got = parse_pack_header(std::span(head).first(bytes), head.size() + count);
    BOOST_TEST(got.key == "a key\nof two lines");
    BOOST_TEST(got.payload_begin == head.size());
    BOOST_TEST(got.payload_bytes == count);
    BOOST_REQUIRE_EQUAL(got.hashes.size(), pack_parts(count));
    for (std::size_t i = 0; i < got.hashes.size(); ++i)
      BOOST_TEST(got.hashes[i] ==
                 content_hash(std::span(payload).subspan(
                     i * pack_part_bytes, std::min(pack_part_bytes, count - i * pack_part_bytes))));
  }
}

BOOST_AUTO_TEST_CASE(damaged_heads_are_refused) {
  const auto payload = noise(100, 2);
  const auto head = write_pack_header("key", payload);
  const auto file_bytes = head.size() + payload.size();
  const auto bytes = pack_head_bytes(std::span(head).first(pack_fixed_bytes), file_bytes);
  for (std::size_t i = 0; i < bytes * 8; ++i) {
    auto bad = std::vector(head.begin(), head.begin() + static_cast<std::ptrdiff_t>(bytes));
    bad[i / 8] ^= static_cast<std::byte>(1U << (i % 8));
    BOOST_CHECK_THROW(parse_pack_header(bad, file_bytes), std::runtime_error);
  }
  for (std::size_t n = 0; n < bytes; ++n)
    BOOST_CHECK_THROW(parse_pack_header(std::span(head).first(n), file_bytes), std::runtime_error);
  for (const auto size : {file_bytes - 1, file_bytes + 1, std::size_t{0}})
    BOOST_CHECK_THROW(parse_pack_header(std::span(head).first(bytes), size), std::runtime_error);
}

// The same bits from the cache as from the model's files, of which then only vectors and tables are read.
BOOST_AUTO_TEST_CASE(a_second_start_reads_packed_weights) {
  using kernels::quantized_format;
  const std::optional<quantized_format> forms[] = {{}, quantized_format{8, 128}, quantized_format{4, 32}};
  const temporary_folder model, cached;
  notices said;
  for (const bool tied : {false, true}) {
    const auto arch = small(tied);
    model.write("model.safetensors",
                safetensors_of(tensors_of(arch, whole_range(arch), "model."), dtype::bf16, 0));
    model.write("config.json", "{}");
    for (const auto& form : forms) {
      for (const auto compute : {dtype::bf16, dtype::f32}) {
        const auto weights = open_weights(model.path());
        const auto plain = run(arch, *weights, nullptr, form, compute);
        BOOST_TEST(plain.cached == 0U);
        BOOST_TEST((plain.head == plain.table) == (tied && form.has_value()));
        pack_cache cache(cached.path(), said.taker());
        const auto first = run(arch, *weights, &cache, form, compute);
        BOOST_TEST(first.logits == plain.logits);
        // another form's head, or integers that do not depend on the type of numbers, may be there already
        BOOST_TEST(first.read > 0U);
        pack_cache again(cached.path(), said.taker());
        const auto second = run(arch, *weights, &again, form, compute);
        BOOST_TEST(second.logits == plain.logits);
        BOOST_TEST(again.total().written_files == 0U);
        // four products a layer, the head, and a table of integers that is not the head
        const std::uint64_t matrices = 4 * 4 + 1 + (form && !tied ? 1U : 0U);
        BOOST_TEST(again.total().read_files == matrices);
        BOOST_TEST(second.cached == again.total().read_bytes);
        BOOST_TEST(second.cached > second.read / 2);
      }
    }
  }
  BOOST_TEST(said.lines.empty());
  BOOST_TEST(files_in(cached.path(), ".unfinished") == 0U);
}

BOOST_AUTO_TEST_CASE(a_changed_model_is_packed_anew) {
  const temporary_folder model, cached;
  const auto arch = small(false);
  auto bytes = safetensors_of(tensors_of(arch, whole_range(arch), "model."), dtype::bf16, 0);
  model.write("config.json", "{}");
  model.write("model.safetensors", bytes);
  const auto load = [&] {
    const auto weights = open_weights(model.path());
    pack_cache cache(cached.path(), {});
    const auto out = run(arch, *weights, &cache, {});
    BOOST_TEST(out.logits == run(arch, *weights, nullptr, {}).logits);
    return cache.total();
  };
  BOOST_TEST(load().read_files == 0U);
  BOOST_TEST(load().read_files == 17U);
  // the same file at another time
  fs::last_write_time(model / "model.safetensors", fs::file_time_type::clock::now() - std::chrono::hours{5});
  BOOST_TEST(load().read_files == 0U);
  // another tensor at the same time
  const auto time = fs::last_write_time(model / "model.safetensors");
  bytes[bytes.size() - 200 * 64 * 2] ^= 1;
  model.write("model.safetensors", bytes);
  fs::last_write_time(model / "model.safetensors", time);
  const auto after = load();
  BOOST_TEST(after.read_files < 17U);
  BOOST_TEST(after.read_files > 0U);
}

BOOST_AUTO_TEST_CASE(damage_is_found_and_mended) {
  const temporary_folder folder;
  const auto payload = noise(3 * pack_part_bytes + 11, 3);
  const auto what = std::make_shared<bytes_weight>(payload);
  const auto on = kernels::make_cpu_backend(2);
  const std::string key = "weight";
  const auto whole = [&] {
    pack_cache cache(folder.path(), {});
    cache.keep(key, what);
  };
  whole();
  const auto file = pack_cache(folder.path(), {}).file_of(key);
  const auto size = fs::file_size(file);
  const auto check = [&](const char* how, const std::function<void()>& damage) {
    BOOST_TEST_CONTEXT(how) {
      damage();
      notices said;
      pack_cache cache(folder.path(), said.taker());
      const auto found = cache.find(key);
      std::vector<std::byte> got(payload.size());
      BOOST_TEST((!found || !cache.read(*found, got, *on)));
      BOOST_TEST(cache.total().damaged_files == 1U);
      BOOST_REQUIRE_EQUAL(said.lines.size(), 1U);
      BOOST_TEST(said.lines[0].find(file.string()) != std::string::npos);
      BOOST_TEST(said.lines[0].find("packing anew") != std::string::npos);
      BOOST_TEST(said.lines[0].find('\n') == std::string::npos);
      cache.keep(key, what);
      cache.flush();
      const auto mended = cache.find(key);
      BOOST_REQUIRE(mended);
      BOOST_TEST(cache.read(*mended, got, *on));
      BOOST_TEST((got == payload));
      BOOST_TEST(said.lines.size() == 1U);
    }
  };
  check("a bit of the first part", [&] { overwrite(file, size - payload.size(), 'x'); });
  check("the last byte",
        [&] { overwrite(file, size - 1, static_cast<char>(~std::to_integer<int>(payload.back()))); });
  check("the key", [&] { overwrite(file, 33, '?'); });
  check("cut off", [&] { fs::resize_file(file, size - 1); });
  check("cut off in its head", [&] { fs::resize_file(file, 20); });
  check("empty", [&] { fs::resize_file(file, 0); });
  check("longer", [&] { fs::resize_file(file, size + 4096); });
  check("some other file", [&] { folder.write(file.filename().string(), std::string(9000, 'a')); });
  check("of another weight", [&] {
    {
      pack_cache cache(folder.path(), {});
      cache.keep("another", what);
    }
    fs::rename(pack_cache(folder.path(), {}).file_of("another"), file);
  });
  check("a named pipe", [&] {
    fs::remove(file);
    BOOST_REQUIRE_EQUAL(::mkfifo(file.c_str(), 0600), 0);
  });
  check("of another size", [&] {
    pack_cache cache(folder.path(), {});
    cache.keep(key, std::make_shared<bytes_weight>(noise(10, 1)));
  });
}

// Jobs start and end beside each other: whoever finds a file finds a whole one.
BOOST_AUTO_TEST_CASE(writers_do_not_tear_files) {
  const temporary_folder folder;
  notices said;
  std::vector<std::vector<std::byte>> payloads;
  for (unsigned i = 0; i < 4; ++i) payloads.push_back(noise(pack_part_bytes + i, i));
  std::atomic<bool> stop{false};
  std::atomic<int> read{0};
  std::vector<std::thread> jobs;
  for (int j = 0; j < 3; ++j)
    jobs.emplace_back([&] {
      for (int round = 0; round < 8; ++round) {
        pack_cache cache(folder.path(), said.taker());
        for (std::size_t i = 0; i < payloads.size(); ++i)
          cache.keep("weight " + std::to_string(i), std::make_shared<bytes_weight>(payloads[i]));
      }
    });
  jobs.emplace_back([&] {
    const auto on = kernels::make_cpu_backend(1);
    while (!stop)
      for (std::size_t i = 0; i < payloads.size(); ++i) {
        pack_cache cache(folder.path(), said.taker());
        const auto found = cache.find("weight " + std::to_string(i));
        if (!found) continue;
        std::vector<std::byte> got(payloads[i].size());
        if (cache.read(*found, got, *on) && got == payloads[i]) ++read;
      }
  });
  for (std::size_t i = 0; i < 3; ++i) jobs[i].join();
  stop = true;
  jobs[3].join();
  BOOST_TEST(said.lines.empty());
  BOOST_TEST(read > 0);
  BOOST_TEST(files_in(folder.path(), ".packed") == payloads.size());
  BOOST_TEST(files_in(folder.path(), ".unfinished") == 0U);
}

// A full disk, as far as a test can make one: files may not grow beyond a limit.
BOOST_AUTO_TEST_CASE(a_full_disk_is_a_warning) {
  const temporary_folder folder;
  notices said;
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  BOOST_REQUIRE_EQUAL(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 100'000;
  BOOST_REQUIRE_EQUAL(::setrlimit(RLIMIT_FSIZE, &low), 0);
  {
    pack_cache cache(folder.path(), said.taker());
    for (int i = 0; i < 5; ++i)
      cache.keep(std::to_string(i), std::make_shared<bytes_weight>(noise(200'000, 1)));
    cache.flush();
    cache.keep("later", std::make_shared<bytes_weight>(noise(10, 1)));
  }
  BOOST_REQUIRE_EQUAL(::setrlimit(RLIMIT_FSIZE, &before), 0);
  BOOST_REQUIRE_EQUAL(said.lines.size(), 1U);
  BOOST_TEST(said.lines[0].find("cannot be written") != std::string::npos);
  BOOST_TEST(said.lines[0].find("no more weights are kept") != std::string::npos);
  BOOST_TEST(fs::is_empty(folder.path()));
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_made_is_a_warning) {
  const temporary_folder folder;
  folder.write("file", "");
  notices said;
  pack_cache cache(folder / "file" / "below", said.taker());
  BOOST_TEST(said.lines.size() == 1U);
  cache.keep("key", std::make_shared<bytes_weight>(noise(10, 1)));
  BOOST_TEST(!cache.find("key"));
}

BOOST_AUTO_TEST_CASE(leftovers_of_killed_jobs_go) {
  const temporary_folder folder;
  folder.write("old.unfinished", "x");
  folder.write("new.unfinished", "x");
  folder.write("mine.txt", "x");
  fs::last_write_time(folder / "old.unfinished", fs::file_time_type::clock::now() - std::chrono::hours{2});
  fs::last_write_time(folder / "mine.txt", fs::file_time_type::clock::now() - std::chrono::hours{2});
  pack_cache cache(folder.path(), {});
  BOOST_TEST(!fs::exists(folder / "old.unfinished"));
  BOOST_TEST(fs::exists(folder / "new.unfinished"));
  BOOST_TEST(fs::exists(folder / "mine.txt"));
}

// Embeddings of integers: the same bits whether a rank shares them with its head or not.
BOOST_AUTO_TEST_CASE(a_table_of_integers_is_the_same_on_any_number_of_ranks) {
  for (const bool tied : {false, true}) {
    const auto arch = small(tied);
    random_source source(arch, dtype::bf16);
    const auto cpu = kernels::make_cpu_backend(1);
    std::vector<float> want;
    for (std::int32_t stages = 1; stages <= 3; ++stages) {
      const auto stream = cpu->make_stream();
      kernels::step_layout layout;
      layout.token_ids = {5, 6, 7};
      layout.positions = {0, 1, 2};
      layout.sampled_rows = {2};
      layout.sequences = {{0, 3, 0, {0}}};
      std::vector<std::byte> hidden;
      std::vector<float> got;
      for (const auto& range : even_ranges(arch, stages)) {
        stage s(arch, source, {range, dtype::bf16, 3, 3, kernels::quantized_format{4, 32}}, *cpu);
        const auto kv = cpu->make_kv_store(s.kv_shape(1, dtype::f32));
        if (!range.embeds) cpu->upload(s.hidden(3), hidden.data(), *stream);
        s.forward(layout, *kv, *stream);
        hidden.resize(s.hidden(3).bytes());
        cpu->download(hidden.data(), s.hidden(3), *stream);
        if (range.embeds) {
          BOOST_TEST(s.weights().token_embedding->format() == "int8, group 128, f16 scales");
        }
        if (range.heads) got = values_of(*cpu, *stream, s.logits(1));
      }
      if (want.empty()) want = got;
      BOOST_TEST(got == want);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_kept_table_becomes_the_head) {
  const auto arch = small(true);
  random_source source(arch, dtype::bf16);
  const auto cpu = kernels::make_cpu_backend(1);
  const stage_options rest{{2, 4, false, true}, dtype::bf16, 1, 1, kernels::quantized_format{}};
  const stage_options begin{{0, 2, true, false}, dtype::bf16, 1, 1, kernels::quantized_format{}};
  for (const auto& before : {begin, rest}) {
    stage one(arch, source, before, *cpu);
    const auto had = before.range.embeds ? one.weights().token_embedding : one.weights().head;
    const auto kept = one.take_weights();
    const stage all(arch, source, {whole_range(arch), dtype::bf16, 1, 1, kernels::quantized_format{}}, *cpu,
                    {}, &kept);
    BOOST_TEST(all.weights().head == had);
    BOOST_TEST(all.weights().token_embedding == had);
  }
}

BOOST_AUTO_TEST_CASE(parts_are_read_ahead_in_any_order) {
  const temporary_folder folder;
  const auto content = noise(3 * read_ahead::piece_bytes + 12345, 4);
  folder.write("file", {reinterpret_cast<const char*>(content.data()), content.size()});
  const mapped_file file(folder / "file");
  std::vector<file_part> parts;
  for (std::size_t at = 0; at < content.size(); at += 1'000'003)
    parts.push_back({&file, file.bytes().subspan(at, std::min<std::size_t>(1'000'003, content.size() - at))});
  for (const int threads : {1, 4}) {
    auto in_order = parts;
    in_order.push_back(parts[3]);  // twice
    read_ahead reading(in_order, threads, 1);
    BOOST_TEST(reading.bytes() == content.size());
    for (std::size_t i = parts.size(); i-- > 0;) reading.wait_for(parts[i]);
    reading.wait_for({&file, file.bytes().subspan(17, 5)});  // not asked for: comes at once
  }
  { read_ahead unused(parts); }
  { read_ahead none({}); }
}

// A file that became shorter is an error of one line where reading it would be SIGBUS.
BOOST_AUTO_TEST_CASE(a_file_cut_off_while_it_is_read_is_an_error) {
  const temporary_folder folder;
  folder.write("file", std::string(1 << 20, 'x'));
  const mapped_file file(folder / "file");
  fs::resize_file(folder / "file", 4096);
  const file_part part{&file, file.bytes()};
  if (mapped_file::fetch(file.bytes().first(1)) != 0) return;  // cannot happen
  read_ahead reading({part});
  BOOST_CHECK_EXCEPTION(reading.wait_for(part), std::runtime_error, [&](const std::runtime_error& e) {
    return std::string(e.what()).find("file: cannot be read at byte 0") != std::string::npos;
  });
}

}  // namespace fastserve::model::test
