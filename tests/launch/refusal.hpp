#pragma once

#include <boost/test/unit_test.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

/// `read` of the text must throw a std::runtime_error of one line that begins with `message`.
template <typename Read>
void check_refused_by(Read read, std::string_view text, const std::string& message) {
  try {
    read(text);
    BOOST_ERROR("not refused: " << text);
  } catch (const std::runtime_error& error) {
    const std::string what = error.what();
    BOOST_TEST_CONTEXT(what << "\n" << text) {
      BOOST_TEST(what.starts_with(message));
      BOOST_TEST(what.find('\n') == std::string::npos);
    }
  }
}
