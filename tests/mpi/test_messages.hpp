#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "mpi/errors.hpp"

namespace fastserve::tests {

struct parcel {
  std::int32_t serial = 0;
  std::vector<std::int32_t> values;
  std::string text;
};

template <class Inspector>
auto inspect(Inspector& f, parcel& x) {
  return mpi::fields(f, x, x.serial, x.values, x.text);
}

/// Known to no one: cannot leave its process.
struct unregistered {
  std::int32_t value = 0;
};

template <class Inspector>
auto inspect(Inspector& f, unregistered& x) {
  return mpi::fields(f, x, x.value);
}

enum class test_error : std::uint8_t { none = 0, negative };

inline std::string to_string(test_error e) { return e == test_error::negative ? "negative" : "none"; }
inline bool from_string(std::string_view text, test_error& e) {
  e = text == "negative" ? test_error::negative : test_error::none;
  return text == "negative" || text == "none";
}
inline bool from_integer(std::uint8_t value, test_error& e) {
  e = static_cast<test_error>(value);
  return value < 2;
}
FASTSERVE_INSPECT_ENUM(test_error)

}  // namespace fastserve::tests

CAF_BEGIN_TYPE_ID_BLOCK(fastserve_mpi_tests, fastserve::mpi::next_type_id)
CAF_ADD_TYPE_ID(fastserve_mpi_tests, (fastserve::tests::parcel))
CAF_ADD_TYPE_ID(fastserve_mpi_tests, (fastserve::tests::test_error))
CAF_ADD_ATOM(fastserve_mpi_tests, fastserve::tests, echo_atom, "echo")
CAF_ADD_ATOM(fastserve_mpi_tests, fastserve::tests, token_atom, "token")
CAF_ADD_ATOM(fastserve_mpi_tests, fastserve::tests, note_atom, "note")
CAF_ADD_ATOM(fastserve_mpi_tests, fastserve::tests, report_atom, "report")
CAF_ADD_ATOM(fastserve_mpi_tests, fastserve::tests, ping_atom, "ping")
CAF_END_TYPE_ID_BLOCK(fastserve_mpi_tests)
FASTSERVE_ERROR_ENUM(fastserve::tests::test_error, "test")

namespace fastserve::tests {

struct test_config : caf::actor_system_config {
  test_config() {
    static const bool once = [] {
      mpi::init_types<caf::id_block::fastserve_mpi, caf::id_block::fastserve_mpi_tests>();
      return true;
    }();
    static_cast<void>(once);
    mpi::register_messages<caf::id_block::fastserve_mpi, caf::id_block::fastserve_mpi_tests>(*this);
    mpi::register_error<mpi::transport_error>(*this);
    mpi::register_error<test_error>(*this);
    mpi::set_scheduler(*this, 2);
  }
};

using echo_actor = mpi::protocol<parcel(echo_atom, parcel)>;
using ring_actor = mpi::protocol<void(token_atom, std::int32_t)>;
using log_actor = mpi::protocol<void(note_atom, std::int32_t), parcel(report_atom)>;

/// Answers with what it got, its serial raised by 1000 for each rank and one; refuses negative serials.
struct echo_state {
  static constexpr const char* name = "echo";
  echo_state(mpi::base_of<echo_actor>*, int rank) : rank_{rank} {}
  echo_actor::behavior_type make_behavior() {
    return {[this](echo_atom, parcel& p) -> caf::result<parcel> {
      if (p.serial < 0) return caf::make_error(test_error::negative, "serial " + std::to_string(p.serial));
      p.serial += 1000 * (rank_ + 1);
      return std::move(p);
    }};
  }

 private:
  std::int32_t rank_;
};

/// Lets another echo answer.
struct relay_state {
  static constexpr const char* name = "relay";
  relay_state(mpi::base_of<echo_actor>* self, echo_actor to) : self_{self}, to_{std::move(to)} {}
  echo_actor::behavior_type make_behavior() {
    return {[this](echo_atom, parcel& p) { return mpi::delegate(self_, to_, echo_atom_v, std::move(p)); }};
  }

 private:
  mpi::base_of<echo_actor>* self_;
  echo_actor to_;
};

/// Passes a counter on, one less each time, until it is spent and back at the rank with the promise.
struct ring_state {
  static constexpr const char* name = "ring";
  ring_state(mpi::base_of<ring_actor>* self, ring_actor next, std::promise<std::int32_t>* done)
      : self_{self}, next_{std::move(next)}, done_{done} {}
  ring_actor::behavior_type make_behavior() {
    return {[this](token_atom, std::int32_t left) {
      if (left <= 0 && done_ != nullptr)
        done_->set_value(left);
      else
        mpi::send(self_, next_, token_atom_v, left - 1);
    }};
  }

 private:
  mpi::base_of<ring_actor>* self_;
  ring_actor next_;
  std::promise<std::int32_t>* done_;
};

struct log_state {
  static constexpr const char* name = "log";
  explicit log_state(mpi::base_of<log_actor>*) {}
  log_actor::behavior_type make_behavior() {
    return {[this](note_atom, std::int32_t n) { notes_.push_back(n); },
            [this](report_atom) {
              return parcel{0, notes_, {}};
            }};
  }

 private:
  std::vector<std::int32_t> notes_;
};

/// Does what a test says.
struct scripted_state {
  static constexpr const char* name = "scripted";
  using script = std::function<caf::behavior(caf::event_based_actor*)>;
  scripted_state(caf::event_based_actor* self, script what) : self_{self}, what_{std::move(what)} {}
  caf::behavior make_behavior() { return what_(self_); }

 private:
  caf::event_based_actor* self_;
  script what_;
};

inline caf::actor spawn_script(caf::actor_system& system, scripted_state::script what) {
  return mpi::spawn<caf::actor, scripted_state>(system, std::move(what));
}

}  // namespace fastserve::tests
