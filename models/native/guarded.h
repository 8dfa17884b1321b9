// What every function of this folder gives back: no exception may reach Rust.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstring>
#include <exception>

// The result of `work` as a tensor that the caller owns; on failure null, and `error` a text for `free`.
template <typename Work>
at::Tensor* guarded(char** error, Work work) {
  try {
    return new at::Tensor(work());
  } catch (const std::exception& failure) {
    *error = strdup(failure.what());
  }
  return nullptr;
}
