// What follows a convolution on CUDA, in one pass over its output: bias, the sum with a shortcut, ReLU. Half precision is
// summed in float32 and rounded once.
#include "cuda/vectors.cuh"
#include "for_each.h"
#include "kernels.h"

namespace featx::cuda {
namespace {

template <typename T>
__device__ T finished(arithmetic_t<T> sum, bool relu) {
  return static_cast<T>(relu && sum < arithmetic_t<T>(0) ? arithmetic_t<T>(0) : sum);  // NaN stays
}

// Vector i of a channels_last tensor whose pixels have `vectors` of them; `shortcut` may be null.
template <typename T>
struct AddBias {
  const Vector<T>*x, *bias, *shortcut;
  int64_t vectors;
  bool relu;
  Vector<T>* out;
  __device__ void operator()(int64_t i) const {
    using A = arithmetic_t<T>;
    const Vector<T> value = x[i], add = bias[i % vectors], more = shortcut ? shortcut[i] : Vector<T>{};
    Vector<T> result;
#pragma unroll
    for (int k = 0; k < Vector<T>::kLength; ++k) {
      A sum = static_cast<A>(value.values[k]) + static_cast<A>(add.values[k]);
      if (shortcut) sum += static_cast<A>(more.values[k]);
      result.values[k] = finished<T>(sum, relu);
    }
    out[i] = result;
  }
};

// The same one element at a time, for channels that fill no vector.
template <typename T>
struct AddBiasElement {
  const T *x, *bias, *shortcut;
  int64_t channels;
  bool relu;
  T* out;
  __device__ void operator()(int64_t i) const {
    using A = arithmetic_t<T>;
    A sum = static_cast<A>(x[i]) + static_cast<A>(bias[i % channels]);
    if (shortcut) sum += static_cast<A>(shortcut[i]);
    out[i] = finished<T>(sum, relu);
  }
};

}  // namespace

Tensor add_bias(const Tensor& x, const Tensor& bias, const std::optional<Tensor>& shortcut, bool relu) {
  const Tensor map = dense(x, MemoryFormat::ChannelsLast), added = dense(bias);
  const std::optional<Tensor> more = shortcut ? std::optional(dense(*shortcut, MemoryFormat::ChannelsLast)) : std::nullopt;
  const int64_t channels = map.size(1);
  const Tensor out = empty({map.size(0), channels, map.size(2), map.size(3)}, map, std::nullopt,
                           MemoryFormat::ChannelsLast);
  dispatch_features(map, [&](auto zero) {
    using T = decltype(zero);
    const T *from = map.const_data_ptr<T>(), *plus = added.const_data_ptr<T>();
    const T* also = more ? more->const_data_ptr<T>() : nullptr;
    T* to = out.mutable_data_ptr<T>();
    const bool whole = has_vectors(from, channels) && has_vectors(plus, channels) && has_vectors(also, channels);
    if (!whole) return for_each(map.numel(), out, AddBiasElement<T>{from, plus, also, channels, relu, to});
    const int64_t length = Vector<T>::kLength;
    for_each(map.numel() / length, out,
             AddBias<T>{as_vectors(from), as_vectors(plus), also ? as_vectors(also) : nullptr, channels / length, relu,
                        as_vectors(to)});
  });
  return out;
}

}  // namespace featx::cuda
