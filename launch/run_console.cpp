#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <mutex>
#include <string_view>

#include "launch/answer_order.hpp"
#include "launch/console_session.hpp"
#include "launch/engine.hpp"
#include "launch/json_line.hpp"
#include "launch/prompt_request.hpp"
#include "launch/run.hpp"
#include "launch/startup.hpp"
#include "launch/terminal_probe.hpp"

namespace fastserve::launch {

namespace {

// Prompts of a script that are open at once: enough to fill the engine, few enough to keep in memory.
constexpr std::size_t most_open_prompts = 1024;

// Longest prompt line taken from stdin.
constexpr std::size_t most_line_bytes = std::size_t{64} << 20;

// What some editors begin a UTF-8 file with.
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

answer_record record_of(const full_answer& a, const model::tokenizer* tokens) {
  answer_record out;
  out.index = static_cast<std::int64_t>(a.request) - 1;
  out.text = a.text;
  out.finish_reason = a.done.finish_reason;
  out.error = a.done.error;
  out.prompt_tokens = a.done.prompt_tokens;
  out.queue_ms = static_cast<double>(a.done.queue_ns) / 1e6;
  out.ttft_ms = static_cast<double>(a.done.first_token_ns) / 1e6;
  out.total_ms = static_cast<double>(a.done.total_ns) / 1e6;
  bool alternatives = false;
  for (const auto& t : a.tokens) {
    out.token_ids.push_back(t.token);
    if (tokens != nullptr) out.token_texts.push_back(tokens->piece(t.token));
    alternatives = alternatives || !t.top.empty();
  }
  if (alternatives) out.logprobs = a.tokens;
  return out;
}

// Prompts in, answers out in the same order: for scripts and for --prompt.
class script final : public actors::answer_sink {
 public:
  script(engine& e, const options& settings)
      : engine_{e},
        settings_{settings},
        order_{
            {[this](const std::string& text) { show(text); }, [this](const full_answer& a) { finish(a); }}} {
    front_end_ = engine_.spawn_front_end(*this);
    engine_.set_failure_handler([this](const std::string&) { ended_ = failed_ = true; });
  }

  ~script() override { engine_.close_front_ends(); }

  void submit(const prompt& what) {
    actors::submit request;
    try {
      request = make_request(next_id_, what, settings_, engine_.architecture(), engine_.tokenizer());
    } catch (const std::exception& e) {
      wait_until_open_below(1);  // keep what is said in the order of the prompts
      std::fprintf(stderr, "fastserve: prompt %llu: %s\n", static_cast<unsigned long long>(next_id_),
                   e.what());
      ++next_id_;
      failed_ = true;
      return;
    }
    ++next_id_;
    wait_until_open_below(most_open_prompts);
    {
      const std::lock_guard lock{mutex_};
      order_.expect(request.request);
    }
    front_end_->send(std::move(request));
  }

  /// No prompt is answered any more.
  bool ended() const { return ended_; }

  /// Waits for all answers; true when none failed.
  bool finish() {
    wait_until_open_below(1);
    std::fflush(stdout);
    return !failed_ && std::ferror(stdout) == 0;
  }

  void on_token(const actors::answer_token& token) override {
    const std::lock_guard lock{mutex_};
    order_.on_token(token);
  }
  void on_done(const actors::answer_done& done) override {
    const std::lock_guard lock{mutex_};
    order_.on_done(done);
    changed_.notify_all();
  }

 private:
  void wait_until_open_below(std::size_t count) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return order_.open() < count; });
  }
  void show(const std::string& text) {
    if (settings_.console.json) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  void finish(const full_answer& a) {
    if (!a.done.error.empty()) {
      failed_ = true;
      std::fprintf(stderr, "fastserve: prompt %llu: %s\n", static_cast<unsigned long long>(a.request),
                   a.done.error.c_str());
    }
    const auto line =
        settings_.console.json ? format_answer(record_of(a, engine_.tokenizer())) : std::string{};
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  }

  engine& engine_;
  const options& settings_;
  std::shared_ptr<actors::front_end> front_end_;
  std::mutex mutex_;
  std::condition_variable changed_;
  answer_order order_;
  std::uint64_t next_id_ = 1;
  std::atomic<bool> failed_{false};
  std::atomic<bool> ended_{false};
};

bool run_script(engine& e, const options& settings) {
  script s{e, settings};
  if (!settings.console.prompts.empty()) {
    for (const auto& p : settings.console.prompts) s.submit(p);
    return s.finish();
  }
  std::string line;
  bool whole = true;
  bool first = true;
  while (!s.ended() && std::ferror(stdout) == 0 && std::getline(std::cin, line)) {
    if (line.size() > most_line_bytes) {
      std::fprintf(stderr, "fastserve: a prompt on stdin is longer than %zu bytes\n", most_line_bytes);
      whole = false;
      continue;
    }
    if (first && line.starts_with(byte_order_mark)) line.erase(0, byte_order_mark.size());
    first = false;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) s.submit(line);
  }
  // The end of the file and a failure look alike to std::cin; a folder, for one, cannot be read.
  if (std::ferror(stdin) != 0) {
    char byte = 0;
    const bool known = ::read(STDIN_FILENO, &byte, 1) < 0;
    std::fprintf(stderr, "fastserve: stdin: cannot be read%s%s\n", known ? ": " : "",
                 known ? std::strerror(errno) : "");
    whole = false;
  }
  return s.finish() && whole;
}

}  // namespace

int run_console(mpi::environment& env, const options& settings) {
  return run_with_engine(env, settings, [&](engine& e) {
    const auto facts = find_terminal();
    const bool talk = settings.console.prompts.empty() && !settings.console.json &&
                      facts.mode != terminal_facts::style::script;
    return (talk ? run_session(e, settings, facts) : run_script(e, settings)) ? 0 : 1;
  });
}

}  // namespace fastserve::launch
