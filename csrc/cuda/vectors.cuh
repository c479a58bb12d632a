// 16 bytes of neighbouring channels, which a thread reads and writes at once.
#pragma once

#include "cuda/stream.cuh"
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

// A block for each bin of a grid, whose threads share its vectors.
inline unsigned blocks_of_bins(int64_t bins) {
  constexpr int64_t kMost = 1 << 30;
  return static_cast<unsigned>(bins < kMost ? bins : kMost);
}

inline unsigned threads_of(int64_t vectors) {
  return static_cast<unsigned>(vectors < kThreads ? (vectors + 31) / 32 * 32 : kThreads);
}

}  // namespace featx::cuda
