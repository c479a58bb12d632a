// Plain loops that decode records from RAM into a float32 batch: the limits of benchmarks/codecs.py, and a prototype of
// the zero-mask codec. x86-64 with AVX2 and F16C, compiled for the machine at hand; sizes are multiples of 64 values.
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

// For each mask of 8 bits: which of the packed values (of 2 bytes, or of 1) goes to each place; 0x80 is none.
struct Tables {
  alignas(64) uint8_t wide[256][16], narrow[256][8];
  Tables() {
    for (int mask = 0; mask < 256; ++mask) {
      for (int place = 0, next = 0; place < 8; ++place) {
        const bool here = mask >> place & 1;
        narrow[mask][place] = here ? next : 0x80;
        wide[mask][2 * place] = here ? 2 * next : 0x80;
        wide[mask][2 * place + 1] = here ? 2 * next + 1 : 0x80;
        next += here;
      }
    }
  }
};
const Tables tables;

constexpr int64_t kAhead = 2048;  // bytes to prefetch ahead of what is read

__m256 half(const uint8_t* in) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in))); }

__m256 codes(__m128i eight, __m256 scale, __m256 zero) {
  return _mm256_mul_ps(scale, _mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight)), zero));
}

void float32(const uint8_t* in, float* out, int64_t rows, int64_t dim) {
  for (int64_t i = 0; i < rows * dim; i += 8) {
    _mm_prefetch(in + 4 * i + kAhead, _MM_HINT_T0);
    _mm256_stream_ps(out + i, _mm256_loadu_ps(reinterpret_cast<const float*>(in) + i));
  }
}

void float16(const uint8_t* in, float* out, int64_t rows, int64_t dim) {
  for (int64_t i = 0; i < rows * dim; i += 8) {
    _mm_prefetch(in + 2 * i + kAhead, _MM_HINT_T0);
    _mm256_stream_ps(out + i, half(in + 2 * i));
  }
}

void bfloat16(const uint8_t* in, float* out, int64_t rows, int64_t dim) {
  for (int64_t i = 0; i < rows * dim; i += 8) {
    _mm_prefetch(in + 2 * i + kAhead, _MM_HINT_T0);
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 2 * i)));
    _mm256_stream_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
  }
}

// Scales [rows, 2], then codes.
void int8(const uint8_t* in, float* out, int64_t rows, int64_t dim) {
  const float* scales = reinterpret_cast<const float*>(in);
  const uint8_t* q = in + 8 * rows;
  for (int64_t row = 0; row < rows; ++row, q += dim, out += dim) {
    const __m256 scale = _mm256_set1_ps(scales[2 * row]), zero = _mm256_set1_ps(scales[2 * row + 1]);
    for (int64_t i = 0; i < dim; i += 8) {
      _mm_prefetch(q + i + kAhead, _MM_HINT_T0);
      _mm256_stream_ps(out + i, codes(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q + i)), scale, zero));
    }
  }
}

// One bit for each value, then the float16 that are not zero.
void masked_float16_avx2(const uint8_t* in, float* out, int64_t rows, int64_t dim) {
  const uint8_t* packed = in + rows * dim / 8;
  for (int64_t i = 0; i < rows * dim; i += 8) {
    const uint8_t mask = in[i / 8];
    _mm_prefetch(packed + kAhead, _MM_HINT_T0);
    const __m128i values = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(packed)),
                                            _mm_load_si128(reinterpret_cast<const __m128i*>(tables.wide[mask])));
    _mm256_stream_ps(out + i, _mm256_cvtph_ps(values));
    packed += 2 * _mm_popcnt_u32(mask);
  }
}

// Scales, one bit for each code, then the codes that are not the zero point.
void masked_int8_avx2(const uint8_t* in, float* out, int64_t rows, int64_t dim) {
  const float* scales = reinterpret_cast<const float*>(in);
  const uint8_t *masks = in + 8 * rows, *packed = masks + rows * dim / 8;
  for (int64_t row = 0; row < rows; ++row, masks += dim / 8, out += dim) {
    const __m256 scale = _mm256_set1_ps(scales[2 * row]), zero = _mm256_set1_ps(scales[2 * row + 1]);
    const __m128i nothing = _mm_set1_epi8(static_cast<char>(scales[2 * row + 1]));
    for (int64_t i = 0; i < dim; i += 8) {
      const uint8_t mask = masks[i / 8];
      _mm_prefetch(packed + kAhead, _MM_HINT_T0);
      const __m128i order = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(tables.narrow[mask]));
      const __m128i found = _mm_shuffle_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(packed)), order);
      _mm256_stream_ps(out + i, codes(_mm_blendv_epi8(found, nothing, order), scale, zero));
      packed += _mm_popcnt_u32(mask);
    }
  }
}

#if defined(__AVX512VBMI2__) && defined(__AVX512BW__)
constexpr bool kWide = true;

void masked_float16_avx512(const uint8_t* in, float* out, int64_t rows, int64_t dim) {
  const uint8_t* packed = in + rows * dim / 8;
  for (int64_t i = 0; i < rows * dim; i += 32) {
    uint32_t mask;
    std::memcpy(&mask, in + i / 8, 4);
    _mm_prefetch(packed + kAhead, _MM_HINT_T0);
    const __m512i values = _mm512_maskz_expand_epi16(mask, _mm512_loadu_si512(packed));
    _mm512_stream_ps(out + i, _mm512_cvtph_ps(_mm512_castsi512_si256(values)));
    _mm512_stream_ps(out + i + 16, _mm512_cvtph_ps(_mm512_extracti64x4_epi64(values, 1)));
    packed += 2 * _mm_popcnt_u32(mask);
  }
}

void masked_int8_avx512(const uint8_t* in, float* out, int64_t rows, int64_t dim) {
  const float* scales = reinterpret_cast<const float*>(in);
  const uint8_t *masks = in + 8 * rows, *packed = masks + rows * dim / 8;
  for (int64_t row = 0; row < rows; ++row, masks += dim / 8, out += dim) {
    const __m512 scale = _mm512_set1_ps(scales[2 * row]), zero = _mm512_set1_ps(scales[2 * row + 1]);
    const __m512i nothing = _mm512_set1_epi8(static_cast<char>(scales[2 * row + 1]));
    for (int64_t i = 0; i < dim; i += 64) {
      uint64_t mask;
      std::memcpy(&mask, masks + i / 8, 8);
      _mm_prefetch(packed + kAhead, _MM_HINT_T0);
      const __m512i q = _mm512_mask_expand_epi8(nothing, mask, _mm512_loadu_si512(packed));
      const __m128i quarters[4] = {_mm512_castsi512_si128(q), _mm512_extracti32x4_epi32(q, 1),
                                   _mm512_extracti32x4_epi32(q, 2), _mm512_extracti32x4_epi32(q, 3)};
      for (int k = 0; k < 4; ++k) {
        const __m512 wide = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(quarters[k]));
        _mm512_stream_ps(out + i + 16 * k, _mm512_mul_ps(scale, _mm512_sub_ps(wide, zero)));
      }
      packed += _mm_popcnt_u64(mask);
    }
  }
}
#else
constexpr bool kWide = false;
constexpr auto masked_float16_avx512 = masked_float16_avx2;
constexpr auto masked_int8_avx512 = masked_int8_avx2;
#endif

using Decoder = void (*)(const uint8_t*, float*, int64_t, int64_t);
const Decoder decoders[] = {float32,          float16, bfloat16, int8, masked_float16_avx2, masked_int8_avx2,
                            masked_float16_avx512, masked_int8_avx512};

}  // namespace

extern "C" {

// Whether the AVX-512 decoders are what their name says.
int wide() { return kWide; }

// Decodes n records at the given addresses into out [n, rows, dim], 64-byte aligned.
void decode(int which, const uint8_t* const* records, float* out, int64_t n, int64_t rows, int64_t dim) {
  for (int64_t i = 0; i < n; ++i) decoders[which](records[i], out + i * rows * dim, rows, dim);
  _mm_sfence();
}
}
