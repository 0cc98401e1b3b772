#include "launch/batch_record.hpp"

#include <bit>
#include <cstring>
#include <stdexcept>

#include "launch/batch_crc.hpp"

namespace fastserve::launch {

namespace {

static_assert(std::endian::native == std::endian::little, "the journal is little-endian");

constexpr std::string_view magic = "FSBATCH2";
constexpr std::size_t frame_bytes = magic.size() + 2 * sizeof(std::uint32_t);
constexpr std::size_t checked_bytes = batch_record::bytes - sizeof(std::uint32_t);

std::string bytes_of(const batch_record& record) {
  std::string out(batch_record::bytes, '\0');
  std::memcpy(out.data(), &record, batch_record::bytes);
  return out;
}

}  // namespace

std::string encode_record(batch_record record) {
  record.crc = crc32c(std::string_view{bytes_of(record)}.substr(0, checked_bytes));
  return bytes_of(record);
}

std::optional<batch_record> decode_record(std::string_view bytes) {
  if (bytes.size() != batch_record::bytes) return std::nullopt;
  batch_record out;
  std::memcpy(&out, bytes.data(), batch_record::bytes);
  if (crc32c(bytes.substr(0, checked_bytes)) != out.crc) return std::nullopt;
  return out;
}

std::string encode_header(std::string_view text) {
  if (text.size() > most_header_bytes - frame_bytes)
    throw std::runtime_error("the settings are too long for a batch's journal");
  const std::uint32_t numbers[2] = {static_cast<std::uint32_t>(text.size()), crc32c(text)};
  std::string out{magic};
  out.append(reinterpret_cast<const char*>(numbers), sizeof numbers);
  return out.append(text);
}

std::optional<batch_header> decode_header(std::string_view front) {
  if (front.size() < frame_bytes || !front.starts_with(magic)) return std::nullopt;
  std::uint32_t numbers[2] = {};
  std::memcpy(numbers, front.data() + magic.size(), sizeof numbers);
  front.remove_prefix(frame_bytes);
  if (numbers[0] > front.size()) return std::nullopt;
  const auto text = front.substr(0, numbers[0]);
  if (crc32c(text) != numbers[1]) return std::nullopt;
  return batch_header{std::string{text}, frame_bytes + text.size()};
}

}  // namespace fastserve::launch
