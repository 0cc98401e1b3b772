#pragma once

#include <array>
#include <string>
#include <string_view>

namespace fastserve::launch {

/// Okabe and Ito's colours: told apart by everyone.
inline constexpr std::array<const char*, 6> svg_colours{"#0072B2", "#D55E00", "#009E73",
                                                        "#CC79A7", "#E69F00", "#56B4E9"};

/// A text between tags, whatever is in it.
std::string svg_escape(std::string_view text);

}  // namespace fastserve::launch
