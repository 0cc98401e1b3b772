#include "kernels/cuda/linear_stream.cuh"

namespace fastserve::kernels::cuda {
namespace {

template <class T>
void by_rows(const product& p, cudaStream_t on) {
  using form = float_form<T>;
  if (p.rows <= 8) return launch_stream<form, 1, 1>("linear, up to 8 rows", p, on);
  if (p.rows <= 16) return launch_stream<form, 1, 2>("linear, up to 16 rows", p, on);
  if (p.rows <= 32) return launch_stream<form, 2, 4>("linear, up to 32 rows", p, on);
  launch_stream<form, 2, 8>("linear, 64 rows a block", p, on);
}

}  // namespace

void launch_stream_float(const product& p, cudaStream_t on) {
  return p.form == weight_form::bf16 ? by_rows<bf16>(p, on) : by_rows<f16>(p, on);
}

}  // namespace fastserve::kernels::cuda
