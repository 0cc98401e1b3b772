#pragma once

#include <optional>
#include <string>
#include <string_view>

/// The byte-level alphabet of GPT-2: each of the 256 bytes is written as one printable character, so that a
/// vocabulary of byte strings fits into a JSON of text. Printable Latin-1 stands for itself; the other 68
/// bytes are U+0100, U+0101, ... in order.
namespace fastserve::model {

/// The bytes that `token` stands for, or nothing if it holds a character outside of the alphabet.
std::optional<std::string> bytes_of_alphabet(std::string_view token);

/// `bytes` written in the alphabet.
std::string alphabet_of_bytes(std::string_view bytes);

}  // namespace fastserve::model
