#include "launch/text_file.hpp"

#include <sys/stat.h>

#include <fstream>
#include <stdexcept>

#include "launch/parse_value.hpp"

namespace fastserve::launch {

std::string read_text_file(const std::string& path, std::string_view what, std::size_t max_bytes) {
  const std::string kind{what};
  struct stat facts {};
  if (path.empty() || ::stat(path.c_str(), &facts) != 0)
    throw std::runtime_error{kind + " " + in_quotes(path) + " does not exist or cannot be read"};
  if (S_ISDIR(facts.st_mode)) throw std::runtime_error{path + ": is a folder, not a " + kind};
  std::ifstream in{path, std::ios::binary};
  if (!in) throw std::runtime_error{path + ": cannot be read"};
  // One byte more than allowed tells; the size that stat gives means nothing for a pipe.
  std::string text(max_bytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > max_bytes)
    throw std::runtime_error{path + ": larger than " + std::to_string(max_bytes) + " bytes"};
  return text;
}

}  // namespace fastserve::launch
