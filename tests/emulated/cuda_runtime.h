// As much of CUDA as our kernels use, on the CPU: threads of a block run one after the other, and those of a kernel with
// barriers as fibers that go on together from barrier to barrier. In which order they run is chosen from outside, so that
// threads that should have waited for each other can be seen to differ.
#pragma once

#include <ucontext.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __host__
#define __device__

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};
inline Dim threadIdx, blockIdx, blockDim, gridDim;

using cudaStream_t = void*;
enum cudaMemcpyKind { cudaMemcpyDeviceToHost };
inline int cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, size);
  return 0;
}
inline int cudaStreamSynchronize(cudaStream_t) { return 0; }

inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline int atomicMax(int* place, int value) {
  const int before = *place;
  if (value > before) *place = value;
  return before;
}
template <typename T>
T atomicAdd(T* place, T value) {
  const T before = *place;
  *place += value;
  return before;
}

namespace emulated {

// Shared memory of the block that runs; what lies in it before a kernel writes is anything but zero.
inline std::vector<unsigned char> shared;

inline bool backwards() {
  const char* order = std::getenv("FEATX_EMULATED_ORDER");
  return order != nullptr && std::strcmp(order, "backwards") == 0;
}

constexpr size_t kStack = 64 * 1024;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<unsigned char[]> stack{new unsigned char[kStack]};
  bool done = false;
};
inline Fiber* running = nullptr;
inline ucontext_t scheduler;
inline const std::function<void()>* body = nullptr;

inline void barrier() { swapcontext(&running->context, &scheduler); }

inline void enter() {
  (*body)();
  running->done = true;
}

// All threads of one block, each up to its next barrier, until all are done.
inline void run_together(unsigned threads) {
  std::vector<Fiber> fibers(threads);
  for (Fiber& fiber : fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, enter, 0);
  }
  for (unsigned left = threads; left > 0;) {
    unsigned finished = 0;
    for (unsigned k = 0; k < threads; ++k) {
      threadIdx.x = backwards() ? threads - 1 - k : k;
      running = &fibers[threadIdx.x];
      if (running->done) std::abort();  // some threads wait at a barrier that others never reach
      swapcontext(&scheduler, &running->context);
      finished += running->done;
    }
    if (finished != 0 && finished != threads) std::abort();
    left -= finished;
  }
}

template <typename Kernel>
void launch(bool barriers, unsigned grid, unsigned block, size_t bytes, cudaStream_t, const Kernel& kernel) {
  gridDim.x = grid;
  blockDim.x = block;
  const std::function<void()> call = kernel;
  body = &call;
  for (unsigned b = 0; b < grid; ++b) {
    blockIdx.x = backwards() ? grid - 1 - b : b;
    shared.assign(bytes, 0xA5);
    if (barriers) {
      run_together(block);
      continue;
    }
    for (unsigned k = 0; k < block; ++k) {
      threadIdx.x = backwards() ? block - 1 - k : k;
      call();
    }
  }
}

}  // namespace emulated

inline void __syncthreads() { emulated::barrier(); }
inline void __syncwarp() {
  if (blockDim.x > 32) std::abort();  // a barrier of one warp only
  emulated::barrier();
}
