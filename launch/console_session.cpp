#include "launch/console_session.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <iostream>
#include <limits>
#include <mutex>
#include <optional>

#include "launch/console_commands.hpp"
#include "launch/line_editor.hpp"
#include "launch/parse_value.hpp"
#include "launch/prompt_request.hpp"
#include "launch/status_line.hpp"
#include "launch/terminal.hpp"
#include "launch/units.hpp"
#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

// Messages too go to stdout here: both streams end at the same terminal, and a launcher in between does not
// keep the order of one against the other.
void write_all(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// As the editor shows a prompt, which may have several lines.
std::string shown_prompt(const std::string& text) {
  std::string out = "> ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "| ";
  }
  return harmless_text(out) + "\n";
}

// One person's conversation: one answer at a time, what is typed meanwhile waits its turn. The keyboard's
// thread and the answers' thread meet under one lock.
class session final : public actors::answer_sink {
 public:
  session(engine& e, const options& settings, line_editor* editor)
      : engine_{e}, settings_{settings}, editor_{editor} {
    front_end_ = engine_.spawn_front_end(*this);
    engine_.set_failure_handler([this](const std::string& why) {
      const std::lock_guard lock{mutex_};
      failure_ = why;
      changed_.notify_all();
    });
    status_line::divert([this](const std::string& lines) { interrupt_with(lines); });
  }
  ~session() override {
    status_line::divert(nullptr);
    engine_.close_front_ends();
  }

  void greet(const std::string& model) {
    const std::lock_guard lock{mutex_};
    say(model + " is ready. Type a prompt; /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.\n");
  }

  std::string drain(const std::string& key) {
    int rank = 0;
    try {
      rank = static_cast<int>(parse_integer(key, 0, std::numeric_limits<std::int32_t>::max()));
    } catch (const std::invalid_argument& e) {
      return std::string{"/drain RANK: "} + e.what() + "\n";
    }
    const auto refusal = engine_.drain(rank);
    return refusal.empty() ? "rank " + std::to_string(rank) + " is being emptied\n" : refusal + "\n";
  }

  /// A line from the keyboard. False when the user leaves.
  bool take_line(const std::string& line) {
    const auto input = parse_console_line(line);
    using kind = console_input::kind;
    if (input.what == kind::quit) return false;
    if (input.what == kind::stats) {
      const auto text = describe_stats();
      const std::lock_guard lock{mutex_};
      say(text);
      return true;
    }
    if (input.what == kind::drain) {
      const auto text = drain(input.key);
      const std::lock_guard lock{mutex_};
      say(text);
      return true;
    }
    const std::lock_guard lock{mutex_};
    switch (input.what) {
      case kind::prompt:
        waiting_.push_back(input.text);
        if (!open_) submit_next(false);
        return true;
      case kind::help:
        say(console_help());
        break;
      case kind::set:
        say(run_set(input, settings_));
        break;
      case kind::unknown:
        say(input.text + "\n");
        break;
      default:
        say({});
        break;
    }
    return true;
  }

  /// Ctrl-C: stops the answer, or begins a new line.
  void interrupt() {
    const std::lock_guard lock{mutex_};
    waiting_.clear();
    if (open_)
      front_end_->send(actors::cancel{*open_});
    else
      show_prompt();
  }

  /// Lets what was asked for come to its end.
  void drain() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return (!open_ && waiting_.empty()) || !failure_.empty(); });
  }

  /// Runs an edit of the line under the lock that answers are printed under.
  template <class Edit>
  auto edit(Edit&& f) {
    const std::lock_guard lock{mutex_};
    return f();
  }

  /// Why there can be no more answers, or none can be shown; empty while all is well.
  std::string failure() {
    const std::lock_guard lock{mutex_};
    return failure_;
  }
  bool ended() { return !failure().empty() || std::ferror(stdout) != 0; }

  void on_token(const actors::answer_token& token) override {
    const std::lock_guard lock{mutex_};
    if (open_ != token.request) return;
    const auto text = harmless_text(token.text);
    write_all(text);
    if (!text.empty()) in_line_ = text.back() != '\n';
  }

  void on_done(const actors::answer_done& done) override {
    const std::lock_guard lock{mutex_};
    if (open_ != done.request) return;
    write_all(harmless_text(done.text) + "\n");
    in_line_ = false;
    open_.reset();
    last_ = done;
    if (!done.error.empty()) write_all(done.error + "\n");
    if (done.finish_reason == "cancelled") write_all("(stopped)\n");
    if (!waiting_.empty())
      submit_next(true);
    else
      show_prompt();
    changed_.notify_all();
  }

 private:
  // `late`: the prompt was typed while another answer came, and does not stand above its own.
  void submit_next(bool late) {
    for (; !waiting_.empty(); late = true) {
      const auto text = std::move(waiting_.front());
      waiting_.pop_front();
      if (late) write_all(shown_prompt(text));
      try {
        auto request = make_request(++last_id_, text, settings_, engine_.architecture(), engine_.tokenizer());
        open_ = last_id_;
        front_end_->send(std::move(request));
        return;
      } catch (const std::exception& e) {
        write_all(std::string{e.what()} + "\n");
      }
    }
    show_prompt();
  }

  void say(const std::string& text) {
    write_all(text);
    if (!open_) show_prompt();
  }

  // What the engine reports meanwhile: above the line that is being typed, or in lines of its own within an
  // answer.
  void interrupt_with(const std::string& lines) {
    const std::lock_guard lock{mutex_};
    if (open_) {
      write_all((in_line_ ? "\n" : "") + lines);
      in_line_ = false;
    } else {
      write_all((editor_ != nullptr ? editor_->hide() : std::string{"\n"}) + lines);
      show_prompt();
    }
  }

  void show_prompt() {
    if (!failure_.empty()) return;
    write_all(editor_ != nullptr ? editor_->show() : "> ");
  }

  std::string describe_stats() {
    const auto s = engine_.stats();
    std::string out;
    if (last_) {
      const auto ms = [](std::int64_t ns) { return format_measure(static_cast<double>(ns) / 1e6); };
      const auto decode_s = static_cast<double>(last_->total_ns - last_->first_token_ns) / 1e9;
      const auto rate = last_->completion_tokens > 1 && decode_s > 0
                            ? format_measure((last_->completion_tokens - 1) / decode_s)
                            : std::string{"-"};
      out += "last answer: " + std::to_string(last_->prompt_tokens) + " prompt + " +
             std::to_string(last_->completion_tokens) + " answer tokens, first token after " +
             ms(last_->first_token_ns) + " ms, " + rate + " tokens/s, " + ms(last_->total_ns) +
             " ms in all (" + last_->finish_reason + ")\n";
    }
    out += "engine: " + format_count(static_cast<std::int64_t>(s.finished)) + " requests, " +
           format_count(static_cast<std::int64_t>(s.prompt_tokens)) + " prompt + " +
           format_count(static_cast<std::int64_t>(s.completion_tokens)) + " answer tokens in " +
           format_count(static_cast<std::int64_t>(s.steps)) + " steps; " +
           format_count(s.kv_tokens - s.kv_tokens_free) + " of " + format_count(s.kv_tokens) +
           " KV tokens in use\n";
    return out;
  }

  engine& engine_;
  options settings_;
  line_editor* editor_;
  std::shared_ptr<actors::front_end> front_end_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> waiting_;
  std::optional<std::uint64_t> open_;
  bool in_line_ = false;  // the answer's last line is not finished
  std::optional<actors::answer_done> last_;
  std::uint64_t last_id_ = 0;
  std::string failure_;
};

// The terminal edits; we see whole lines.
void read_lines(session& s) {
  std::string line;
  while (!s.ended() && std::getline(std::cin, line))
    if (!s.take_line(line)) return;
}

// We edit; we see keys. A launcher does not pass the signal of another size on, so the size is looked at.
void read_keys(session& s, line_editor& editor, const terminal& screen) {
  constexpr int look_ms = 200;
  const auto fit = [&] {
    const auto size = screen.measure();
    return editor.resize(size.columns, size.rows);
  };
  while (!s.ended()) {
    pollfd keys{STDIN_FILENO, POLLIN, 0};
    if (::poll(&keys, 1, look_ms) == 0) {
      s.edit([&] {
        if (fit() && editor.shown()) write_all(editor.show());
      });
      continue;
    }
    unsigned char byte = 0;
    const auto got = read(STDIN_FILENO, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    const auto replies = s.edit([&] {
      fit();
      auto r = editor.feed(byte);
      for (const auto& x : r) write_all(x.output);
      return r;
    });
    for (const auto& r : replies) {
      if (r.what == line_editor::event::end_of_input) return;
      if (r.what == line_editor::event::interrupt) s.interrupt();
      if (r.what == line_editor::event::line && !s.take_line(r.line)) return;
    }
  }
}

// Says why the session is over; true where it ended because the user left.
bool said_well(const std::string& failure) {
  if (!failure.empty()) std::fprintf(stderr, "fastserve: the session is over: %s\n", failure.c_str());
  return failure.empty();
}

}  // namespace

bool run_session(engine& e, const options& settings, const terminal_facts& facts) {
  if (facts.mode != terminal_facts::style::interactive) {
    session s{e, settings, nullptr};
    s.greet(settings.model);
    read_lines(s);
    s.drain();
    return said_well(s.failure());
  }
  prompt_history history;
  if (settings.console.history) history.open(prompt_history::default_path());
  line_editor editor{history};
  terminal screen{facts.input_device};
  screen.raw();
  const auto size = screen.measure();
  editor.resize(size.columns, size.rows);
  write_all(std::string{line_editor::paste_on});
  std::string failure;
  {
    session s{e, settings, &editor};
    s.greet(settings.model);
    read_keys(s, editor, screen);
    s.drain();
    failure = s.failure();
  }
  write_all(std::string{line_editor::paste_off});
  screen.restore();
  return said_well(failure);
}

}  // namespace fastserve::launch
