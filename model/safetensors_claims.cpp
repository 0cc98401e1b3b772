#include "model/safetensors_claims.hpp"

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "model/json_object.hpp"
#include "model/text.hpp"

namespace fastserve::model {
namespace {

constexpr std::size_t most_dimensions = 16;

/// Reads the header event by event: nothing is built for what does not belong there, so memory stays in
/// proportion to the header and depth is bounded by the states.
class claims_reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit claims_reader(const std::string& file) : file_{file} {}
  std::vector<tensor_claim> take() { return std::move(claims_); }

  bool key(std::string& text) override {
    switch (state_) {
      case state::top:
        if (text == "__metadata__") {
          if (std::exchange(metadata_seen_, true)) fail("'__metadata__' appears twice");
          field_ = field::metadata;
        } else {
          claims_.push_back({text, {}, {}, {}});
          field_ = field::tensor;
          dtype_seen_ = shape_seen_ = offsets_seen_ = false;
        }
        return true;
      case state::metadata:
        return true;
      case state::tensor:
        return tensor_key(text);
      default:
        fail_here("a key");
    }
  }
  bool string(std::string& text) override {
    if (state_ == state::metadata) return true;
    if (state_ != state::tensor || field_ != field::dtype) fail_here("a string");
    once(dtype_seen_, "dtype");
    claims_.back().dtype = text;
    return true;
  }
  bool number_unsigned(std::uint64_t value) override {
    if (state_ != state::list) fail_here("a number");
    auto& list = field_ == field::shape ? claims_.back().shape : claims_.back().offsets;
    if (list.size() == most_dimensions)
      fail_tensor("more than " + std::to_string(most_dimensions) + " numbers in its shape or data_offsets");
    list.push_back(value);
    return true;
  }
  bool start_object(std::size_t) override {
    if (state_ == state::start) {
      state_ = state::top;
    } else if (state_ == state::top) {
      state_ = field_ == field::metadata ? state::metadata : state::tensor;
      field_ = field::none;
    } else {
      fail_here("an object");
    }
    return true;
  }
  bool end_object() override {
    // complete or refused at once: a header of empty objects must not fill the memory
    if (state_ == state::tensor) {
      if (!dtype_seen_) fail_tensor("no dtype");
      if (!shape_seen_) fail_tensor("no shape");
      if (!offsets_seen_) fail_tensor("no data_offsets");
    }
    state_ = state_ == state::top ? state::end : state::top;
    return true;
  }
  bool start_array(std::size_t) override {
    if (state_ != state::tensor || (field_ != field::shape && field_ != field::offsets)) fail_here("a list");
    if (field_ == field::shape) {
      once(shape_seen_, "shape");
    } else {
      once(offsets_seen_, "data_offsets");
    }
    state_ = state::list;
    return true;
  }
  bool end_array() override {
    state_ = state::tensor;
    return true;
  }
  bool null() override { fail_here("null"); }
  bool boolean(bool) override { fail_here("true or false"); }
  bool number_integer(std::int64_t) override { fail_here("a negative number"); }
  bool number_float(double, const std::string&) override { fail_here("a number with a fraction"); }
  bool binary(nlohmann::json::binary_t&) override { fail_here("binary data"); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    fail("header is not valid JSON: " + json_error_text(error));
  }

 private:
  enum class state { start, top, metadata, tensor, list, end };
  enum class field { none, metadata, tensor, dtype, shape, offsets };

  bool tensor_key(std::string_view text) {
    if (text == "dtype") {
      field_ = field::dtype;
    } else if (text == "shape") {
      field_ = field::shape;
    } else if (text == "data_offsets") {
      field_ = field::offsets;
    } else {
      fail_tensor("unknown key " + in_quotes(text, 40) + ", expected dtype, shape and data_offsets");
    }
    return true;
  }
  void once(bool& seen, const char* key) const {
    if (std::exchange(seen, true)) fail_tensor(std::string("its ") + key + " appears twice");
  }
  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(file_ + ": " + what); }
  [[noreturn]] void fail_tensor(const std::string& what) const {
    fail("tensor " + in_quotes(claims_.back().name) + ": " + what);
  }
  [[noreturn]] void fail_here(const std::string& found) const {
    if (state_ == state::start || state_ == state::end) fail("header is " + found + ", expected an object");
    if (state_ == state::metadata || (state_ == state::top && field_ == field::metadata))
      fail("'__metadata__' holds " + found + ", expected an object of strings");
    if (state_ == state::top) fail_tensor("found " + found + ", expected an object");
    fail_tensor("found " + found + ", expected " +
                (field_ == field::dtype ? "a string for its dtype"
                                        : "a list of whole numbers for its shape or data_offsets"));
  }

  const std::string& file_;
  state state_ = state::start;
  field field_ = field::none;
  bool metadata_seen_ = false;
  std::vector<tensor_claim> claims_;
  bool dtype_seen_ = false;
  bool shape_seen_ = false;
  bool offsets_seen_ = false;
};

}  // namespace

std::vector<tensor_claim> read_claims(std::string_view json, const std::string& file) {
  claims_reader reader(file);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  return reader.take();
}

}  // namespace fastserve::model
