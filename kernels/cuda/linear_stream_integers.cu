#include "kernels/cuda/linear_stream.cuh"

namespace fastserve::kernels::cuda {
namespace {

template <class Form>
void by_rows(const product& p, cudaStream_t on) {
  if (p.rows <= 8) return launch_stream<Form, 1, 1>("linear of integers, up to 8 rows", p, on);
  if (p.rows <= 32) return launch_stream<Form, 1, 4>("linear of integers, up to 32 rows", p, on);
  launch_stream<Form, 1, 8>("linear of integers, 64 rows a block", p, on);
}

}  // namespace

void launch_stream_grouped(const product& p, cudaStream_t on) {
  return p.form == weight_form::int8 ? by_rows<int8_form>(p, on) : by_rows<int4_form>(p, on);
}
void launch_stream_w8a8(const product& p, cudaStream_t on) { by_rows<w8a8_form>(p, on); }

}  // namespace fastserve::kernels::cuda
