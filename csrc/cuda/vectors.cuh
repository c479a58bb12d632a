// 16 bytes of neighbouring channels, which a thread reads and writes at once.
#pragma once

#include "tensor.h"

namespace featx::cuda {

constexpr int64_t kVectorBytes = 16;

template <typename T>
struct alignas(kVectorBytes) Vector {
  static constexpr int kLength = kVectorBytes / sizeof(T);
  T values[kLength];
};

// Whether a channels_last tensor can be read that way: no vector lies in two pixels or across its own alignment.
template <typename T>
bool has_vectors(const T* data, int64_t channels) {
  return channels % Vector<T>::kLength == 0 && reinterpret_cast<uintptr_t>(data) % kVectorBytes == 0;
}

template <typename T>
const Vector<T>* as_vectors(const T* data) {
  return reinterpret_cast<const Vector<T>*>(data);
}

template <typename T>
Vector<T>* as_vectors(T* data) {
  return reinterpret_cast<Vector<T>*>(data);
}

}  // namespace featx::cuda
