#include "xxh3.h"

#include <algorithm>

#include "cpu.h"

namespace featx::store {
namespace {

constexpr uint64_t kPrime32[] = {0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D};
constexpr uint64_t kPrime64[] = {0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                                 0x27D4EB2F165667C5};
constexpr size_t kBlock = (kSecretSize - kStripe) / 8;  // stripes

alignas(64) constexpr Byte kSecret[kSecretSize] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};

uint64_t word(const Byte* address) { return load<uint64_t>(address); }
uint64_t half(const Byte* address) { return load<uint32_t>(address); }
uint64_t rotate(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

uint64_t fold(uint64_t a, uint64_t b) {  // both halves of the product of 128 bits
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t avalanche(uint64_t hash) {
  hash = (hash ^ hash >> 37) * 0x165667919E3779F9;
  return hash ^ hash >> 32;
}

uint64_t avalanche_xxh64(uint64_t hash) {
  hash = (hash ^ hash >> 33) * kPrime64[1];
  hash = (hash ^ hash >> 29) * kPrime64[2];
  return hash ^ hash >> 32;
}

uint64_t mix(const Byte* data, const Byte* secret, uint64_t seed) {
  return fold(word(data) ^ (word(secret) + seed), word(data + 8) ^ (word(secret + 8) - seed));
}

uint64_t up_to_3(const Byte* data, size_t size, uint64_t seed) {
  const uint64_t all = uint64_t{data[0]} << 16 | uint64_t{data[size >> 1]} << 24 | data[size - 1] | size << 8;
  return avalanche_xxh64(all ^ ((half(kSecret) ^ half(kSecret + 4)) + seed));
}

uint64_t up_to_8(const Byte* data, size_t size, uint64_t seed) {
  seed ^= uint64_t{__builtin_bswap32(static_cast<uint32_t>(seed))} << 32;
  const uint64_t all = half(data + size - 4) + (half(data) << 32);
  uint64_t hash = all ^ ((word(kSecret + 8) ^ word(kSecret + 16)) - seed);
  hash = (hash ^ rotate(hash, 49) ^ rotate(hash, 24)) * 0x9FB21C651E98DF25;
  hash = (hash ^ ((hash >> 35) + size)) * 0x9FB21C651E98DF25;
  return hash ^ hash >> 28;
}

uint64_t up_to_16(const Byte* data, size_t size, uint64_t seed) {
  const uint64_t low = word(data) ^ ((word(kSecret + 24) ^ word(kSecret + 32)) + seed);
  const uint64_t high = word(data + size - 8) ^ ((word(kSecret + 40) ^ word(kSecret + 48)) - seed);
  return avalanche(size + __builtin_bswap64(low) + high + fold(low, high));
}

uint64_t up_to_128(const Byte* data, size_t size, uint64_t seed) {
  uint64_t hash = size * kPrime64[0];
  for (size_t i = 0; i <= (size - 1) / 32; ++i) {  // from both ends to the middle
    hash += mix(data + 16 * i, kSecret + 32 * i, seed);
    hash += mix(data + size - 16 * (i + 1), kSecret + 32 * i + 16, seed);
  }
  return avalanche(hash);
}

uint64_t up_to_240(const Byte* data, size_t size, uint64_t seed) {
  uint64_t hash = size * kPrime64[0];
  for (size_t i = 0; i < 8; ++i) hash += mix(data + 16 * i, kSecret + 16 * i, seed);
  hash = avalanche(hash);
  for (size_t i = 8; i < size / 16; ++i) hash += mix(data + 16 * i, kSecret + 16 * (i - 8) + 3, seed);
  return avalanche(hash + mix(data + size - 16, kSecret + 119, seed));
}

uint64_t short_hash(const Byte* data, size_t size, uint64_t seed) {
  if (size == 0) return avalanche_xxh64(seed ^ word(kSecret + 56) ^ word(kSecret + 64));
  if (size <= 3) return up_to_3(data, size, seed);
  if (size <= 8) return up_to_8(data, size, seed);
  if (size <= 16) return up_to_16(data, size, seed);
  return size <= 128 ? up_to_128(data, size, seed) : up_to_240(data, size, seed);
}

void accumulate(uint64_t* lanes, const Byte* stripe, const Byte* secret) {
  for (size_t i = 0; i < 8; ++i) {
    const uint64_t value = word(stripe + 8 * i), key = value ^ word(secret + 8 * i);
    lanes[i ^ 1] += value;
    lanes[i] += (key & 0xffffffff) * (key >> 32);
  }
}

void scramble(uint64_t* lanes, const Byte* secret) {
  for (size_t i = 0; i < 8; ++i) {
    lanes[i] = (lanes[i] ^ lanes[i] >> 47 ^ word(secret + 8 * i)) * kPrime32[0];
  }
}

// Each of the three consumes `count` stripes, the first of which has place `place` in its block of 16.

void consume_plain(uint64_t* lanes, const Byte* stripes, size_t count, size_t place, const Byte* secret) {
  for (size_t i = 0; i < count; ++i) {
    accumulate(lanes, stripes + kStripe * i, secret + 8 * place);
    if (++place == kBlock) scramble(lanes, secret + 8 * kBlock), place = 0;
  }
}

#ifdef FEATX_X86

constexpr size_t kAhead = 2048;  // bytes; the processor itself does not look beyond a page

FEATX_AVX2 void consume_avx2(uint64_t* lanes, const Byte* stripes, size_t count, size_t place, const Byte* secret) {
  __m256i sums[2];
  const __m256i prime = _mm256_set1_epi32(static_cast<int>(kPrime32[0]));
  for (int h = 0; h < 2; ++h) sums[h] = _mm256_load_si256(reinterpret_cast<__m256i*>(lanes) + h);
  for (size_t i = 0; i < count; ++i) {
    const Byte* stripe = stripes + kStripe * i;
    prefetch(stripe + kAhead);
    for (int h = 0; h < 2; ++h) {
      const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(stripe) + h);
      const auto* mask = reinterpret_cast<const __m256i*>(secret + 8 * place) + h;
      const __m256i key = _mm256_xor_si256(value, _mm256_loadu_si256(mask));
      const __m256i product = _mm256_mul_epu32(key, _mm256_shuffle_epi32(key, 0x31));
      sums[h] = _mm256_add_epi64(sums[h], _mm256_add_epi64(product, _mm256_shuffle_epi32(value, 0x4E)));
    }
    if (++place < kBlock) continue;
    place = 0;
    for (int h = 0; h < 2; ++h) {
      const auto* mask = reinterpret_cast<const __m256i*>(secret + 8 * kBlock) + h;
      const __m256i shifted = _mm256_xor_si256(sums[h], _mm256_srli_epi64(sums[h], 47));
      const __m256i key = _mm256_xor_si256(shifted, _mm256_loadu_si256(mask));
      const __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(key, 32), prime);
      sums[h] = _mm256_add_epi64(_mm256_mul_epu32(key, prime), _mm256_slli_epi64(high, 32));
    }
  }
  for (int h = 0; h < 2; ++h) _mm256_store_si256(reinterpret_cast<__m256i*>(lanes) + h, sums[h]);
}

FEATX_AVX512 void consume_avx512(uint64_t* lanes, const Byte* stripes, size_t count, size_t place, const Byte* secret) {
  __m512i sum = _mm512_load_si512(lanes);
  const __m512i prime = _mm512_set1_epi32(static_cast<int>(kPrime32[0]));
  for (size_t i = 0; i < count; ++i) {
    const Byte* stripe = stripes + kStripe * i;
    prefetch(stripe + kAhead);
    const __m512i value = _mm512_loadu_si512(stripe);
    const __m512i key = _mm512_xor_si512(value, _mm512_loadu_si512(secret + 8 * place));
    const __m512i product = _mm512_mul_epu32(key, _mm512_srli_epi64(key, 32));
    const __m512i swapped = _mm512_shuffle_epi32(value, static_cast<_MM_PERM_ENUM>(0x4E));
    sum = _mm512_add_epi64(sum, _mm512_add_epi64(product, swapped));
    if (++place < kBlock) continue;
    place = 0;
    const __m512i shifted = _mm512_xor_si512(sum, _mm512_srli_epi64(sum, 47));
    const __m512i mixed = _mm512_xor_si512(shifted, _mm512_loadu_si512(secret + 8 * kBlock));
    const __m512i high = _mm512_mul_epu32(_mm512_srli_epi64(mixed, 32), prime);
    sum = _mm512_add_epi64(_mm512_mul_epu32(mixed, prime), _mm512_slli_epi64(high, 32));
  }
  _mm512_store_si512(lanes, sum);
}

#endif

}  // namespace

Xxh3::Xxh3(uint64_t seed, uint64_t length) : seed_(seed), length_(length) {
  if (length <= kShort) return;
  const uint64_t start[] = {kPrime32[2], kPrime64[0], kPrime64[1], kPrime64[2],
                            kPrime64[3], kPrime32[1], kPrime64[4], kPrime32[0]};
  std::copy(start, start + 8, lanes_);
  for (size_t i = 0; i < kSecretSize; i += 16) {
    save(secret_ + i, word(kSecret + i) + seed);
    save(secret_ + i + 8, word(kSecret + i + 8) - seed);
  }
}

// A stripe is consumed as soon as it is known that more follows it.
void Xxh3::update(const Byte* piece, size_t size) {
  if (size == 0) return;
  if (length_ <= kShort) {
    const size_t fits = std::min(size, kShort - waiting_);
    std::memcpy(buffer_ + waiting_, piece, fits);
    waiting_ += fits;
    return;
  }
  Byte* const waiting = buffer_ + kStripe;
  if (waiting_ + size > kStripe) {
    if (waiting_ > 0) {
      const size_t missing = kStripe - waiting_;
      std::memcpy(waiting + waiting_, piece, missing);
      piece += missing;
      size -= missing;
      consume(waiting, 1);
    }
    if (const size_t whole = (size - 1) / kStripe; whole > 0) {
      consume(piece, whole);
      piece += whole * kStripe;
      size -= whole * kStripe;
    }
    waiting_ = 0;
  }
  std::memcpy(waiting + waiting_, piece, size);
  waiting_ += size;
}

void Xxh3::zeros(size_t size) {
  static constexpr Byte kZeros[kStripe] = {};
  update(kZeros, size);
}

void Xxh3::consume(const Byte* stripes, size_t count) {
#ifdef FEATX_X86
  const auto best = level() == Level::avx512 ? consume_avx512 : level() == Level::avx2 ? consume_avx2 : consume_plain;
#else
  const auto best = consume_plain;
#endif
  best(lanes_, stripes, count, place_, secret_);
  place_ = (place_ + count) % kBlock;
  std::memcpy(buffer_, stripes + kStripe * (count - 1), kStripe);
}

uint64_t Xxh3::digest() const {
  if (length_ <= kShort) return short_hash(buffer_, waiting_, seed_);
  uint64_t lanes[8];
  std::copy(lanes_, lanes_ + 8, lanes);
  accumulate(lanes, buffer_ + waiting_, secret_ + kSecretSize - kStripe - 7);  // the last 64 bytes there were
  uint64_t hash = length_ * kPrime64[0];
  for (size_t i = 0; i < 4; ++i) {
    const Byte* secret = secret_ + 11 + 16 * i;
    hash += fold(lanes[2 * i] ^ word(secret), lanes[2 * i + 1] ^ word(secret + 8));
  }
  return avalanche(hash);
}

uint64_t xxh3_64(const Byte* data, size_t size, uint64_t seed) {
  if (size <= kShort) return short_hash(data, size, seed);
  Xxh3 state(seed, size);
  state.update(data, size);
  return state.digest();
}

}  // namespace featx::store
