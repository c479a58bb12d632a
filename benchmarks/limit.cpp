// The limit that reading a batch is measured against: float16 records in memory, streamed to float32. No keys, no checks,
// no padding: shuffled addresses in, the same threads. Compiled by the benchmark with csrc/store/pool.cpp.
#include <immintrin.h>

#include <cstdint>

#include "../csrc/store/pool.h"

namespace {

__attribute__((target("avx512f,avx2,f16c"))) void widen_512(float* out, const uint16_t* in, int64_t n) {
  for (int64_t i = 0; i < n; i += 32) {
    __builtin_prefetch(in + i + 1024);
    _mm512_stream_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i))));
    _mm512_stream_ps(out + i + 16, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i + 16))));
  }
  _mm_sfence();
}

__attribute__((target("avx2,f16c"))) void widen_256(float* out, const uint16_t* in, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    __builtin_prefetch(in + i + 1024);
    _mm256_stream_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
    _mm256_stream_ps(out + i + 8, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i + 8))));
  }
  _mm_sfence();
}

}  // namespace

// Record places[i] of `memory`, n values of it, to row i of `out`. n is a multiple of 32, `out` aligned to 64 bytes.
extern "C" void limit(float* out, const uint16_t* memory, const int64_t* places, int64_t count, int64_t n, int64_t threads) {
  const auto widen = __builtin_cpu_supports("avx512f") ? widen_512 : widen_256;
  featx::store::parallel(count, threads, [&](int64_t i) { widen(out + i * n, memory + places[i] * n, n); });
}
