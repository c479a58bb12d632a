#include "convert.h"

#include <algorithm>

#include "cpu.h"

namespace featx::store {
namespace {

// Each format: how one value becomes a float, and how 16 do. kSize is that of a stored value.

struct Half {
  static constexpr size_t kSize = 2;

  float one(const Byte* in) const {
    const uint32_t half = load<uint16_t>(in);
    const uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    uint32_t bits;
    if (exponent == 31) {
      bits = 0x7f800000 | mantissa << 13 | (mantissa != 0 ? 0x400000 : 0);  // NaN becomes quiet, as hardware does it
    } else if (exponent != 0) {
      bits = (exponent + 112) << 23 | mantissa << 13;
    } else {  // zero, or mantissa * 2^-24
      const float value = static_cast<float>(mantissa) * 0x1p-24f;
      bits = load<uint32_t>(&value);
    }
    bits |= sign;
    return load<float>(&bits);
  }
#ifdef FEATX_X86
  FEATX_AVX2 __m256 eight(const Byte* in) const {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
  }
  FEATX_AVX512 __m512 sixteen(const Byte* in) const {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
  }
#endif
};

struct Bfloat {
  static constexpr size_t kSize = 2;

  float one(const Byte* in) const {
    const uint32_t bits = uint32_t{load<uint16_t>(in)} << 16;
    return load<float>(&bits);
  }
#ifdef FEATX_X86
  FEATX_AVX2 __m256 eight(const Byte* in) const {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  FEATX_AVX512 __m512 sixteen(const Byte* in) const {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
#endif
};

struct Code {
  static constexpr size_t kSize = 1;
  float scale, zero;

  float one(const Byte* in) const { return scale * (static_cast<float>(*in) - zero); }
#ifdef FEATX_X86
  FEATX_AVX2 __m256 eight(const Byte* in) const {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in)));
    return _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_sub_ps(_mm256_cvtepi32_ps(wide), _mm256_set1_ps(zero)));
  }
  FEATX_AVX512 __m512 sixteen(const Byte* in) const {
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
    return _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_sub_ps(_mm512_cvtepi32_ps(wide), _mm512_set1_ps(zero)));
  }
#endif
};

struct Float {
  static constexpr size_t kSize = 4;

  float one(const Byte* in) const { return load<float>(in); }
#ifdef FEATX_X86
  FEATX_AVX2 __m256 eight(const Byte* in) const { return _mm256_loadu_ps(reinterpret_cast<const float*>(in)); }
  FEATX_AVX512 __m512 sixteen(const Byte* in) const { return _mm512_loadu_ps(in); }
#endif
};

template <typename Format>
void convert_plain(float* out, const Byte* in, size_t n, const Format& format) {
  for (size_t i = 0; i < n; ++i) save(out + i, format.one(in + Format::kSize * i));
}

#ifdef FEATX_X86

constexpr size_t kAhead = 1536;  // bytes; the processor itself does not look beyond a page

template <typename Format>
FEATX_AVX2 size_t convert_avx2(float* out, const Byte* in, size_t n, const Format& format, bool stream) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const Byte* from = in + Format::kSize * i;
    prefetch_once(from + kAhead);
    const __m256 low = format.eight(from), high = format.eight(from + Format::kSize * 8);
    if (stream) {
      _mm256_stream_ps(out + i, low);
      _mm256_stream_ps(out + i + 8, high);
    } else {
      _mm256_storeu_ps(out + i, low);
      _mm256_storeu_ps(out + i + 8, high);
    }
  }
  return i;
}

template <typename Format>
FEATX_AVX512 size_t convert_avx512(float* out, const Byte* in, size_t n, const Format& format, bool stream) {
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const Byte* from = in + Format::kSize * i;
    for (size_t line = 0; line < 32 * Format::kSize; line += 64) prefetch_once(from + kAhead + line);
    const __m512 low = format.sixteen(from), high = format.sixteen(from + Format::kSize * 16);
    if (stream) {
      _mm512_stream_ps(out + i, low);
      _mm512_stream_ps(out + i + 16, high);
    } else {
      _mm512_storeu_ps(out + i, low);
      _mm512_storeu_ps(out + i + 16, high);
    }
  }
  return i;
}

#endif

template <typename Format>
void convert(float* out, const Byte* in, size_t n, const Format& format, [[maybe_unused]] bool stream) {
#ifdef FEATX_X86
  if (level() != Level::plain) {
    const auto place = reinterpret_cast<uintptr_t>(out) % 64;
    const size_t ahead = stream && place != 0 ? std::min<size_t>(n, (64 - place) / sizeof(float)) : 0;
    convert_plain(out, in, ahead, format);  // streams begin at a cache line
    out += ahead;
    in += Format::kSize * ahead;
    n -= ahead;
    stream = stream && place % sizeof(float) == 0;
    const auto wide = level() == Level::avx512 ? convert_avx512<Format> : convert_avx2<Format>;
    const size_t done = wide(out, in, n, format, stream);
    out += done;
    in += Format::kSize * done;
    n -= done;
  }
#endif
  convert_plain(out, in, n, format);
}

}  // namespace

void widen_half(float* out, const Byte* halves, size_t n, bool stream) { convert(out, halves, n, Half{}, stream); }

void widen_bfloat(float* out, const Byte* halves, size_t n, bool stream) { convert(out, halves, n, Bfloat{}, stream); }

void dequantise(float* out, const Byte* codes, size_t n, float scale, float zero, bool stream) {
  convert(out, codes, n, Code{scale, zero}, stream);
}

void copy(Byte* out, const Byte* in, size_t size, bool stream) {
  const size_t words = stream ? size / sizeof(float) : 0, done = words * sizeof(float);
  convert(reinterpret_cast<float*>(out), in, words, Float{}, stream);
  if (size > done) std::memcpy(out + done, in + done, size - done);
}

void end_streaming() {
#ifdef FEATX_X86
  _mm_sfence();
#endif
}

}  // namespace featx::store
