#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fastserve::launch {

/// One record of a batch's journal, as the file holds it (little-endian).
struct batch_record {
  std::uint64_t request = 0;        ///< from 0; all ones in the record that ends a finished batch
  std::uint64_t end_line = 0;       ///< of the input, behind the request
  std::uint64_t end_offset = 0;     ///< of the input, behind the request
  std::uint64_t input_bytes = 0;    ///< of the request's line
  std::uint64_t output_offset = 0;  ///< of the answer's line
  std::uint64_t id_low = 0;         ///< digest of the custom_id in the output, see batch_id_set.hpp
  std::uint64_t id_high = 0;
  std::uint32_t output_bytes = 0;  ///< of the answer's line, its newline included
  std::uint32_t output_crc = 0;    ///< CRC-32C of these bytes
  std::uint32_t what = 0;          ///< batch_journal::kind, or record_of_end
  std::uint32_t crc = 0;           ///< CRC-32C of all fields before

  static constexpr std::uint64_t bytes = 72;
  static constexpr std::uint32_t record_of_end = 3;
  static constexpr std::uint32_t record_of_claim = 4;  ///< `request` is the rank that leads from here on
};
static_assert(sizeof(batch_record) == batch_record::bytes);

/// The record's bytes, with its checksum.
std::string encode_record(batch_record record);
/// Null when the checksum is not that of the fields. `bytes` has batch_record::bytes of them.
std::optional<batch_record> decode_record(std::string_view bytes);

/// The text at the journal's front: when the batch began and its identity, framed with length and checksum.
std::string encode_header(std::string_view text);
/// What is in front of the records: the text and how many bytes it takes with its frame.
struct batch_header {
  std::string text;
  std::uint64_t bytes = 0;
};
/// Null for anything that encode_header did not make, or not all of it. `front`: the file's first bytes.
std::optional<batch_header> decode_header(std::string_view front);

/// The longest header with its frame.
constexpr std::size_t most_header_bytes = std::size_t{16} << 20;

}  // namespace fastserve::launch
