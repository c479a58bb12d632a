// for_each(n, tensor, body) calls body(i) for every i in [0, n) on the device of the file that includes this:
// FEATX_DEVICE is `cpu` or `cuda`. What is written with it is written once and compiled for both.
#pragma once

#include "portable.h"
#include "tensor.h"

#ifdef __CUDACC__
#include "cuda/stream.cuh"
#define FEATX_DEVICE cuda
#else
#define FEATX_DEVICE cpu
#endif

namespace featx::FEATX_DEVICE {

#ifdef __CUDACC__

template <typename Body>
__global__ void for_each_kernel(int64_t n, Body body) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) body(i);
}

template <typename Body>
void for_each(int64_t n, const Tensor& tensor, const Body& body) {
  if (n == 0) return;
  const Launch launch(tensor);
  for_each_kernel<<<blocks_for(n), kThreads, 0, launch.stream>>>(n, body);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// The same for a body that adds to places it shares with others.
template <typename Body>
void for_each_adding(int64_t n, const Tensor& tensor, const Body& body) {
  for_each(n, tensor, body);
}

template <typename T>
__device__ void add_shared(T& place, T value) {
  atomicAdd(&place, value);
}

#else

template <typename Body>
void for_each(int64_t n, const Tensor&, const Body& body) {
  constexpr int64_t kGrain = 16384;  // elements that are worth a thread
  parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

template <typename Body>
void for_each_adding(int64_t n, const Tensor&, const Body& body) {
  for (int64_t i = 0; i < n; ++i) body(i);
}

template <typename T>
void add_shared(T& place, T value) {
  place += value;
}

#endif

}  // namespace featx::FEATX_DEVICE
