// Which instruction set the hot loops use. It is looked up once; a test can choose a lower one.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define FEATX_X86 1
#include <immintrin.h>
#define FEATX_AVX2 __attribute__((target("avx2,f16c")))
#define FEATX_AVX512 __attribute__((target("avx512f,avx2,f16c")))
#endif

namespace featx::store {

enum class Level { plain, avx2, avx512 };

inline Level best_level() {
#ifdef FEATX_X86
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("f16c")) return Level::plain;
  return __builtin_cpu_supports("avx512f") ? Level::avx512 : Level::avx2;
#else
  return Level::plain;
#endif
}

// The level in use: every call of the library asks anew.
inline Level& level() {
  static Level chosen = best_level();
  return chosen;
}

}  // namespace featx::store
