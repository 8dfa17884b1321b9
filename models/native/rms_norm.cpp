// RMSNorm in one pass, in bfloat16 on the processor; libtorch's takes seven. See models/src/qwen2_audio/layers.rs.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include <cmath>

#include "bfloat16.h"
#include "guarded.h"

namespace {

FOR_EACH_PROCESSOR void norm(const uint16_t* x, const uint16_t* weight, int64_t width, float eps, uint16_t* out) {
  float squares = 0.0f;
  for (int64_t at = 0; at < width; ++at) squares += widen(x[at]) * widen(x[at]);
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(width) + eps);
  for (int64_t at = 0; at < width; ++at) out[at] = narrow(widen(x[at]) * scale * widen(weight[at]));
}

}  // namespace

// `x` (…, width) and `weight` (width), both contiguous.
extern "C" at::Tensor* tidemark_rms_norm(const at::Tensor* x, const at::Tensor* weight, double eps, char** error) {
  return guarded(error, [&] {
    const at::Tensor from = x->contiguous();
    at::Tensor normed = at::empty_like(from);
    const int64_t width = from.size(-1);
    const auto* in = reinterpret_cast<const uint16_t*>(from.const_data_ptr<at::BFloat16>());
    const auto* weights = reinterpret_cast<const uint16_t*>(weight->const_data_ptr<at::BFloat16>());
    auto* out = reinterpret_cast<uint16_t*>(normed.data_ptr<at::BFloat16>());
    at::parallel_for(0, from.numel() / width, 16, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        norm(in + row * width, weights, width, static_cast<float>(eps), out + row * width);
      }
    });
    return normed;
  });
}
