// XXH3, 64 bits, with a seed: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
#pragma once

#include "bytes.h"

namespace featx::store {

constexpr size_t kStripe = 64;
constexpr size_t kSecretSize = 192;
constexpr size_t kShort = 240;  // bytes; longer input is consumed stripe by stripe

// Hash of bytes that come in pieces; how many there will be is known before the first.
class Xxh3 {
 public:
  Xxh3(uint64_t seed, uint64_t length);
  void update(const Byte* piece, size_t size);
  void zeros(size_t size);  // fewer than a stripe
  uint64_t digest() const;

 private:
  void consume(const Byte* stripes, size_t count);

  uint64_t seed_, length_;
  size_t waiting_ = 0, place_ = 0;  // bytes in waiting; the next stripe's place in its block
  alignas(64) uint64_t lanes_[8];
  alignas(64) Byte secret_[kSecretSize];
  // Of short input all; of long input the last stripe consumed, and behind it the bytes that wait.
  alignas(64) Byte buffer_[kShort + kStripe];
};

uint64_t xxh3_64(const Byte* data, size_t size, uint64_t seed = 0);

}  // namespace featx::store
