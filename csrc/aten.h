// Operators of torch that torch/csrc/stable/ops.h does not wrap, called through the dispatcher.
#pragma once

#include <array>

#include "tensor.h"

namespace featx::aten {

using torch::stable::detail::from;
using torch::stable::detail::to;

// Running sum of a vector of int64.
inline Tensor cumsum(const Tensor& values) {
  std::array<StableIValue, 3> stack{from(values), from(int64_t{0}), from(std::nullopt)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::cumsum", "", stack.data(), TORCH_ABI_VERSION));
  return to<Tensor>(stack[0]);
}

// Sorts the last axis, highest first, equal values in their order: (values, indices).
inline std::tuple<Tensor, Tensor> sort_falling(const Tensor& values) {
  std::array<StableIValue, 4> stack{from(values), from(std::optional<bool>(true)), from(int64_t{-1}), from(true)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {to<Tensor>(stack[0]), to<Tensor>(stack[1])};
}

}  // namespace featx::aten
