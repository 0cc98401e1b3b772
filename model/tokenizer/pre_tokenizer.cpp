#include "model/tokenizer/pre_tokenizer.hpp"

#include <algorithm>
#include <utility>

#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

void word_list::reset(std::string_view text, bool first) {
  words.clear();
  rewritten.clear();
  input_start = first ? text.data() : nullptr;
  if (!text.empty()) words.push_back(text);
}

namespace {

// Runs `cut(word, out)` over all words.
template <typename Cut>
void each_word(word_list& list, Cut cut) {
  list.scratch.swap(list.words);
  list.words.clear();
  for (const std::string_view word : list.scratch) cut(word, list.words);
  list.scratch.clear();
}

// Replaces a word by a new text.
std::string_view rewrite(word_list& list, std::string_view word, std::string text) {
  list.rewritten.push_back(std::move(text));
  const std::string_view fresh = list.rewritten.back();
  if (word.data() == list.input_start) list.input_start = fresh.data();
  return fresh;
}

struct piece {
  std::size_t start;
  std::size_t end;
  bool match;
};

// Cuts a word at its matches. A match joins a neighbour only if no match stands between them.
void cut_at_matches(std::string_view word, const std::vector<text_match>& matches, split_behavior behavior,
                    bool invert, std::vector<std::string_view>& out) {
  std::vector<piece> pieces;
  std::size_t done = 0;
  for (const text_match& match : matches) {
    if (done < match.start) pieces.push_back({done, match.start, invert});
    pieces.push_back({match.start, match.end, !invert});
    done = match.end;
  }
  if (done < word.size()) pieces.push_back({done, word.size(), invert});

  std::vector<piece> kept;
  bool before = false;  // whether the piece before was a match
  const auto join = [&](const piece& next, bool joins) {
    if (joins && !kept.empty()) {
      kept.back().start = std::min(kept.back().start, next.start);
      kept.back().end = std::max(kept.back().end, next.end);
    } else {
      kept.push_back(next);
    }
    before = next.match;
  };
  switch (behavior) {
    case split_behavior::removed:
      for (const piece& next : pieces) {
        if (!next.match) kept.push_back(next);
      }
      break;
    case split_behavior::isolated:
      kept = std::move(pieces);
      break;
    case split_behavior::contiguous:
      for (const piece& next : pieces) join(next, next.match == before);
      break;
    case split_behavior::merged_with_previous:
      for (const piece& next : pieces) join(next, next.match && !before);
      break;
    case split_behavior::merged_with_next:
      for (auto next = pieces.rbegin(); next != pieces.rend(); ++next) join(*next, next->match && !before);
      std::reverse(kept.begin(), kept.end());
      break;
  }
  for (const piece& next : kept) {
    if (next.start < next.end) out.push_back(word.substr(next.start, next.end - next.start));
  }
}

class pattern_split final : public pre_tokenizer {
 public:
  explicit pattern_split(known_pattern pattern) : pattern_(pattern) {}
  void split(word_list& list) const override {
    each_word(list, [&](std::string_view word, auto& out) { scan_pattern(pattern_, word, out); });
  }

 private:
  known_pattern pattern_;
};

class expression_split final : public pre_tokenizer {
 public:
  expression_split(split_pattern pattern, split_behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void split(word_list& list) const override {
    each_word(list, [&](std::string_view word, auto& out) {
      list.matches.clear();
      pattern_.find_all(word, list.matches);
      cut_at_matches(word, list.matches, behavior_, invert_, out);
    });
  }

 private:
  split_pattern pattern_;
  split_behavior behavior_;
  bool invert_;
};

class class_split final : public pre_tokenizer {
 public:
  class_split(unsigned bits, split_behavior behavior) : bits_(bits), behavior_(behavior) {}
  void split(word_list& list) const override {
    each_word(list, [&](std::string_view word, auto& out) {
      if (behavior_ == split_behavior::removed || behavior_ == split_behavior::isolated) {
        cut_single(word, out);
        return;
      }
      list.matches.clear();
      for (std::size_t at = 0; at < word.size();) {
        const utf8::character c = utf8::at(word, at);
        if ((unicode_class(c.code) & bits_) != 0) list.matches.push_back({at, at + c.size});
        at += c.size;
      }
      cut_at_matches(word, list.matches, behavior_, false, out);
    });
  }

 private:
  // The two common cases without the list of matches.
  void cut_single(std::string_view word, std::vector<std::string_view>& out) const {
    const std::uint16_t* ascii = ascii_classes();
    std::size_t done = 0;
    for (std::size_t at = 0; at < word.size();) {
      const utf8::character c = utf8::at(word, at);
      const unsigned bits = c.code < 0x80 ? ascii[c.code] : unicode_class(c.code);
      if ((bits & bits_) != 0) {
        if (done < at) out.push_back(word.substr(done, at - done));
        if (behavior_ == split_behavior::isolated) out.push_back(word.substr(at, c.size));
        done = at + c.size;
      }
      at += c.size;
    }
    if (done < word.size()) out.push_back(word.substr(done));
  }

  unsigned bits_;
  split_behavior behavior_;
};

class prefix_space final : public pre_tokenizer {
 public:
  void split(word_list& list) const override {
    each_word(list, [&](std::string_view word, auto& out) {
      if (word.front() == ' ') {
        out.push_back(word);
        return;
      }
      std::string spaced(1, ' ');
      spaced.append(word);
      out.push_back(rewrite(list, word, std::move(spaced)));
    });
  }
};

class word_split final : public pre_tokenizer {
 public:
  void split(word_list& list) const override {
    each_word(list, [](std::string_view word, auto& out) {
      const auto kind_at = [&](std::size_t at) {
        const unsigned bits = unicode_class(utf8::at(word, at).code);
        return (bits & is_word) != 0 ? 2 : (bits & is_space) != 0 ? 0 : 1;
      };
      for (std::size_t at = 0; at < word.size();) {
        const int kind = kind_at(at);
        std::size_t end = at;
        while (end < word.size() && kind_at(end) == kind) end += utf8::length(word[end]);
        if (kind != 0) out.push_back(word.substr(at, end - at));
        at = end;
      }
    });
  }
};

class metaspace final : public pre_tokenizer {
 public:
  metaspace(std::string replacement, prepend_scheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}

  void split(word_list& list) const override {
    each_word(list, [&](std::string_view word, auto& out) {
      const std::string_view spaced = escape(list, word);
      if (split_) {
        cut(spaced, out);
      } else {
        out.push_back(spaced);
      }
    });
  }

 private:
  std::string_view escape(word_list& list, std::string_view word) const {
    const bool prepend =
        scheme_ == prepend_scheme::always ||
        (scheme_ == prepend_scheme::first && word.data() == list.input_start && list.input_start != nullptr);
    std::string out;
    out.reserve(word.size() + word.size() / 4 + replacement_.size());
    for (const char c : word) {
      if (c == ' ') {
        out += replacement_;
      } else {
        out.push_back(c);
      }
    }
    if (prepend && !out.starts_with(replacement_)) out.insert(0, replacement_);
    return rewrite(list, word, std::move(out));
  }

  // Each replacement starts a word.
  void cut(std::string_view word, std::vector<std::string_view>& out) const {
    std::size_t start = 0;
    while (start < word.size()) {
      const std::size_t next = std::min(word.find(replacement_, start + 1), word.size());
      out.push_back(word.substr(start, next - start));
      start = next;
    }
  }

  std::string replacement_;
  prepend_scheme scheme_;
  bool split_;
};

class pre_tokenizer_sequence final : public pre_tokenizer {
 public:
  explicit pre_tokenizer_sequence(std::vector<std::unique_ptr<pre_tokenizer>> steps)
      : steps_(std::move(steps)) {}
  void split(word_list& list) const override {
    for (const auto& step : steps_) step->split(list);
  }

 private:
  std::vector<std::unique_ptr<pre_tokenizer>> steps_;
};

}  // namespace

std::unique_ptr<pre_tokenizer> make_pattern_split(known_pattern pattern) {
  return std::make_unique<pattern_split>(pattern);
}
std::unique_ptr<pre_tokenizer> make_split(split_pattern pattern, split_behavior behavior, bool invert) {
  return std::make_unique<expression_split>(std::move(pattern), behavior, invert);
}
std::unique_ptr<pre_tokenizer> make_class_split(unsigned bits, split_behavior behavior) {
  return std::make_unique<class_split>(bits, behavior);
}
std::unique_ptr<pre_tokenizer> make_prefix_space() { return std::make_unique<prefix_space>(); }
std::unique_ptr<pre_tokenizer> make_word_split() { return std::make_unique<word_split>(); }
std::unique_ptr<pre_tokenizer> make_metaspace(std::string replacement, prepend_scheme scheme, bool split) {
  return std::make_unique<metaspace>(std::move(replacement), scheme, split);
}
std::unique_ptr<pre_tokenizer> make_pre_tokenizer_sequence(
    std::vector<std::unique_ptr<pre_tokenizer>> steps) {
  return std::make_unique<pre_tokenizer_sequence>(std::move(steps));
}

}  // namespace fastserve::model
