// What tch does not reach: oneDNN's linear layers, whose weights are laid out once and not at every call, with what
// follows the product worked out while it is at hand. See models/src/qwen2_audio/packed.rs.

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>

#include "guarded.h"

namespace {

using at::Tensor;
using Scalars = c10::List<std::optional<at::Scalar>>;

std::optional<Tensor> optional(const Tensor* tensor) {
  return tensor ? std::make_optional(*tensor) : std::nullopt;
}

c10::OperatorHandle operation(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
}

}  // namespace

extern "C" {

Tensor* tidemark_pack(const Tensor* weight, int64_t rows, char** error) {
  using Pack = Tensor(const Tensor&, std::optional<c10::SymInt>);
  return guarded(error, [&] {
    static const auto pack = operation("mkldnn::_reorder_linear_weight", "").typed<Pack>();
    return pack.call(*weight, c10::SymInt(rows));
  });
}

Tensor* tidemark_linear(const Tensor* x, const Tensor* weight, const Tensor* bias, const char* then, char** error) {
  using Linear = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view, Scalars,
                        std::optional<std::string_view>);
  return guarded(error, [&] {
    static const auto linear = operation("mkldnn::_linear_pointwise", "").typed<Linear>();
    return linear.call(*x, *weight, optional(bias), then, Scalars(), "none");
  });
}

Tensor* tidemark_linear_with(const Tensor* x, const Tensor* other, const Tensor* weight, const Tensor* bias,
                             const char* then, char** error) {
  using Linear = Tensor(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view);
  return guarded(error, [&] {
    static const auto linear = operation("mkldnn::_linear_pointwise", "binary").typed<Linear>();
    return linear.call(*x, *other, *weight, optional(bias), then);
  });
}

}  // extern "C"
