#include <boost/test/unit_test.hpp>

#include "../support/temporary_folder.hpp"
#include "expect_error.hpp"
#include "model/safetensors.hpp"
#include "model/safetensors_source.hpp"
#include "safetensors_writer.hpp"

namespace fastserve::model::test {
namespace {

std::vector<safetensors_entry> parse(const std::string& bytes) {
  return parse_safetensors_header(std::as_bytes(std::span(bytes)), "m.safetensors");
}

std::vector<safetensors_entry> parse(const std::string& header, std::size_t data_bytes) {
  return parse(safetensors_bytes(header, std::string(data_bytes, 'x')));
}

void refused(const std::string& header, std::size_t data_bytes,
             std::initializer_list<std::string_view> parts) {
  BOOST_TEST_CONTEXT(header.substr(0, 200)) {
    expect_error([&] { parse(header, data_bytes); }, {"m.safetensors: "});
    expect_error([&] { parse(header, data_bytes); }, parts);
  }
}

/// One tensor's object in JSON.
std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}";
}

}  // namespace

BOOST_AUTO_TEST_CASE(good_headers) {
  BOOST_CHECK(parse("{}", 0).empty());
  BOOST_CHECK(parse("{}     ", 0).empty());  // writers pad with spaces
  BOOST_CHECK(parse(R"({"__metadata__":{"format":"pt"}})", 0).empty());
  const auto entries =
      parse(std::string("{") + tensor("b", "BF16", "[3]", "[24,30]") + ",\"__metadata__\":{}," +
                tensor("a", "F32", "[2,3]", "[0,24]") + "," + tensor("s", "F16", "[]", "[30,32]") + "," +
                tensor("e", "F32", "[0,5]", "[32,32]") + "," + tensor("q", "F4", "[4]", "[32,34]") + "}",
            34);
  BOOST_REQUIRE_EQUAL(entries.size(), 5U);
  BOOST_CHECK_EQUAL(entries[0].name, "a");
  BOOST_CHECK((entries[0].shape == std::vector<std::int64_t>{2, 3}));
  BOOST_CHECK(entries[0].type == kernels::dtype::f32);
  BOOST_CHECK_EQUAL(entries[1].begin - entries[0].begin, 24U);
  BOOST_CHECK_EQUAL(entries[1].end - entries[1].begin, 6U);
  BOOST_CHECK(entries[2].shape.empty());
  BOOST_CHECK(!entries[4].type);
  BOOST_CHECK_EQUAL(entries[4].dtype, "F4");
}

BOOST_AUTO_TEST_CASE(lying_lengths) {
  expect_error([] { parse(std::string{}); }, {"m.safetensors: 0 bytes, expected at least 8", "truncated"});
  expect_error([] { parse(std::string(7, '\0')); }, {"7 bytes"});
  expect_error([] { parse(std::string(8, '\0')); }, {"does not begin with '{'"});
  expect_error([] { parse(std::string(8, '\xff')); },
               {"header claims 18446744073709551615 bytes, expected at most 0"});
  auto bytes = safetensors_bytes("{}", "");
  bytes[0] = 3;
  expect_error([&] { parse(bytes); }, {"header claims 3 bytes, expected at most 2"});
  bytes[0] = 1;
  expect_error([&] { parse(bytes); }, {"header is not valid JSON"});
  // a header larger than the limit, in a file that has it
  const std::string large(100'000'001, ' ');
  expect_error([&] { parse(safetensors_bytes(large, "")); },
               {"header claims 100000001 bytes, expected at most 100000000"});
  expect_error([] { parse("PK\x03\x04 some zip archive with pickles"); },
               {"header claims", "not a safetensors file"});
}

BOOST_AUTO_TEST_CASE(bad_json) {
  refused("[]", 0, {"does not begin with '{'"});
  refused(" {}", 0, {"does not begin with '{'"});
  refused("{", 0, {"header is not valid JSON"});
  refused("{}}", 0, {"header is not valid JSON"});
  refused("{\"a\":1}", 0, {"tensor 'a': found a number, expected an object"});
  refused("{\"a\":null}", 0, {"tensor 'a': found null"});
  refused("{\"a\":[]}", 0, {"tensor 'a': found a list"});
  refused("{\"a\":\"F32\"}", 0, {"tensor 'a': found a string"});
  refused("{\"a\":{}}", 0, {"tensor 'a': no dtype"});
  refused("{\"a\":{\"dtype\":\"F32\"}}", 0, {"tensor 'a': no shape"});
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, {"tensor 'a': no data_offsets"});
  refused("{\"a\":{\"dtype\":{}}}", 0, {"tensor 'a': found an object, expected a string for its dtype"});
  refused("{\"a\":{\"dtype\":[\"F32\"]}}", 0, {"tensor 'a': found a list"});
  refused("{\"a\":{\"dtype\":32}}", 0, {"tensor 'a': found a number"});
  refused("{\"a\":{\"shape\":\"3\"}}", 0, {"tensor 'a': found a string", "list of whole numbers"});
  refused("{\"a\":{\"shape\":[[3]]}}", 0, {"tensor 'a': found a list"});
  refused("{\"a\":{\"shape\":[-3]}}", 0, {"tensor 'a': found a negative number"});
  refused("{\"a\":{\"shape\":[1.5]}}", 0, {"tensor 'a': found a number with a fraction"});
  refused("{\"a\":{\"shape\":[18446744073709551616]}}", 0, {"tensor 'a': found a number with a fraction"});
  refused("{\"a\":{\"shape\":[1e999]}}", 0, {"not valid JSON"});
  refused("{\"a\":{\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}", 0, {"tensor 'a': more than 16 numbers"});
  refused("{\"a\":{\"strides\":[1]}}", 0,
          {"tensor 'a': unknown key 'strides'", "dtype, shape and data_offsets"});
  refused("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, {"tensor 'a': its dtype appears twice"});
  refused("{\"a\":{\"shape\":[],\"shape\":[]}}", 0, {"tensor 'a': its shape appears twice"});
  refused("{\"__metadata__\":{\"a\":1}}", 0, {"'__metadata__' holds a number"});
  refused("{\"__metadata__\":[]}", 0, {"'__metadata__' holds a list"});
  refused("{\"__metadata__\":{\"a\":{}}}", 0, {"'__metadata__' holds an object"});
  refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, {"'__metadata__' appears twice"});
  refused("{\"a\xff\":{}}", 0, {"not valid JSON"});
  // deep nesting, which a recursive parser would not survive
  refused("{\"a\":" + std::string(1'000'000, '['), 0, {"tensor 'a': found a list"});
  std::string objects = "{";
  for (int i = 0; i < 100'000; ++i) objects += "\"a\":{";
  refused(objects, 0, {"tensor 'a'"});
  refused("{\"" + std::string(100'000, 'n') + "\":1}", 0, {"tensor 'nnn", "...'"});
}

BOOST_AUTO_TEST_CASE(bad_tensors) {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return std::string("{") + tensor("w", dtype, shape, offsets) + "}";
  };
  refused(one("F99", "[1]", "[0,4]"), 4, {"tensor 'w': dtype is 'F99'", "F32, F16, BF16"});
  refused(one("F32", "[2,3]", "[0,20]"), 20,
          {"tensor 'w'", "[0, 20]", "20 bytes, expected 24 for F32 [2, 3]"});
  refused(one("BF16", "[2,3]", "[0,24]"), 24, {"24 bytes, expected 12 for BF16 [2, 3]"});
  refused(one("F32", "[2]", "[0,8]"), 4,
          {"tensor 'w': data_offsets are [0, 8], but the file has 4 bytes", "truncated"});
  refused(one("F32", "[2]", "[0,18446744073709551615]"), 8,
          {"[0, 18446744073709551615], but the file has 8 bytes"});
  refused(one("F32", "[2]", "[8,0]"), 8, {"[8, 0], expected begin <= end"});
  refused(one("F32", "[2]", "[0]"), 8, {"data_offsets holds 1 numbers, expected 2"});
  refused(one("F32", "[2]", "[0,4,8]"), 8, {"data_offsets holds 3 numbers"});
  // products that wrap around to the right number of bytes: 2^62 * 4 * 4 is 0 in 64 bits
  refused(one("F32", "[4611686018427387904,4]", "[0,0]"), 0,
          {"F32 [4611686018427387904, 4]", "fits 64 bits"});
  refused(one("F32", "[4294967296,4294967297]", "[0,16]"), 16, {"fits 64 bits"});
  refused(one("F32", "[9223372036854775808]", "[0,0]"), 0, {"a dimension is 9223372036854775808"});
  refused(one("F4", "[3]", "[0,2]"), 2, {"F4 [3] has no size in whole bytes"});
  BOOST_CHECK_NO_THROW(parse(one("F32", "[0,4611686018427387904,4611686018427387904]", "[0,0]"), 0));
}

BOOST_AUTO_TEST_CASE(bad_layouts) {
  const auto two = [](const std::string& first, const std::string& second, const std::string& name = "b") {
    return std::string("{") + tensor("a", "F32", "[2]", first) + "," + tensor(name, "F32", "[2]", second) +
           "}";
  };
  BOOST_CHECK_EQUAL(parse(two("[8,16]", "[0,8]"), 16).size(), 2U);
  refused(two("[0,8]", "[4,12]"), 12, {"tensor 'b': data begins at byte 4, expected 8", "'a'", "overlap"});
  refused(two("[0,8]", "[0,8]"), 8, {"tensor 'b': data begins at byte 0, expected 8", "overlap"});
  refused(two("[0,8]", "[12,20]"), 20, {"tensor 'b': data begins at byte 12, expected 8", "hole"});
  refused(two("[4,12]", "[12,20]"), 20, {"tensor 'a': data begins at byte 4, expected 0", "hole"});
  refused(two("[0,8]", "[8,16]"), 20, {"20 bytes of data, expected 16"});
  refused(two("[0,8]", "[8,16]", "a"), 16, {"tensor 'a' appears twice"});
  refused("{}", 1, {"1 bytes of data, expected 0"});
}

BOOST_AUTO_TEST_CASE(files) {
  const temporary_folder folder;
  expect_error([&] { safetensors_file file(folder.path() / "none"); },
               {"none: cannot be opened: No such file"});
  expect_error([&] { safetensors_file file(folder.path()); }, {"not a regular file"});
  expect_error([&] { safetensors_file file(folder.write("empty", "")); }, {"empty: 0 bytes"});

  const std::vector<tensor_spec> specs{{"x", {2, 3}, false, false}, {"y", {5}, true, true}};
  safetensors_file file(folder.write("good", safetensors_of(specs, kernels::dtype::f32)));
  BOOST_REQUIRE(file.find("x") != nullptr && file.find("y") != nullptr);
  BOOST_CHECK(file.find("z") == nullptr && file.find("") == nullptr);
  float value = 0;
  std::memcpy(&value, file.bytes(*file.find("y")).data() + 16, 4);
  BOOST_CHECK_EQUAL(value, 1.0F);
  BOOST_CHECK_EQUAL(file.bytes(*file.find("x")).size(), 24U);

  auto moved = std::move(file);
  BOOST_CHECK_EQUAL(moved.bytes(*moved.find("x")).size(), 24U);
  auto cut = safetensors_of(specs, kernels::dtype::f32);
  cut.pop_back();
  expect_error([&] { safetensors_file bad(folder.write("cut", cut)); }, {"cut: tensor 'y'", "truncated"});
}

BOOST_AUTO_TEST_CASE(shard_index) {
  const auto parse_index = [](const std::string& text) { return parse_shard_index(text, "i.json"); };
  const auto good =
      parse_index(R"({"metadata":{"total_size":7,"x":[1,{"y":null}]},"weight_map":{"a":"1.st","b":"2.st"}})");
  BOOST_CHECK_EQUAL(good.size(), 2U);
  BOOST_CHECK_EQUAL(good.at("b"), "2.st");
  const auto bad = [&](const std::string& text, std::initializer_list<std::string_view> parts) {
    BOOST_TEST_CONTEXT(text.substr(0, 100)) {
      expect_error([&] { parse_index(text); }, {"i.json: "});
      expect_error([&] { parse_index(text); }, parts);
    }
  };
  bad("", {"not valid JSON"});
  bad("{}", {"weight_map is missing"});
  bad("[]", {"holds a list"});
  bad("3", {"holds a number"});
  bad(R"({"weight_map":[]})", {"weight_map is a list"});
  bad(R"({"weight_map":null})", {"weight_map is null"});
  bad(R"({"weight_map":"x"})", {"weight_map holds a string"});
  bad(R"({"weight_map":{"a":1}})", {"tensor 'a' is said to be in a number"});
  bad(R"({"weight_map":{"a":{"b":"c"}}})", {"tensor 'a' is said to be in an object"});
  bad(R"({"weight_map":{"a":"x","a":"y"}})", {"tensor 'a' appears twice"});
  bad(R"({"weight_map":{},"weight_map":{}})", {"weight_map appears twice"});
  for (const auto* way : {"../x", "/etc/passwd", "a/b", "..", ".", "", "a\\\\b", "a\\u0000b"})
    bad(std::string(R"({"weight_map":{"a":")") + way + "\"}}",
        {"tensor 'a' is said to be in '", "in this folder"});
  bad("{\"metadata\":" + std::string(100'000, '['), {"nested more than 16"});
}

}  // namespace fastserve::model::test
