// Numbers at any address. The files of a store are little-endian, and so must be the machine that maps them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "a store is little-endian, this machine is not: install with FEATX_NATIVE=0"
#endif

namespace featx::store {

using Byte = uint8_t;

template <typename T>
inline T load(const void* address) {
  T value;
  std::memcpy(&value, address, sizeof value);
  return value;
}

template <typename T>
inline void save(void* address, T value) {
  std::memcpy(address, &value, sizeof value);
}

inline void prefetch(const void* address) { __builtin_prefetch(address); }

// For what is read once: it does not drive from the caches what is read again.
inline void prefetch_once(const void* address) { __builtin_prefetch(address, 0, 0); }

}  // namespace featx::store
