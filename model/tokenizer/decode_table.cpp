#include "model/tokenizer/decode_table.hpp"

namespace fastserve::model {

void decode_table::push_back(std::string_view first, std::string_view within, bool special) {
  if (first_.empty() && first != within) {
    for (std::size_t i = 0; i < within_.size(); ++i) first_.push_back(within_[i]);
  }
  if (!first_.empty() || first != within) first_.push_back(first);
  within_.push_back(within);
  flags_.push_back(static_cast<std::uint8_t>(is_known | (special ? is_special : 0)));
}

void decode_table::push_gap() {
  if (!first_.empty()) first_.push_back({});
  within_.push_back({});
  flags_.push_back(0);
}

}  // namespace fastserve::model
