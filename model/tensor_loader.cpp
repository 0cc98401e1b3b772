#include "model/tensor_loader.hpp"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <utility>

namespace fastserve::model {
namespace {

/// Where a part lies, to put parts in order.
std::pair<const std::filesystem::path*, std::size_t> place_of(const file_part& part) {
  return {&part.file->path(), part.offset()};
}

bool lies_before(const file_part& a, const file_part& b) {
  const auto [file_a, offset_a] = place_of(a);
  const auto [file_b, offset_b] = place_of(b);
  return *file_a != *file_b ? *file_a < *file_b : offset_a < offset_b;
}

std::string text_of(const kernels::packed_form& form) {
  std::string out = std::to_string(form.cols) + " columns";
  if (form.formats.empty()) out += " of " + std::string(kernels::name_of(form.compute));
  for (std::size_t i = 0; i < form.rows.size(); ++i) {
    out += "; " + std::to_string(form.rows[i]) + " rows";
    if (!form.formats.empty()) out += " of " + kernels::to_string(form.formats[i]);
  }
  return out;
}

kernels::quantized_matrix rows_of(const kernels::quantized_matrix& m, std::int64_t first,
                                  std::int64_t count) {
  return m.row_range(first, count);
}
kernels::host_matrix rows_of(kernels::host_matrix m, std::int64_t first, std::int64_t count) {
  const auto row_bytes = static_cast<std::size_t>(m.cols) * kernels::size_of(m.type);
  m.data = static_cast<const std::byte*>(m.data) + static_cast<std::size_t>(first) * row_bytes;
  m.rows = count;
  return m;
}

/// Rows of all parts, `turn` of each at a time.
template <class Matrix>
std::vector<Matrix> in_turns(const std::vector<Matrix>& parts, std::int64_t turn) {
  if (turn == 0) return parts;
  std::vector<Matrix> out;
  for (std::int64_t first = 0; first < parts.front().rows; first += turn)
    for (const auto& part : parts) out.push_back(rows_of(part, first, turn));
  return out;
}

}  // namespace

bool tensor_loader::can_take_turns(const matrix_stack& stack, std::int64_t turn) {
  if (turn == 0 || stack.transposed) return false;
  const auto& first = stack.parts.front();
  return std::all_of(stack.parts.begin(), stack.parts.end(), [&](const auto& part) {
    return part.rows == first.rows && part.rows % turn == 0 &&
           source_.describe(part.name).quantized == source_.describe(first.name).quantized;
  });
}

bool tensor_loader::keeps_codes(const matrix_stack& stack) {
  return !stack.transposed && std::all_of(stack.parts.begin(), stack.parts.end(), [&](const auto& part) {
    const auto format = source_.describe(part.name).quantized;
    return format && (on_.multiplies_fp8() || !kernels::is_fp8(*format));
  });
}

void tensor_loader::expect(const matrix_stack& stack,
                           const std::optional<kernels::quantized_format>& rounded) {
  plan how;
  how.rounded = rounded;
  how.stored = keeps_codes(stack);
  how.form.cols = stack.cols;
  how.form.compute = compute_;
  for (const auto& part : stack.parts) {
    how.form.rows.push_back(part.rows);
    if (how.stored)
      how.form.formats.push_back(*source_.describe(part.name).quantized);
    else if (rounded)
      how.form.formats.push_back(*rounded);
  }
  if (cache_ != nullptr) {
    how.key = key_of(stack, how);
    if (!how.key.empty()) how.found = cache_->find(how.key);
  }
  if (!how.found)
    for (const auto& part : stack.parts) expect(part.name);
  plans_.insert_or_assign(stack.parts.front().name, std::move(how));
}

std::string tensor_loader::key_of(const matrix_stack& stack, const plan& how) {
  const auto layout = on_.packed_layout();
  if (layout.empty()) return {};
  std::string out = "fastserve packed weight\n" + layout + '\n' + text_of(how.form) + '\n' +
                    (how.stored    ? "codes as stored"
                     : how.rounded ? "rounded to nearest"
                                   : "numbers") +
                    (stack.turn > 0 ? ", in turns of " + std::to_string(stack.turn) : "") +
                    (stack.transposed ? ", transposed\n" : "\n");
  for (const auto& part : stack.parts) {
    const auto print = source_.fingerprint(part.name);
    if (print.empty()) return {};
    out += print + '\n';
  }
  return out;
}

std::vector<std::size_t> tensor_loader::start() {
  std::vector<std::vector<file_part>> parts(groups_.size());
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (const auto& name : groups_[g])
      for (const auto& part : source_.file_parts(name)) parts[g].push_back(part);
    std::sort(parts[g].begin(), parts[g].end(), lies_before);
  }
  std::vector<std::size_t> order(groups_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // what lies in no file keeps its place
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (parts[a].empty() || parts[b].empty()) return parts[a].empty() && !parts[b].empty();
    return lies_before(parts[a].front(), parts[b].front());
  });
  std::vector<file_part> all;
  for (const auto g : order) all.insert(all.end(), parts[g].begin(), parts[g].end());
  reading_ = std::make_unique<read_ahead>(all);
  return order;
}

void tensor_loader::wait_for(const std::string& name) {
  if (reading_)
    for (const auto& part : source_.file_parts(name)) reading_->wait_for(part);
}

std::shared_ptr<const kernels::weight> tensor_loader::matrix(const matrix_stack& stack) {
  auto& how = plans_.at(stack.parts.front().name);
  if (how.found)
    if (auto kept = from_cache(how)) return kept;
  for (const auto& part : stack.parts) wait_for(part.name);
  std::shared_ptr<const kernels::weight> made = make(stack, how);
  for (const auto& part : stack.parts) source_.release(part.name);
  if (!how.key.empty()) cache_->keep(how.key, made);
  return made;
}

std::shared_ptr<const kernels::weight> tensor_loader::from_cache(const plan& how) {
  auto room = on_.room_for(how.form);
  if (!cache_->read(*how.found, room.bytes, on_)) return nullptr;
  cached_bytes_ += room.bytes.size();
  return std::move(room.made);
}

std::unique_ptr<kernels::weight> tensor_loader::make(const matrix_stack& stack, const plan& how) {
  if (how.stored) {
    std::vector<kernels::quantized_tensor> tensors;
    for (const auto& part : stack.parts) tensors.push_back(source_.quantized(part.name));
    std::vector<kernels::quantized_matrix> views;
    for (const auto& tensor : tensors) views.push_back(tensor.view());
    return on_.pack_quantized(in_turns(views, stack.turn));
  }
  std::vector<kernels::host_matrix> matrices;
  for (const auto& part : stack.parts)
    matrices.push_back(read_matrix(source_, part.name, part.rows, stack.cols, stack.transposed));
  const auto stacked = in_turns(matrices, stack.turn);
  return how.rounded ? on_.quantize(stacked, *how.rounded) : on_.pack(stacked, compute_);
}

std::vector<float> tensor_loader::vector(const std::string& name, std::int64_t size) {
  wait_for(name);
  auto out = read_vector(source_, name, size);
  source_.release(name);
  return out;
}

std::shared_ptr<const kernels::weight> tensor_loader::table(const std::string& name, std::int64_t rows,
                                                            std::int64_t cols) {
  wait_for(name);
  return on_.table(read_matrix(source_, name, rows, cols));
}

}  // namespace fastserve::model
