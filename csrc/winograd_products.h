// The products of Winograd's domain: for each position, tiles [n, C] times weights [C, K], both packed so that they are
// read in order. A row's sums run over the channels one by one, whatever the rows beside it: a tile's bits do not depend
// on its neighbours. AVX-512 and AVX2 give the same bits.
#pragma once

#include "portable.h"
#include "winograd_tiles.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define FEATX_WINOGRAD 1
#include <immintrin.h>
#define FEATX_WINOGRAD_AVX512 __attribute__((target("avx512f,avx2,fma")))
#define FEATX_WINOGRAD_AVX2 __attribute__((target("avx2,fma")))
#endif

namespace featx::cpu::winograd {

constexpr int64_t kPanel = 32;    // outputs of one panel of weights, [C, 32]
constexpr int kMostRows = 12;     // tiles whose sums fit into the registers, two vectors of 16 each

// rows tiles [C / 16][rows][16] times panel [C, 32] -> out, `pitch` floats from row to row. `ahead` is what is read next:
// it is brought into the cache, `lines` lines for every 16 channels.
using Product = void (*)(const float* tiles, const float* panel, int64_t blocks, float* out, int64_t pitch,
                         const char* ahead, int64_t lines);

#ifdef FEATX_WINOGRAD

template <int N>
FEATX_WINOGRAD_AVX512 void product_avx512(const float* tiles, const float* panel, int64_t blocks, float* out,
                                          int64_t pitch, const char* ahead, int64_t lines) {
  __m512 sum[N][2];
#pragma GCC unroll 12
  for (int r = 0; r < N; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t i = 0; i < lines; ++i, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T1);
#pragma GCC unroll 4
    for (int c = 0; c < kLanes; ++c) {
      const __m512 a = _mm512_load_ps(panel), b = _mm512_load_ps(panel + 16);
#pragma GCC unroll 12
      for (int r = 0; r < N; ++r) {
        const __m512 value = _mm512_set1_ps(tiles[r * kLanes + c]);
        sum[r][0] = _mm512_fmadd_ps(value, a, sum[r][0]);
        sum[r][1] = _mm512_fmadd_ps(value, b, sum[r][1]);
      }
      panel += kPanel;
    }
    tiles += N * kLanes;
  }
#pragma GCC unroll 12
  for (int r = 0; r < N; ++r) {
    _mm512_store_ps(out + r * pitch, sum[r][0]);
    _mm512_store_ps(out + r * pitch + 16, sum[r][1]);
  }
}

// Half a panel of M rows: 12 sums fit into 16 registers beside what they are made of.
template <int N, int M>
FEATX_WINOGRAD_AVX2 inline void part_avx2(const float* tiles, const float* panel, int64_t blocks, float* out,
                                          int64_t pitch) {
  __m256 sum[M][2];
#pragma GCC unroll 6
  for (int r = 0; r < M; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
  for (int64_t block = 0; block < blocks; ++block) {
#pragma GCC unroll 4
    for (int c = 0; c < kLanes; ++c) {
      const __m256 a = _mm256_load_ps(panel), b = _mm256_load_ps(panel + 8);
#pragma GCC unroll 6
      for (int r = 0; r < M; ++r) {
        const __m256 value = _mm256_broadcast_ss(tiles + r * kLanes + c);
        sum[r][0] = _mm256_fmadd_ps(value, a, sum[r][0]);
        sum[r][1] = _mm256_fmadd_ps(value, b, sum[r][1]);
      }
      panel += kPanel;
    }
    tiles += N * kLanes;
  }
#pragma GCC unroll 6
  for (int r = 0; r < M; ++r) {
    _mm256_store_ps(out + r * pitch, sum[r][0]);
    _mm256_store_ps(out + r * pitch + 8, sum[r][1]);
  }
}

template <int N>
FEATX_WINOGRAD_AVX2 void product_avx2(const float* tiles, const float* panel, int64_t blocks, float* out,
                                      int64_t pitch, const char*, int64_t) {
  constexpr int kFirst = N > 6 ? (N + 1) / 2 : N, kRest = N - kFirst;
  for (int half = 0; half < kPanel; half += 16) {
    part_avx2<N, kFirst>(tiles, panel + half, blocks, out + half, pitch);
    if constexpr (kRest > 0) {
      part_avx2<N, kRest>(tiles + kFirst * kLanes, panel + half, blocks, out + kFirst * pitch + half, pitch);
    }
  }
}

#define FEATX_PRODUCTS(kind)                                                                              \
  {nullptr, kind<1>, kind<2>, kind<3>, kind<4>, kind<5>, kind<6>, kind<7>, kind<8>, kind<9>, kind<10>, kind<11>, kind<12>}
inline constexpr Product kAvx512[] = FEATX_PRODUCTS(product_avx512);
inline constexpr Product kAvx2[] = FEATX_PRODUCTS(product_avx2);
#undef FEATX_PRODUCTS

#endif

}  // namespace featx::cpu::winograd
