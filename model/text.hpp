#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fastserve::model {

/// `raw` in single quotes, fit for one line of an error message: control and non-ASCII bytes become '?', and
/// what is longer than `limit` bytes ends in "...". Names in model files come from outside.
std::string in_quotes(std::string_view raw, std::size_t limit = 120);

/// "[4096, 11008]"
std::string shape_text(std::span<const std::int64_t> shape);

/// "a, b, c"
std::string joined(std::span<const std::string_view> names);

}  // namespace fastserve::model
