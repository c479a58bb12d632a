// What lets one formula compile for the CPU, for every instruction set of it, and for CUDA.
#pragma once

// A function of one element, called by the CPU kernel and by the CUDA kernel.
#ifdef __CUDACC__
#define FEATX_HD __host__ __device__ inline
#define FEATX_ON_DEVICE __device__
#else
#define FEATX_HD inline
#define FEATX_ON_DEVICE
#endif

// A hot CPU loop, compiled for several instruction sets; the loader picks one when the library is loaded.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__CUDACC__)
#define FEATX_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FEATX_CLONES
#endif

// The body of such a loop: it must be inlined to be compiled for the instruction set of its caller.
#define FEATX_BODY inline __attribute__((always_inline))
