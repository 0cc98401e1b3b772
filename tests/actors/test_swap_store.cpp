#include "actors/swap_store.hpp"

#include <boost/test/unit_test.hpp>
#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "../support/temporary_folder.hpp"
#include "actors/move_gate.hpp"
#include "actors/swap_room.hpp"

namespace act = fastserve::actors;

BOOST_AUTO_TEST_SUITE(swap_store)

BOOST_AUTO_TEST_CASE(slots_keep_what_they_are_given_and_leave_nothing_behind) {
  const temporary_folder folder;
  const auto cpu = fastserve::kernels::make_cpu_backend(1);
  {
    act::swap_store store{*cpu, 1000, 2, 5, folder.path().string()};
    BOOST_TEST(std::filesystem::is_empty(folder.path()));  // already nameless
    std::vector<std::byte> block(1000), back(1000);
    for (int i = 0; i < 7; ++i) {
      std::memset(block.data(), i + 1, block.size());
      auto* memory = store.memory(i);
      BOOST_TEST((memory != nullptr) == (i < 2));
      if (memory != nullptr)
        std::memcpy(memory, block.data(), block.size());
      else
        store.write(i, block.data());
    }
    for (int i = 6; i >= 0; --i) {
      std::memset(block.data(), i + 1, block.size());
      if (const auto* memory = store.memory(i))
        std::memcpy(back.data(), memory, back.size());
      else
        store.read(i, back.data());
      BOOST_TEST((back == block));
    }
  }
  BOOST_TEST(std::filesystem::is_empty(folder.path()));
}

BOOST_AUTO_TEST_CASE(says_what_is_wrong_with_the_folder) {
  const auto cpu = fastserve::kernels::make_cpu_backend(1);
  const auto reason = [&](const std::string& folder, std::size_t bytes) -> std::string {
    try {
      act::swap_store store{*cpu, bytes, 0, 1 << 20, folder};
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  BOOST_TEST(
      reason("/no/such/folder", 16).find("swap file in /no/such/folder: cannot be made: No such file") !=
      std::string::npos);
  const temporary_folder folder;
  const auto full = reason(folder.path().string(), std::size_t{1} << 40);
  BOOST_TEST(full.find("lower --swap-disk") != std::string::npos);
  BOOST_TEST(std::filesystem::is_empty(folder.path()));
}

BOOST_AUTO_TEST_CASE(memory_passes_on_where_it_is_enough) {
  const auto cpu = fastserve::kernels::make_cpu_backend(1);
  act::swap_store first{*cpu, 1000, 4, 0, ""};
  const auto* memory = first.memory(0);
  act::swap_store second{*cpu, 500, 7, 0, "", first.take_memory()};
  BOOST_TEST(second.memory(0) == memory);
  BOOST_TEST(second.memory(6) == memory + 3000);
  act::swap_store third{*cpu, 500, 9, 0, "", second.take_memory()};
  std::memset(third.memory(0), 1, 4500);
  const act::swap_store none{*cpu, 500, 0, 0, "", third.take_memory()};
  BOOST_TEST(none.memory(0) == nullptr);
}

BOOST_AUTO_TEST_CASE(says_what_is_wrong_with_the_memory) {
  const auto cpu = fastserve::kernels::make_cpu_backend(1);
  BOOST_CHECK_EXCEPTION((act::swap_store{*cpu, std::size_t{1} << 40, 1 << 20, 0, ""}), std::runtime_error,
                        [](const std::runtime_error& e) {
                          return std::string{e.what()}.find("lower --swap-space") != std::string::npos;
                        });
}

BOOST_AUTO_TEST_CASE(the_gate_opens_by_ticket_and_epoch) {
  act::move_gate gate;
  BOOST_TEST(gate.wait(1, 0));
  gate.done(1, 3);
  BOOST_TEST(gate.wait(1, 2));
  BOOST_TEST(gate.wait(1, 3));
  bool passed = false;
  std::thread waiter{[&] { passed = gate.wait(1, 5); }};
  gate.done(1, 4);
  gate.done(1, 5);
  waiter.join();
  BOOST_TEST(passed);
  // A new epoch ends the old one's waiting, and begins from nothing.
  std::thread stale{[&] { passed = gate.wait(1, 9); }};
  gate.begin_epoch(2);
  stale.join();
  BOOST_TEST(!passed);
  gate.done(1, 100);  // late
  std::thread next{[&] { passed = gate.wait(2, 1); }};
  gate.done(2, 1);
  next.join();
  BOOST_TEST(passed);
  gate.close();
  BOOST_TEST(!gate.wait(2, 7));
}

BOOST_AUTO_TEST_CASE(slots_are_as_many_as_the_largest_blocks_leave) {
  std::vector<act::stage_ready> stages(3);
  stages[0].kv_block_bytes = 1000;
  stages[1].kv_block_bytes = 3000;
  const auto swap = act::choose_slots(stages, {10'000, 7'000});
  BOOST_TEST(swap.memory_slots == 3);
  BOOST_TEST(swap.disk_slots == 2);
  BOOST_TEST(!act::choose_slots(stages, {}).any());
  BOOST_TEST(act::choose_slots(stages, {std::uint64_t{1} << 60, 0}).memory_slots > 1'000'000'000);
}

BOOST_AUTO_TEST_SUITE_END()
