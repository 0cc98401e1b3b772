#pragma once

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fastserve::model::test {

/// The call must throw std::runtime_error with one short line that holds every part.
template <class F>
void expect_error(F&& call, std::initializer_list<std::string_view> parts) {
  try {
    call();
  } catch (const std::runtime_error& e) {
    const std::string text = e.what();
    for (const auto part : parts)
      BOOST_CHECK_MESSAGE(text.find(part) != std::string::npos, "no \"" << part << "\" in: " << text);
    BOOST_CHECK_MESSAGE(std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; }),
                        "not one line of plain text: " << text);
    BOOST_CHECK_MESSAGE(text.size() < 800, "too long: " << text);
    return;
  }
  BOOST_ERROR("no error, expected one with \"" << (parts.size() > 0 ? *parts.begin() : "") << "\"");
}

}  // namespace fastserve::model::test
