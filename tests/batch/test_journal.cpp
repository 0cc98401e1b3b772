#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <csignal>
#include <filesystem>
#include <functional>
#include <random>
#include <sstream>
#include <stdexcept>

#include "../support/temporary_folder.hpp"
#include "launch/batch_crc.hpp"
#include "launch/batch_file.hpp"
#include "launch/batch_journal.hpp"
#include "launch/batch_record.hpp"

using namespace fastserve::launch;
namespace fs = std::filesystem;

namespace {

const batch_identity identity{{"input", "x"}, {"temperature", "0.5"}};

std::string answer_to(std::uint64_t request) {
  return "{\"n\":" + std::to_string(request) + "," + std::string(request * 7 % 23, 'x') + "}";
}

batch_journal::entry entry_of(std::uint64_t request) {
  return {request,
          {request + 1, 10 * (request + 1)},
          10,
          request % 5 == 4 ? batch_journal::kind::error : batch_journal::kind::answer,
          digest_of(std::to_string(request))};
}

/// Answers what is not done, in an order and in groups of its own.
void work(batch_journal& journal, std::uint64_t requests, unsigned seed, std::uint64_t stop_after = ~0ULL) {
  std::vector<std::uint64_t> todo;
  for (std::uint64_t i = 0; i < requests; ++i)
    if (!journal.done().contains(i)) todo.push_back(i);
  std::mt19937 random{seed};
  std::shuffle(todo.begin(), todo.end(), random);
  for (const auto request : todo) {
    if (stop_after-- == 0) return;
    journal.append(entry_of(request), answer_to(request));
    if (random() % 3 == 0) journal.commit();
  }
  journal.finish();
}

/// Each answer once, whole, and nothing else.
void check_output(const std::string& text, std::uint64_t requests) {
  std::vector<std::string> lines;
  std::istringstream in{text};
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::vector<std::string> wanted;
  for (std::uint64_t i = 0; i < requests; ++i) wanted.push_back(answer_to(i));
  std::sort(lines.begin(), lines.end());
  std::sort(wanted.begin(), wanted.end());
  BOOST_TEST((lines == wanted));
  BOOST_TEST((text.empty() || text.back() == '\n'));
}

std::string error_of(const std::function<void()>& what) {
  try {
    what();
  } catch (const std::runtime_error& e) {
    BOOST_TEST(std::string{e.what()}.find('\n') == std::string::npos);
    return e.what();
  }
  return {};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(journal_suite)

BOOST_AUTO_TEST_CASE(crc_of_known_texts) {
  BOOST_TEST(crc32c("") == 0U);
  BOOST_TEST(crc32c("123456789") == 0xE3069283U);
  BOOST_TEST(crc32c(std::string(32, '\0')) == 0x8A9136AAU);  // RFC 3720, B.4
  BOOST_TEST(crc32c(std::string(32, '\xff')) == 0x62A8AB43U);
  BOOST_TEST(crc32c("456789", crc32c("123")) == crc32c("123456789"));
}

BOOST_AUTO_TEST_CASE(goes_on_where_it_was) {
  const temporary_folder folder;
  {
    batch_journal journal{folder / "out", identity, 1234, false};
    for (const std::uint64_t r : {2, 0, 4}) journal.append(entry_of(r), answer_to(r));
    journal.commit();
    journal.append(entry_of(1), answer_to(1));  // never committed
  }
  batch_journal journal{folder / "out", identity, 9999, false};
  BOOST_TEST(journal.begun() == 1234);
  BOOST_TEST(journal.done().count() == 3U);
  BOOST_TEST(!journal.done().contains(1));
  BOOST_TEST(journal.failed() == 1U);
  BOOST_TEST(journal.input_bytes_done() == 30U);
  BOOST_TEST(!journal.complete());
  BOOST_CHECK_THROW(journal.append(entry_of(2), "x"), std::logic_error);
  BOOST_CHECK_THROW(journal.append(entry_of(7), "two\nlines"), std::logic_error);
  work(journal, 6, 1);
  check_output(folder.read("out"), 6);
}

BOOST_AUTO_TEST_CASE(a_finished_batch_says_so) {
  const temporary_folder folder;
  {
    batch_journal journal{folder / "out", identity, 0, false};
    work(journal, 9, 2);
    BOOST_TEST(journal.complete());
    BOOST_CHECK_THROW(journal.append(entry_of(20), "x"), std::logic_error);
  }
  const auto before = folder.read("out");
  {
    const batch_journal again{folder / "out", identity, 0, false};
    BOOST_TEST(again.complete());
    BOOST_TEST(again.done().count() == 9U);
  }
  BOOST_TEST(folder.read("out") == before);
  folder.write("out", before + "more\n");
  BOOST_TEST(error_of([&] {
               batch_journal{folder / "out", identity, 0, false};
             }).find("changed by someone") != std::string::npos);
  BOOST_TEST(folder.read("out") == before + "more\n");
  // Without its output it is not finished.
  fs::remove(folder / "out");
  batch_journal anew{folder / "out", identity, 0, false};
  BOOST_TEST(anew.done().count() == 0U);
  work(anew, 9, 3);
  check_output(folder.read("out"), 9);
}

// A crash leaves the files as any prefix of what was written to each: with ordered syncs the journal never
// speaks of more than the output has, but disks that lose writes may do even that.
BOOST_AUTO_TEST_CASE(cut_at_every_byte_it_ends_the_same) {
  constexpr std::uint64_t requests = 7;
  const temporary_folder folder;
  for (const std::uint64_t worked : {requests + 1, std::uint64_t{5}}) {
    fs::remove(folder / "out");
    fs::remove(folder / "out.journal");
    { batch_journal journal{folder / "out", identity, 0, false}; }
    const auto header_bytes = folder.read("out.journal").size();
    {
      batch_journal journal{folder / "out", identity, 0, false};
      work(journal, requests, 4, worked);
      journal.commit();
    }
    const auto output = folder.read("out");
    const auto records = folder.read("out.journal");
    const auto check = [&](std::size_t output_bytes, std::size_t journal_bytes) {
      folder.write("out", std::string_view{output}.substr(0, output_bytes));
      folder.write("out.journal", std::string_view{records}.substr(0, journal_bytes));
      const auto kept_records = (journal_bytes - header_bytes) / batch_record::bytes;
      {
        batch_journal journal{folder / "out", identity, 0, false};
        BOOST_TEST(journal.done().count() <= kept_records);
        // What is whole in both is not computed again.
        if (output_bytes == output.size())
          BOOST_TEST(journal.done().count() ==
                     std::min<std::uint64_t>(kept_records, std::min(worked, requests)));
        if (!journal.complete()) work(journal, requests, 5);
      }
      check_output(folder.read("out"), requests);
      BOOST_TEST((batch_journal{folder / "out", identity, 0, false}.complete()));
    };
    for (std::size_t cut = 0; cut <= output.size(); ++cut) check(cut, records.size());
    for (std::size_t cut = header_bytes; cut < records.size(); ++cut) check(output.size(), cut);
    std::mt19937 random{6};
    for (int round = 0; round < 200; ++round)
      check(random() % (output.size() + 1), header_bytes + random() % (records.size() - header_bytes + 1));
  }
}

BOOST_AUTO_TEST_CASE(garbage_behind_the_end_is_dropped) {
  const temporary_folder folder;
  std::mt19937 random{7};
  for (int round = 0; round < 100; ++round) {
    fs::remove(folder / "out");
    fs::remove(folder / "out.journal");
    {
      batch_journal journal{folder / "out", identity, 0, false};
      work(journal, 20, 8, 10);
      journal.commit();
    }
    // As after a crash that left pages of zeros or of something else.
    for (const char* name : {"out", "out.journal"}) {
      auto text = folder.read(name);
      const auto more = random() % 200;
      for (unsigned i = 0; i < more; ++i) text += static_cast<char>(round % 2 == 0 ? 0 : random());
      folder.write(name, text);
    }
    batch_journal journal{folder / "out", identity, 0, false};
    BOOST_TEST(journal.done().count() == 10U);
    work(journal, 20, 9);
    check_output(folder.read("out"), 20);
  }
}

BOOST_AUTO_TEST_CASE(a_flipped_bit_never_repeats_or_tears_a_line) {
  const temporary_folder folder;
  {
    batch_journal journal{folder / "out", identity, 0, false};
    work(journal, 12, 10, 9);
    journal.commit();
  }
  const auto output = folder.read("out");
  const auto records = folder.read("out.journal");
  std::mt19937 random{11};
  std::size_t went_on = 0;
  for (int round = 0; round < 600; ++round) {
    auto a = output;
    auto b = records;
    auto& hit = round % 2 == 0 ? a : b;
    hit[random() % hit.size()] ^= static_cast<char>(1U << (random() % 8));
    folder.write("out", a);
    folder.write("out.journal", b);
    try {
      batch_journal journal{folder / "out", identity, 0, false};
      work(journal, 12, 12);
    } catch (const std::runtime_error&) {
      BOOST_TEST(folder.read("out") == a);  // refused, and nothing touched
      continue;
    }
    ++went_on;
    check_output(folder.read("out"), 12);
  }
  BOOST_TEST(went_on > 300U);
}

BOOST_AUTO_TEST_CASE(refusals) {
  const temporary_folder folder;
  folder.write("out", "a file of someone's\n");
  BOOST_TEST(error_of([&] {
               batch_journal{folder / "out", identity, 0, false};
             }).find("is there already") != std::string::npos);
  BOOST_TEST(folder.read("out") == "a file of someone's\n");

  {
    batch_journal journal{folder / "out", identity, 0, true};
    work(journal, 5, 13, 3);
    journal.commit();
    // A second one, at the same time.
    const auto pid = ::fork();
    if (pid == 0) {
      batch_file other{folder / "out", 2};
      ::_exit(other.lock() ? 1 : 0);
    }
    int status = -1;
    ::waitpid(pid, &status, 0);
    BOOST_TEST(status == 0);
  }
  auto other = identity;
  other[1].second = "0.7";
  BOOST_TEST(error_of([&] {
               batch_journal{folder / "out", other, 0, false};
             }) == (folder / "out").string() +
                       ": was begun with temperature 0.5, now it is 0.7; --overwrite starts anew");
  other.pop_back();
  BOOST_TEST(error_of([&] {
               batch_journal{folder / "out", other, 0, false};
             }).find("out: was begun by another version") != std::string::npos);

  const auto output = folder.read("out");
  folder.write("out", "!" + output);
  BOOST_TEST(error_of([&] {
               batch_journal{folder / "out", identity, 0, false};
             }).find("is not the file") != std::string::npos);
  BOOST_TEST(folder.read("out") == "!" + output);
  folder.write("out.journal", "FSBATCH2 but not one");
  BOOST_TEST(error_of([&] {
               batch_journal{folder / "out", identity, 0, false};
             }).find("is no journal") != std::string::npos);
  BOOST_TEST(!error_of([&] { batch_journal{folder / "none/out", identity, 0, false}; }).empty());

  batch_journal anew{folder / "out", identity, 0, true};
  BOOST_TEST(anew.done().count() == 0U);
  BOOST_TEST(folder.read("out").empty());
}

BOOST_AUTO_TEST_CASE(a_journal_without_an_answer_binds_nothing) {
  const temporary_folder folder;
  auto other = identity;
  other[1].second = "0.7";
  const auto open = [&](const batch_identity& as, bool successor = false) {
    return batch_journal{folder / "out", as, 5, false, batch_journal::lock_patience, successor};
  };
  open(identity).claim(2);
  // A successor goes on with what its leader began, or not at all.
  BOOST_TEST(error_of([&] { open(other, true); }).find("temperature 0.5") != std::string::npos);
  {
    // Whoever still has the old journal open writes no more.
    batch_file old{folder / "out.journal", O_RDONLY};
    const auto before = old.size();
    open(other);
    BOOST_TEST(old.size() > before);
  }
  BOOST_TEST(error_of([&] { open(other); }).empty());
  {
    auto third = identity;
    third.pop_back();
    open(third);
    auto journal = open(identity);
    BOOST_TEST(journal.done().count() == 0U);
    work(journal, 3, 1, 1);
    journal.commit();
  }
  BOOST_TEST(error_of([&] { open(other); }).find("temperature 0.5") != std::string::npos);

  // Refused without its output it does not make one.
  fs::remove(folder / "out");
  BOOST_TEST(error_of([&] { open(other); }).find("temperature 0.5") != std::string::npos);
  BOOST_TEST(!fs::exists(folder / "out"));
}

BOOST_AUTO_TEST_CASE(a_full_disk_keeps_what_was_committed) {
  // /dev/full takes no byte; the journal does not come to speak of it.
  if (!fs::exists("/dev/full")) return;
  batch_file full{"/dev/full", 1};
  BOOST_TEST(error_of([&] { full.write_at(0, "x"); }).find("/dev/full: cannot be written: No space left") ==
             0U);
}

BOOST_AUTO_TEST_CASE(a_file_that_may_not_grow_keeps_what_was_committed) {
  // Writes that fail halfway, at every kind of place.
  const temporary_folder folder;
  for (std::uint64_t limit = 300; limit < 1500; limit += 57) {
    fs::remove(folder / "out");
    fs::remove(folder / "out.journal");
    const auto pid = ::fork();
    if (pid == 0) {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit bound{limit, limit};
      ::setrlimit(RLIMIT_FSIZE, &bound);
      batch_journal journal{folder / "out", identity, 0, false};
      try {
        work(journal, 100, 17);
      } catch (const std::runtime_error&) {
        // What failed halfway is not tried again.
        try {
          journal.append(entry_of(1000), "x");
        } catch (const std::logic_error&) {
          ::_exit(0);
        }
      }
      ::_exit(1);
    }
    int status = -1;
    ::waitpid(pid, &status, 0);
    BOOST_TEST(status == 0);
    batch_journal journal{folder / "out", identity, 0, false};
    work(journal, 100, 18);
    check_output(folder.read("out"), 100);
  }
}

// The record of a claim, as one that has taken over writes it.
void claim_beside(const fs::path& path) {
  batch_record record;
  record.request = 3;
  record.output_offset = 0;
  record.what = batch_record::record_of_claim;
  batch_file file{path, O_RDWR};
  file.write_at(file.size(), encode_record(record));
}

BOOST_AUTO_TEST_CASE(goes_on_behind_claims) {
  const temporary_folder folder;
  for (unsigned run = 0; run < 5; ++run) {
    batch_journal journal{folder / "out", identity, 0, false};
    BOOST_TEST(journal.done().count() == run * 7);
    journal.claim(run);
    if (run < 4) {
      for (std::uint64_t i = run * 7; i < run * 7 + 7; ++i) journal.append(entry_of(i), answer_to(i));
      journal.commit();
      journal.append(entry_of(1000), "lost");
    } else {
      work(journal, 60, run);
    }
  }
  batch_journal journal{folder / "out", identity, 0, false};
  BOOST_TEST(journal.complete());
  BOOST_TEST(journal.done().count() == 60U);
  check_output(folder.read("out"), 60);
}

// A leader that wakes up behind another one's claim, or finds the journal cut, writes nothing any more.
BOOST_AUTO_TEST_CASE(a_journal_that_was_taken_over_takes_nothing) {
  for (const bool cut : {false, true}) {
    const temporary_folder folder;
    batch_journal journal{folder / "out", identity, 0, false};
    journal.append(entry_of(0), answer_to(0));
    journal.commit();
    const auto output = folder.read("out");
    if (cut)
      fs::resize_file(folder / "out.journal", fs::file_size(folder / "out.journal") - batch_record::bytes);
    else
      claim_beside(folder / "out.journal");
    const auto before = folder.read("out.journal");
    journal.append(entry_of(1), answer_to(1));
    BOOST_CHECK_THROW(journal.commit(), batch_taken);
    BOOST_CHECK_THROW(journal.commit(), std::logic_error);
    BOOST_TEST(folder.read("out") == output);
    BOOST_TEST(folder.read("out.journal") == before);
  }
}

BOOST_AUTO_TEST_CASE(waits_for_a_lock_as_long_as_it_is_told) {
  const temporary_folder folder;
  const batch_journal journal{folder / "out", identity, 0, false};
  BOOST_CHECK_THROW((batch_journal{folder / "out", identity, 0, false, std::chrono::milliseconds{60}}),
                    batch_busy);
}

// A claim cut at every byte is no claim, and loses nothing else.
BOOST_AUTO_TEST_CASE(claims_cut_at_every_byte) {
  const temporary_folder folder;
  {
    batch_journal journal{folder / "out", identity, 0, false};
    journal.append(entry_of(0), answer_to(0));
    journal.claim(1);
  }
  const auto whole = fs::file_size(folder / "out.journal");
  const auto output = folder.read("out");
  for (std::uint64_t bytes = 0; bytes < batch_record::bytes; ++bytes) {
    fs::resize_file(folder / "out.journal", whole - batch_record::bytes + bytes);
    batch_journal journal{folder / "out", identity, 0, false};
    BOOST_TEST(journal.done().count() == 1U);
    BOOST_TEST(folder.read("out") == output);
  }
}

BOOST_AUTO_TEST_CASE(killed_at_any_instant) {
  // Real processes, killed without warning, over and over on the same files.
  constexpr std::uint64_t requests = 1500;
  const temporary_folder folder;
  std::mt19937 random{14};
  int runs = 0;
  for (bool complete = false; !complete && runs < 400; ++runs) {
    const auto pid = ::fork();
    if (pid == 0) {
      batch_journal journal{folder / "out", identity, 0, false};
      work(journal, requests, static_cast<unsigned>(runs));
      ::_exit(0);
    }
    // Ever more time, so that slow disks get there too.
    ::usleep(1000 + random() % (10000U + 1000U * static_cast<unsigned>(runs)));
    ::kill(pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, 0);
    complete = WIFEXITED(status);
  }
  BOOST_TEST_MESSAGE(runs << " runs");
  BOOST_TEST(runs > 1);
  batch_journal journal{folder / "out", identity, 0, false};
  BOOST_TEST(journal.complete());
  check_output(folder.read("out"), requests);
}

BOOST_AUTO_TEST_SUITE_END()
