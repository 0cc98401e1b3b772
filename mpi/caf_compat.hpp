#pragma once

/// Everything that differs between CAF 0.17.6 (Debian 12) and CAF >= 1.0. No other file names a CAF version.
///
/// Status: compiled and tested with 0.17.6. The 1.x branches are written after CAF's headers; parts of them
/// (fields, protocol, send, request, state_actor, write, read) were proven with 1.1.0 in a smaller program,
/// but this file as a whole has not been compiled with 1.x.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <caf/all.hpp>

#include <caf/actor_proxy.hpp>

// CAF_VERSION is 1706 in 0.17.6 but 0100 (octal) in 1.1.0, so it cannot order the two. CAF_VERSION_MAJOR
// exists only since 1.0. The branch after 1.1.0 keeps its number and is told by a header that it adds.
#ifdef CAF_VERSION_MAJOR
#define FASTSERVE_CAF_1 1
#include <caf/anon_mail.hpp>
#else
#define FASTSERVE_CAF_1 0
#endif
#if __has_include(<caf/actor_handle_codec.hpp>)
#define FASTSERVE_CAF_HANDLE_CODEC 1
#else
#define FASTSERVE_CAF_HANDLE_CODEC 0
#endif

/// Makes an enum of std::uint8_t, whose value 0 means "none", usable as a caf::error code. At global scope,
/// after the type id block that holds the enum. `category`: at most 10 characters of [A-Za-z0-9_ ].
#if FASTSERVE_CAF_1
#define FASTSERVE_ERROR_ENUM(type, category) CAF_ERROR_CODE_ENUM(type)
#else
#define FASTSERVE_ERROR_ENUM(type, category) CAF_ERROR_CODE_ENUM(type, category)
#endif

/// Makes an enum usable in messages. In the namespace of the enum, which must also have to_string(type),
/// from_string(std::string_view, type&) and from_integer(std::uint8_t, type&).
#if FASTSERVE_CAF_1
#define FASTSERVE_INSPECT_ENUM(type)        \
  template <class Inspector>                \
  bool inspect(Inspector& f, type& x) {     \
    return caf::default_enum_inspect(f, x); \
  }
#else
#define FASTSERVE_INSPECT_ENUM(type) static_assert(std::is_enum_v<type>);
#endif

namespace fastserve::mpi {

// -- messages -----------------------------------------------------------------

/// Stands for a value of any type, where types are only looked at.
struct any_value {
  template <class T>
  operator T() const;
};

/// Whether so many values make the aggregate T.
template <class T, class... Values>
concept is_made_of = requires {
  T{Values{}...};
};

/// Visits the fields of a message, which are all of its members: `template <class F> auto inspect(F& f,
/// token& x) { return fields(f, x, x.id); }`.
template <class Inspector, class T, class... Fields>
auto fields(Inspector& f, [[maybe_unused]] T& x, Fields&... xs) {
  static_assert(is_made_of<T, decltype(static_cast<void>(xs), any_value{})...> &&
                    !is_made_of<T, decltype(static_cast<void>(xs), any_value{})..., any_value>,
                "a member does not travel");
#if FASTSERVE_CAF_1
  return f.object(x).fields(f.field("", xs)...);
#else
  return f(xs...);
#endif
}

/// To be called once, before any actor_system_config exists.
template <class... IdBlocks>
void init_types() {
#if FASTSERVE_CAF_1
  caf::init_global_meta_objects<IdBlocks...>();
  caf::core::init_global_meta_objects();
#endif
}

/// Makes the messages of the blocks known to the systems that use this configuration.
template <class... IdBlocks>
void register_messages([[maybe_unused]] caf::actor_system_config& cfg) {
#if !FASTSERVE_CAF_1
  (cfg.template add_message_types<IdBlocks>(), ...);
#endif
}

// -- errors -------------------------------------------------------------------

/// The text given to caf::make_error(code, text), or what stands in its place.
inline std::string context_of(const caf::error& err) {
  if (err == caf::error{}) return {};
  const caf::message& context = err.context();
  if (context.empty()) return {};
  if (context.template match_elements<std::string>()) return context.template get_as<std::string>(0);
  return caf::to_string(context);
}

/// Lets describe() name the codes of `Enum` in words.
template <class Enum>
void register_error([[maybe_unused]] caf::actor_system_config& cfg) {
#if !FASTSERVE_CAF_1
  constexpr auto category = caf::detail::error_factory<Enum>::category;
  cfg.add_error_category(category, [](std::uint8_t code, caf::atom_value, const caf::message& context) {
    auto text = to_string(static_cast<Enum>(code));
    if (context.match_elements<std::string>()) text += ": " + context.get_as<std::string>(0);
    return text;
  });
#endif
}

/// An error in words, for logs and users.
inline std::string describe([[maybe_unused]] const caf::actor_system& sys, const caf::error& err) {
#if FASTSERVE_CAF_1
  return caf::to_string(err);
#else
  return sys.render(err);
#endif
}

/// "0.17.6", "1.1.0".
inline std::string caf_version() {
#if FASTSERVE_CAF_1
  return std::to_string(CAF_VERSION_MAJOR) + "." + std::to_string(CAF_VERSION_MINOR) + "." +
         std::to_string(CAF_VERSION_PATCH);
#else
  return std::to_string(CAF_VERSION / 10000) + "." + std::to_string(CAF_VERSION / 100 % 100) + "." +
         std::to_string(CAF_VERSION % 100);
#endif
}

// -- typed interfaces ---------------------------------------------------------

namespace detail {
template <class Signature>
struct handler;
#if FASTSERVE_CAF_1
template <class R, class... Args>
struct handler<R(Args...)> {
  using type = caf::result<R>(Args...);
};
#else
template <class R, class... Args>
struct handler<R(Args...)> {
  using type = typename caf::replies_to<Args...>::template with<R>;
};
template <class... Args>
struct handler<void(Args...)> {
  using type = caf::reacts_to<Args...>;
};
#endif
}  // namespace detail

/// A statically checked actor interface: `protocol<tokens(step_atom, batch), void(stop_atom)>`.
template <class... Signatures>
using protocol = caf::typed_actor<typename detail::handler<Signatures>::type...>;

// -- sending ------------------------------------------------------------------

template <class Self, class Handle, class... Ts>
void send(Self* self, const Handle& to, Ts&&... xs) {
#if FASTSERVE_CAF_1
  self->mail(std::forward<Ts>(xs)...).send(to);
#else
  self->send(to, std::forward<Ts>(xs)...);
#endif
}

template <class Self, class Handle, class... Ts>
void send_after(Self* self, std::chrono::nanoseconds delay, const Handle& to, Ts&&... xs) {
#if FASTSERVE_CAF_1
  self->mail(std::forward<Ts>(xs)...).delay(delay).send(to);
#else
  self->delayed_send(to, delay, std::forward<Ts>(xs)...);
#endif
}

/// `.then`, `.await` (actors) or `.receive` (scoped actors) take what comes back. `timeout`: any
/// std::chrono duration or caf::infinite.
template <class Self, class Handle, class Timeout, class... Ts>
auto request(Self* self, const Handle& to, Timeout timeout, Ts&&... xs) {
#if FASTSERVE_CAF_1
  return self->mail(std::forward<Ts>(xs)...).request(to, timeout);
#else
  return self->request(to, timeout, std::forward<Ts>(xs)...);
#endif
}

/// Hands the request being handled to another actor, which answers in our place.
template <class Self, class Handle, class... Ts>
auto delegate(Self* self, const Handle& to, Ts&&... xs) {
#if FASTSERVE_CAF_1
  return self->mail(std::forward<Ts>(xs)...).delegate(to);
#else
  return self->delegate(to, std::forward<Ts>(xs)...);
#endif
}

/// Sends from outside any actor.
template <class Handle, class... Ts>
void anon_send(const Handle& to, Ts&&... xs) {
#if FASTSERVE_CAF_1
  caf::anon_mail(std::forward<Ts>(xs)...).send(to);
#else
  caf::anon_send(to, std::forward<Ts>(xs)...);
#endif
}

// -- actors -------------------------------------------------------------------

/// Told when a handler of a state_actor throws, which nobody else hears of: the actor's name and what it
/// threw. Whoever has actors sets it before the first of them.
inline std::function<void(const std::string& why)>& on_thrown() {
  static std::function<void(const std::string&)> handler;
  return handler;
}

/// Runs `State`, whose `make_behavior()` returns the behavior and whose `name` is the actor's, as an actor.
/// The state dies with the actor's last message, not with its last handle.
template <class State, class Base = caf::event_based_actor>
class state_actor final : public Base {
 public:
  template <class... Ts>
  explicit state_actor(caf::actor_config& cfg, Ts&&... xs) : Base(cfg) {
    this->set_exception_handler([](caf::scheduled_actor*, std::exception_ptr& thrown) -> caf::error {
      try {
        std::rethrow_exception(thrown);
      } catch (const std::exception& e) {
        if (on_thrown()) on_thrown()(std::string{State::name} + ": " + e.what());
      } catch (...) {
        if (on_thrown()) on_thrown()(State::name);
      }
      return caf::sec::runtime_error;
    });
    state_.emplace(this, std::forward<Ts>(xs)...);
  }
  typename Base::behavior_type make_behavior() override { return state_->make_behavior(); }
  void on_exit() override {
    state_.reset();
    Base::on_exit();
  }
  const char* name() const override { return State::name; }

 private:
  std::optional<State> state_;
};

namespace detail {
template <class Handle>
struct base_of {
  using type = typename Handle::base;
};
template <>
struct base_of<caf::actor> {
  using type = caf::event_based_actor;
};
}  // namespace detail

/// The class that a state of the interface `Handle` gets a pointer to: `explicit state(base_of<worker>*
/// self)`.
template <class Handle>
using base_of = typename detail::base_of<Handle>::type;

/// Spawns `State` on CAF's scheduler; `Handle` is caf::actor or a protocol<...>.
template <class Handle, class State, class... Ts>
Handle spawn(caf::actor_system& sys, Ts&&... xs) {
  return Handle{sys.spawn<state_actor<State, base_of<Handle>>>(std::forward<Ts>(xs)...)};
}

/// Spawns `State` on a thread of its own: no scheduler between a message and its handler.
template <class Handle, class State, class... Ts>
Handle spawn_detached(caf::actor_system& sys, Ts&&... xs) {
  return Handle{sys.spawn<state_actor<State, base_of<Handle>>, caf::detached>(std::forward<Ts>(xs)...)};
}

/// Calls back, inside an actor, when an actor that it watches is down. One per actor, a member of its state.
template <class Self>
class down_watch {
 public:
  using callback = std::function<void(const caf::error& reason)>;

  explicit down_watch(Self* self) : self_{self} {}

  template <class Handle>
  void watch(const Handle& whom, callback f) {
#if FASTSERVE_CAF_1
    self_->monitor(whom, std::move(f));
#else
    // One slot for all: dispatch by address.
    auto callbacks = callbacks_;
    self_->set_down_handler([callbacks](caf::down_msg& down) {
      const auto found = std::find_if(callbacks->begin(), callbacks->end(),
                                      [&](const auto& entry) { return entry.first == down.source; });
      if (found == callbacks->end()) return;
      const auto call = std::move(found->second);
      callbacks->erase(found);
      call(down.reason);
    });
    callbacks_->emplace_back(whom.address(), std::move(f));
    self_->monitor(whom);
#endif
  }

 private:
  Self* self_;
#if !FASTSERVE_CAF_1
  using table = std::vector<std::pair<caf::actor_addr, callback>>;
  std::shared_ptr<table> callbacks_ = std::make_shared<table>();
#endif
};

// -- scheduler ----------------------------------------------------------------

/// One shared queue and a condition variable in place of work stealing: wakes in microseconds, where a
/// stealing worker sleeps first, and costs nothing when idle. `workers` >= 1.
inline void set_scheduler(caf::actor_system_config& cfg, std::size_t workers) {
#if FASTSERVE_CAF_1
  caf::put(cfg.content, "caf.scheduler.policy", std::string{"sharing"});
  caf::put(cfg.content, "caf.scheduler.max-threads", workers);
#else
  cfg.set("scheduler.policy", caf::atom("sharing"));
  cfg.set("scheduler.max-threads", workers);
#endif
}

// -- messages as bytes --------------------------------------------------------

#if FASTSERVE_CAF_1
using message_bytes = caf::byte_buffer;
#else
using message_bytes = std::vector<char>;
#endif

/// Appends `msg` to `out`. A type in it that is not registered gives an error.
inline caf::error write([[maybe_unused]] caf::actor_system& sys, const caf::message& msg,
                        message_bytes& out) {
#if !FASTSERVE_CAF_1
  const auto before = out.size();
  caf::binary_serializer sink{sys, out};
  if (auto err = sink(msg)) return err;
  // For a type that it does not know CAF prints a line, writes nothing and calls that a success.
  return out.size() > before ? caf::error{} : caf::make_error(caf::sec::unknown_type);
#elif FASTSERVE_CAF_HANDLE_CODEC
  caf::binary_serializer sink{out};
  return sink.apply(msg) ? caf::error{} : sink.get_error();
#else
  caf::binary_serializer sink{sys, out};
  return sink.apply(msg) ? caf::error{} : sink.get_error();
#endif
}

/// Rebuilds a message. The bytes may be anything: what is not a message gives an error.
inline caf::error read([[maybe_unused]] caf::actor_system& sys, const void* data, std::size_t bytes,
                       caf::message& msg) {
#if !FASTSERVE_CAF_1
  caf::binary_deserializer source{sys, static_cast<const char*>(data), bytes};
  msg = caf::message{};
  if (auto err = source(msg)) return err;
  // What is cut short may come out as an empty message; a true one, the answer to a request that returns
  // nothing, is "@<>" behind a 16-bit 0 and a length.
  constexpr std::size_t empty_message_bytes = 6;
  if (msg.empty() && bytes != empty_message_bytes) return caf::make_error(caf::sec::end_of_stream);
  return source.remaining() == 0 ? caf::error{} : caf::make_error(caf::sec::unexpected_message);
#else
  const caf::span<const std::byte> in{static_cast<const std::byte*>(data), bytes};
#if FASTSERVE_CAF_HANDLE_CODEC
  caf::binary_deserializer source{in};
#else
  caf::binary_deserializer source{sys, in};
#endif
  if (!source.apply(msg)) return source.get_error();
  return source.remaining() == 0 ? caf::error{} : caf::make_error(caf::sec::runtime_error, "trailing bytes");
#endif
}

// -- handles to actors elsewhere ----------------------------------------------

/// Puts a message into the mailbox of `to`, as if `from` had sent it.
inline void deliver(const caf::strong_actor_ptr& to, caf::strong_actor_ptr from, caf::message_id id,
                    caf::message msg) {
#if FASTSERVE_CAF_1
  to->enqueue(caf::make_mailbox_element(std::move(from), id, std::move(msg)), nullptr);
#else
  to->enqueue(std::move(from), id, std::move(msg), nullptr);
#endif
}

/// Stands for an actor of another rank: what is sent to it goes to a function, in the sender's thread. (CAF's
/// forwarding_actor_proxy hands messages to an actor instead: one thread hop more for each.)
class remote_proxy final : public caf::actor_proxy {
 public:
  using sink =
      std::function<void(const remote_proxy& to, caf::strong_actor_ptr from, caf::message_id, caf::message)>;

  remote_proxy(caf::actor_config& cfg, int rank, std::uint64_t address, sink out)
      : caf::actor_proxy(cfg), rank_{rank}, address_{address}, sink_{std::move(out)} {}

  int rank() const { return rank_; }
  std::uint64_t address() const { return address_; }
  const char* name() const override { return "fastserve.remote_proxy"; }

#if FASTSERVE_CAF_1
  bool enqueue(caf::mailbox_element_ptr what, caf::scheduler*) override {
    sink_(*this, std::move(what->sender), what->mid, std::move(what->payload));
    return true;
  }
  void kill_proxy(caf::scheduler* context, caf::error reason) override {
    cleanup(std::move(reason), context);
  }
#else
  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit*) override {
    sink_(*this, std::move(what->sender), what->mid, what->move_content_to_message());
  }
  void kill_proxy(caf::execution_unit* context, caf::error reason) override {
    cleanup(std::move(reason), context);
  }
#endif

 private:
#if FASTSERVE_CAF_HANDLE_CODEC
  bool try_force_close_mailbox() override { return true; }
#elif FASTSERVE_CAF_1
  void force_close_mailbox() override {}
#endif

  int rank_;
  std::uint64_t address_;
  sink sink_;
};

/// A proxy for the actor known as `address` on `rank`.
inline caf::strong_actor_ptr make_remote_proxy(caf::actor_system& sys, int rank, std::uint64_t address,
                                               remote_proxy::sink out) {
#if FASTSERVE_CAF_HANDLE_CODEC
  caf::actor_config cfg{caf::no_spawn_options};
#else
  caf::actor_config cfg;
#endif
  caf::node_id::default_data::host_id_type host{};
  std::copy_n("fastserve", 9, host.begin());
  auto node = caf::make_node_id(static_cast<std::uint32_t>(rank) + 1, host);
  return caf::make_actor<remote_proxy, caf::strong_actor_ptr>(address, std::move(node), &sys, cfg, rank,
                                                              address, std::move(out));
}

/// The proxy behind a handle, or nullptr when it names a local actor.
inline const remote_proxy* as_remote(const caf::strong_actor_ptr& ptr) {
  return dynamic_cast<const remote_proxy*>(caf::actor_cast<caf::abstract_actor*>(ptr));
}

/// Ends a proxy: whoever monitors it gets `reason`.
inline void kill_proxy(const caf::strong_actor_ptr& ptr, const caf::error& reason) {
  auto* proxy = dynamic_cast<caf::actor_proxy*>(caf::actor_cast<caf::abstract_actor*>(ptr));
  if (proxy != nullptr) proxy->kill_proxy(nullptr, reason);
}

}  // namespace fastserve::mpi
