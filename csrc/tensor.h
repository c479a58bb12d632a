// The little of torch's stable ABI that the kernels use, under short names.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

namespace featx {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;
using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::parallel_for;
using torch::stable::Tensor;

// Calls body(T{}) with T the element type: float32 or float64 for boxes, half precision as well for features.
template <typename Body>
void dispatch_boxes(const Tensor& tensor, const Body& body) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float: return body(float{});
    case ScalarType::Double: return body(double{});
    default: STD_TORCH_CHECK(false, "expected float32 or float64");
  }
}

template <typename Body>
void dispatch_features(const Tensor& tensor, const Body& body) {
  switch (tensor.scalar_type()) {
    case ScalarType::Half: return body(Half{});
    case ScalarType::BFloat16: return body(BFloat16{});
    default: return dispatch_boxes(tensor, body);
  }
}

// Half precision is computed in float32.
template <typename T>
using arithmetic_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

inline Tensor empty(const std::vector<int64_t>& shape, const Tensor& like, std::optional<ScalarType> dtype = {},
                    MemoryFormat format = MemoryFormat::Contiguous) {
  return torch::stable::empty(shape, dtype.value_or(like.scalar_type()), std::nullopt, like.device(), std::nullopt,
                              format);
}

inline Tensor dense(const Tensor& tensor, MemoryFormat format = MemoryFormat::Contiguous) {
  return torch::stable::contiguous(tensor, format);
}

// ChannelsLast only where that is not also plain contiguous, as for one channel.
inline MemoryFormat format_of(const Tensor& map) {
  if (map.is_contiguous()) return MemoryFormat::Contiguous;
  int64_t expected = 1;
  for (int64_t axis : {1, 3, 2, 0}) {
    if (map.size(axis) != 1 && map.stride(axis) != expected) return MemoryFormat::Contiguous;
    expected *= map.size(axis);
  }
  return MemoryFormat::ChannelsLast;
}

// Gradients of half precision are summed in float32 and rounded once.
inline Tensor zeros_to_sum(const Tensor& map, std::optional<MemoryFormat> format = {}) {
  const ScalarType dtype = map.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  Tensor sum = empty({map.size(0), map.size(1), map.size(2), map.size(3)}, map, dtype, format.value_or(format_of(map)));
  return torch::stable::zero_(sum);
}

inline Tensor rounded_sum(const Tensor& sum, const Tensor& map) {
  return torch::stable::to(dense(sum, format_of(map)), map.scalar_type());
}

}  // namespace featx
