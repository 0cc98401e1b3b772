#include "actors/shard.hpp"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "actors/median.hpp"

namespace fastserve::actors {

namespace {

// How long a stage waits for the activations of a step that it was told of. Far beyond any step; a dead peer
// is found by other means, and then the epoch ends and with it the wait.
constexpr std::chrono::minutes activation_deadline{10};

// For all GPUs of a pipeline to meet. NCCL takes a second or two; a rank that dies meanwhile ends the epoch.
constexpr std::chrono::seconds link_deadline{60};

// Turnarounds kept between two requests for the counts.
constexpr std::size_t most_turnarounds = 1 << 16;

// Between two reports of how far the weights have come.
constexpr std::chrono::milliseconds progress_period{100};

// Whether FASTSERVE_AHEAD wants steps before the tokens of those before are known: "1" does, "0" does not;
// unset, where tokens are drawn on a device, for elsewhere nothing would overlap.
bool wants_ahead(const kernels::backend& on) {
  const char* value = std::getenv("FASTSERVE_AHEAD");
  if (value == nullptr) return on.draws();
  const std::string_view wanted{value};
  if (wanted != "0" && wanted != "1")
    throw std::runtime_error("FASTSERVE_AHEAD is '" + std::string{wanted} + "', expected 0 or 1");
  return wanted == "1";
}

// What another rank says is not followed blindly: its numbers become addresses.
void require_sound(const micro_batch& work, const stage_assignment& place, std::int64_t vocabulary,
                   std::int32_t kv_blocks) {
  const auto wrong = [](const char* what) { throw std::invalid_argument(std::string{"step: "} + what); };
  std::int64_t rows = 0;
  std::int64_t blocks = 0;
  std::int64_t draws = 0;
  for (const auto& s : work.sequences) {
    if (s.tokens <= 0 || s.blocks < 0 || s.draws < 0 || s.first_position < 0) wrong("a number below 0");
    if (std::int64_t{s.first_position} + s.tokens > std::int64_t{s.blocks} * kernels::kv_block_tokens)
      wrong("rows beyond their blocks");
    rows += s.tokens;
    blocks += s.blocks;
    draws += s.draws;
  }
  if (rows != std::ssize(work.tokens) || blocks != std::ssize(work.blocks) || draws != std::ssize(work.draws))
    wrong("the parts do not add up");
  if (rows > place.max_rows || std::ssize(work.sequences) > place.max_sequences)
    wrong("more rows than the stage has room for");
  for (const auto b : work.blocks)
    if (b < 0 || b >= kv_blocks) wrong("no such block");
  for (const auto id : work.tokens)
    if (id >= vocabulary) wrong("no such token");
}

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

shard::shard(rank_context& context)
    : context_{context}, stream_{context.backend->make_stream()}, drawer_{*context.backend} {
  stats_.rank = context.profile.rank;
  for (auto& m : marks_) m = context.backend->make_mark();
}

link_offer shard::offer_link() {
  link_offer offer;
  offer.rank = context_.profile.rank;
  try {
    if (context_.linked == nullptr) throw std::runtime_error("no device here can be linked");
    offer.id = context_.linked->make_id();
  } catch (const std::exception& e) {
    offer.error = e.what();
  }
  return offer;
}

stage_ready shard::load(const stage_assignment& place) {
  const auto start = now_ns();
  stage_ready ready;
  ready.rank = context_.profile.rank;
  forget_steps();
  kv_.reset();
  place_ = place;
  try {
    if (place.epoch < context_.vitals->epoch)
      throw std::runtime_error("rank " + std::to_string(ready.rank) + " is in epoch " +
                               std::to_string(context_.vitals->epoch) + ", beyond " +
                               std::to_string(place.epoch));
    ready.runs_ahead = wants_ahead(*context_.backend);
    join_link(place);
    load_weights(place, ready);
    ready.channel = channel_to_next();
    ready.free_bytes = context_.backend->info().memory_bytes / context_.memory_sharers;
  } catch (const std::exception& e) {
    ready.error = e.what();
  }
  ready.load_ns = now_ns() - start;
  return ready;
}

// Those of an epoch that is over: their tokens are for nobody.
void shard::forget_steps() {
  while (waits()) collect(true);
  drawn_for_.clear();
}

// Before the weights are loaded: every member comes at about the same time.
void shard::join_link(const stage_assignment& place) {
  if (context_.linked == nullptr) return;
  const auto largest = static_cast<std::size_t>(place.max_rows) *
                       static_cast<std::size_t>(context_.architecture.hidden_size) * sizeof(float);
  if (!context_.linked->join({place.epoch, place.link_id, place.link_ranks}, largest, link_deadline))
    throw std::runtime_error("rank " + std::to_string(context_.profile.rank) +
                             ": the GPUs of this pipeline did not all meet; --link host does without");
}

std::string shard::channel_to_next() const {
  if (place_.next_rank < 0 || place_.first_layer == place_.last_layer) return {};
  return context_.linked != nullptr ? context_.linked->name_to(place_.next_rank)
                                    : std::string{context_.channel->name()};
}

void shard::load_weights(const stage_assignment& place, stage_ready& ready) {
  const bool spare = place.first_layer == place.last_layer;
  model::stage_options options;
  options.range = {place.first_layer, place.last_layer, place.previous_rank < 0, place.next_rank < 0};
  if (spare)
    options.range = {place.held_first, place.held_last, place.held_first == 0,
                     place.held_last == context_.architecture.layers};
  options.compute = context_.compute_type;
  options.rounded = context_.quantize;
  options.max_rows = place.max_rows;
  options.max_sampled = place.max_sequences;

  auto kept = stage_ ? std::optional{stage_->take_weights()} : std::move(held_);
  held_.reset();
  stage_.reset();
  if (kept) kept->keep_only(options.range);
  if (options.range.first_layer == options.range.last_layer) return;

  auto reported = std::chrono::steady_clock::now() - progress_period;
  const auto report = [&](std::size_t done, std::size_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (now - reported < progress_period && done < total) return;
    reported = now;
    context_.report_progress({context_.profile.rank, done, total});
  };
  if (!source_) source_ = context_.open_weights();
  if (spare) {
    held_.emplace(context_.architecture, *source_, options.range,
                  model::weight_form{options.compute, options.rounded}, *context_.backend, *stream_, report,
                  kept ? &*kept : nullptr, context_.packed.get());
    ready.weight_bytes = held_->bytes();
    ready.read_bytes = held_->read_bytes();
    ready.cached_bytes = held_->cached_bytes();
    return;
  }
  stage_ = std::make_unique<model::stage>(context_.architecture, *source_, options, *context_.backend, report,
                                          kept ? &*kept : nullptr, context_.packed.get());
  ready.weight_bytes = stage_->weight_bytes();
  ready.step_bytes = stage_->step_weight_bytes();
  ready.read_bytes = stage_->weights().read_bytes();
  ready.cached_bytes = stage_->weights().cached_bytes();
  ready.kv_block_bytes = stage_->kv_shape(1, context_.kv_type).block_bytes();
}

kv_need shard::need() const {
  return {place_.epoch, stage_ ? stage_->kv_shape(0, context_.kv_type) : kernels::kv_shape{}};
}

void shard::use(const kv_handle& kv) {
  if (kv.epoch == place_.epoch) kv_ = kv.store;
}

void shard::fill_layout(const micro_batch& work) {
  layout_.token_ids = work.tokens;
  layout_.positions.clear();
  layout_.sampled_rows.clear();
  layout_.sequences.resize(work.sequences.size());
  layout_.drawn = drawer_.on_device();
  next_name_ = 0;
  auto unknown =
      std::count_if(work.tokens.begin(), work.tokens.end(), [](std::int32_t id) { return id < 0; });
  std::int32_t row = 0;
  auto blocks = std::span{work.blocks};
  for (std::size_t i = 0; i < work.sequences.size(); ++i) {
    const auto& s = work.sequences[i];
    auto& to = layout_.sequences[i];
    to.first_row = row;
    to.rows = s.tokens;
    to.first_position = s.first_position;
    const auto mine = blocks.first(static_cast<std::size_t>(s.blocks));
    to.blocks.assign(mine.begin(), mine.end());
    blocks = blocks.subspan(mine.size());
    for (std::int32_t r = 0; r < to.rows; ++r) layout_.positions.push_back(s.first_position + r);
    const auto first = static_cast<std::size_t>(row);
    if (first < work.tokens.size() && s.tokens == 1 && work.tokens[first] == scheduler::coming_token) {
      layout_.token_ids[first] = name_of(s.request);
      --unknown;
    }
    row += s.tokens;
    if (s.draws > 0) layout_.sampled_rows.push_back(row - 1);
  }
  if (unknown > 0) throw std::invalid_argument("step: a token id below 0");
}

// What the device knows the token by that the step before draws for the request. Requests mostly come in the
// order that they had there.
std::int32_t shard::name_of(std::uint64_t request) {
  for (std::size_t n = 0; n < drawn_for_.size(); ++n) {
    const auto i = (next_name_ + n) % drawn_for_.size();
    if (drawn_for_[i] != request) continue;
    next_name_ = i + 1;
    return drawer_.name(i);
  }
  throw std::invalid_argument("step: a token is to come that the step before does not draw");
}

std::vector<step_result> shard::run(const micro_batch& work) {
  std::vector<step_result> out;
  if (work.epoch != place_.epoch || work.epoch < context_.vitals->epoch || !stage_) return out;
  flight f;
  f.result.epoch = work.epoch;
  f.result.step = work.step;
  try {
    while (flying_.size() >= kernels::most_draws_begun) out.push_back(land());
    if (!compute(work, f)) return out;  // the epoch is over
  } catch (const std::exception& e) {
    f.result.error = failure(e);
    f.result.tokens.clear();
    out.push_back(std::move(f.result));
    return out;
  }
  if (place_.next_rank >= 0) return out;
  flying_.push_back(std::move(f));
  do {
    for (auto& r : collect(!work.followed)) out.push_back(std::move(r));
  } while (waits() && !work.followed);
  return out;
}

// Queues the step, on the last stage with its draws.
bool shard::compute(const micro_batch& work, flight& out) {
  const bool first = place_.previous_rank < 0;
  const bool last = place_.next_rank < 0;
  if (!kv_) throw std::logic_error("a step came before the KV store");
  require_sound(work, place_, context_.architecture.vocab_size, kv_->shape().blocks);
  fill_layout(work);
  const auto rows = out.rows = static_cast<std::int32_t>(layout_.token_ids.size());
  const mpi::tensor_key key{work.epoch, work.step};

  auto start = now_ns();
  if (first && work.cause_ns > 0 && flying_.empty() && turnarounds_ns_.size() < most_turnarounds)
    turnarounds_ns_.push_back(start - work.cause_ns);
  out.begun_ns = start;
  // While the device still computes the step before, or the activations are on their way.
  const auto step = stage_->prepare(layout_, *kv_, *stream_);
  const auto prepared = start = now_ns();
  if (!first) {
    const bool came = context_.channel->receive(place_.previous_rank, key, stage_->hidden(rows),
                                                *context_.backend, *stream_, activation_deadline);
    if (!came) {
      if (now_ns() - start < std::chrono::nanoseconds{activation_deadline}.count()) return false;
      throw std::runtime_error("no activations of rank " + std::to_string(place_.previous_rank) +
                               " came in " + std::to_string(activation_deadline.count()) + " minutes");
    }
    const auto arrived = now_ns();
    stats_.receive_ns += arrived - start;
    start = arrived;
  }
  if (!context_.moves->wait(work.epoch, work.ticket)) return false;
  const auto moved = now_ns();
  stats_.move_ns += moved - start;
  out.begun_ns += moved - prepared;
  stage_->forward(step, *kv_, *stream_);
  tell_recording_failure();
  if (last) {
    const auto forwarded = now_ns();
    begin_draw(work, out.result);
    if (out.result.tokens.empty()) {
      out.done = marks_[next_mark_++ % marks_.size()].get();
      out.done->set(*stream_);
    }
    stats_.draw_ns += now_ns() - forwarded;
  } else {
    context_.channel->send(place_.next_rank, key, stage_->hidden(rows), *context_.backend, *stream_);
    count(rows, now_ns() - out.begun_ns);
  }
  return true;
}

// Answers stay the same, so nobody would know why they are late.
void shard::tell_recording_failure() {
  const auto why = stage_->recording_failure();
  if (why.empty() || std::exchange(told_recording_failure_, true)) return;
  std::fprintf(
      stderr,
      "fastserve: rank %d: steps are launched kernel by kernel, which is slower, as graphs fail (%.*s)\n",
      context_.profile.rank, static_cast<int>(why.size()), why.data());
}

void shard::begin_draw(const micro_batch& work, step_result& out) {
  wanted_.clear();
  drawn_for_.clear();
  out.tokens.reserve(work.draws.size());
  std::int32_t row = 0;
  auto order = work.draws.begin();
  for (const auto& s : work.sequences) {
    const auto position = static_cast<std::uint64_t>(s.first_position + s.tokens);
    for (std::int32_t i = 0; i < s.draws; ++i, ++order) {
      wanted_.push_back({&order->how, position, row, order->prompt, order->answer});
      out.tokens.push_back({order->request, {}});
      drawn_for_.push_back(order->request);
    }
    row += s.draws > 0 ? 1 : 0;
  }
  if (!wanted_.empty()) drawer_.begin(wanted_, stage_->logits(row), *stream_);
}

// Whether the oldest step is done. One that draws nothing, too: what it reads and writes of the KV store is
// taken for free, or copied by other streams, once its result is out.
bool shard::landed() {
  const auto& f = flying_.front();
  return f.done != nullptr ? f.done->passed() : drawer_.done();
}

std::vector<step_result> shard::collect(bool wait) {
  std::vector<step_result> out;
  try {
    for (; waits() && (wait || landed()); wait = false) out.push_back(land());
  } catch (const std::exception& e) {
    auto f = std::move(flying_.front());
    flying_.pop_front();
    f.result.error = failure(e);
    f.result.tokens.clear();
    out.push_back(std::move(f.result));
  }
  return out;
}

// The oldest step's result, when its tokens are there.
step_result shard::land() {
  const auto start = now_ns();
  auto& f = flying_.front();
  if (f.done != nullptr) {
    f.done->wait();
  } else {
    const auto tokens = drawer_.end();
    for (std::size_t i = 0; i < tokens.size(); ++i) f.result.tokens[i].token = std::move(tokens[i]);
  }
  const auto landed = f.result.drawn_ns = now_ns();
  stats_.draw_ns += landed - start;
  // One that ran ahead began on the device when the one before had ended there.
  count(f.rows, landed - std::max(f.begun_ns, landed_ns_));
  landed_ns_ = landed;
  auto result = std::move(f.result);
  flying_.pop_front();
  return result;
}

void shard::count(std::int32_t rows, std::int64_t compute_ns) {
  stats_.compute_ns += compute_ns;
  stats_.steps += 1;
  stats_.rows += static_cast<std::uint64_t>(rows);
  context_.vitals->steps += 1;
  context_.vitals->rows += static_cast<std::uint64_t>(rows);
  context_.vitals->compute_ns += compute_ns;
}

std::string shard::failure(const std::exception& e) const {
  return "rank " + std::to_string(context_.profile.rank) + ": " + e.what();
}

executor_stats shard::take_stats() {
  auto out = stats_;
  if (!turnarounds_ns_.empty()) out.median_turnaround_ns = median(std::exchange(turnarounds_ns_, {}));
  stats_ = {};
  stats_.rank = context_.profile.rank;
  return out;
}

}  // namespace fastserve::actors
