#include <cstring>

#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/plan.hpp"

namespace fastserve::kernels::cpu {
namespace {

constexpr std::int64_t parallel_elements = std::int64_t{1} << 16;

const cpu_plan& host(const step_plan& plan) {
  assert(dynamic_cast<const cpu_plan*>(&plan) != nullptr);
  return static_cast<const cpu_plan&>(plan);
}

char* row_of(const tensor_view& view, std::int64_t row) {
  return static_cast<char*>(view.data) + row * view.stride * static_cast<std::int64_t>(size_of(view.type));
}

const float* f32_row(const tensor_view& view, std::int64_t row) {
  return static_cast<const float*>(view.data) + row * view.stride;
}

/// Record `record` of a q8 row.
char* record_of(const tensor_view& view, std::int64_t row, std::int64_t record) {
  return static_cast<char*>(view.data) + (record * view.stride + row) * record_bytes;
}

const row_table& as_rows(const weight& w) {
  assert(dynamic_cast<const row_table*>(&w) != nullptr);
  return static_cast<const row_table&>(w);
}

}  // namespace

void cpu_backend::embed(tensor_view out, const weight& tokens, const weight* positions, const step_plan& step,
                        stream&) {
  const auto& layout = host(step).layout();
  const auto* integers = dynamic_cast<const integer_weight*>(&tokens);
  assert(out.type == dtype::f32 && out.cols == tokens.cols());
  assert(out.rows == static_cast<std::int64_t>(layout.token_ids.size()));
  team_.run(out.rows * out.cols > parallel_elements, [&](int thread, int threads) {
    const share mine{out.rows, thread, threads};
    for (std::int64_t r = mine.first; r < mine.last; ++r) {
      const auto row = static_cast<std::size_t>(r);
      const std::int32_t token = layout.token_ids[row];
      assert(token >= 0 && token < tokens.rows());
      if (integers != nullptr) {
        look_up_row(reinterpret_cast<float*>(row_of(out, r)), *integers, token, table_);
      } else {
        table_.convert[element_f32][static_cast<int>(tokens.type())](row_of(out, r),
                                                                     as_rows(tokens).row(token), out.cols);
      }
      if (positions == nullptr) continue;
      const std::int32_t position = layout.positions[row];
      assert(position >= 0 && position < positions->rows() && positions->cols() == out.cols);
      table_.add_to_f32[static_cast<int>(positions->type())](row_of(out, r),
                                                             as_rows(*positions).row(position), out.cols);
    }
  });
}

void cpu_backend::norm(tensor_view out, tensor_view in, const norm_weights& by, stream&) {
  assert(in.type == dtype::f32 && out.rows == in.rows && out.cols == in.cols);
  assert(by.gain.type == dtype::f32 && by.gain.cols == in.cols);
  const auto type = static_cast<int>(out.type);
  const auto* gain = static_cast<const float*>(by.gain.data);
  const auto* bias = static_cast<const float*>(by.bias.data);
  const bool to_q8 = out.type == dtype::q8;
  const std::int64_t step = out.stride * record_bytes;
  assert(by.kind == norm_kind::layer || bias == nullptr);
  team_.run(in.rows * in.cols > parallel_elements, [&](int thread, int threads) {
    const share mine{in.rows, thread, threads};
    for (std::int64_t r = mine.first; r < mine.last; ++r) {
      if (to_q8 && by.kind == norm_kind::rms) {
        table_.rms_norm_q8(record_of(out, r, 0), step, f32_row(in, r), gain, by.epsilon, in.cols);
      } else if (to_q8) {
        table_.layer_norm_q8(record_of(out, r, 0), step, f32_row(in, r), gain, bias, by.epsilon, in.cols);
      } else if (by.kind == norm_kind::rms) {
        table_.rms_norm[type](row_of(out, r), f32_row(in, r), gain, by.epsilon, in.cols);
      } else {
        table_.layer_norm[type](row_of(out, r), f32_row(in, r), gain, bias, by.epsilon, in.cols);
      }
    }
  });
}

void cpu_backend::activate(tensor_view out, tensor_view in, activation f, bool gated, stream&) {
  assert(in.type == dtype::f32 && out.rows == in.rows && in.cols == (gated ? 2 : 1) * out.cols);
  const bool to_q8 = out.type == dtype::q8;
  const auto function = to_q8 ? nullptr : table_.activate[static_cast<int>(out.type)];
  // Few wide rows are cut across, too. Pieces of whole cache lines; every element is computed on its own.
  constexpr std::int64_t piece = 2048;
  static_assert(piece % record_columns == 0);
  const std::int64_t pieces = (out.cols + piece - 1) / piece;
  team_.run(in.rows * in.cols > parallel_elements, [&](int thread, int threads) {
    const share mine{in.rows * pieces, thread, threads};
    for (std::int64_t i = mine.first; i < mine.last; ++i) {
      const std::int64_t r = i / pieces;
      const std::int64_t from = i % pieces * piece;
      const std::int64_t count = std::min(piece, out.cols - from);
      const float* gates = f32_row(in, r) + from;
      const float* up = gated ? gates + out.cols : nullptr;
      if (to_q8) {
        table_.activate_q8(record_of(out, r, from / record_columns), out.stride * record_bytes, gates, up,
                           static_cast<gate>(f), count);
      } else {
        function(row_of(out, r) + from * static_cast<std::int64_t>(size_of(out.type)), gates, up,
                 static_cast<gate>(f), count);
      }
    }
  });
}

void cpu_backend::gather_sampled(tensor_view out, tensor_view in, const step_plan& step, stream&) {
  const auto& rows = host(step).layout().sampled_rows;
  assert(out.type == dtype::f32 && in.type == dtype::f32 && out.cols == in.cols);
  assert(out.rows == static_cast<std::int64_t>(rows.size()));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    assert(rows[i] >= 0 && rows[i] < in.rows);
    std::memcpy(row_of(out, static_cast<std::int64_t>(i)), f32_row(in, rows[i]),
                static_cast<std::size_t>(in.cols) * sizeof(float));
  }
}

}  // namespace fastserve::kernels::cpu
