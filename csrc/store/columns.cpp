#include "columns.h"

#include <algorithm>

namespace featx::store {
namespace {

constexpr size_t kAtOnce = 16;

// Sign of (stored key) - (key); zeros behind a stored key do not belong to it.
int compare(const Byte* stored, size_t width, const Key& key) {
  const int order = std::memcmp(stored, key.data, key.size);
  if (order != 0) return order;
  return key.size < width && stored[key.size] != 0;
}

}  // namespace

// Bisection of several keys in step, so that their waits for memory overlap.
void find(const Columns& columns, const Key* keys, Value* values, size_t n) {
  const auto stored = [&](uint64_t place) { return columns.keys + place * columns.width; };
  for (size_t first = 0; first < n; first += kAtOnce) {
    const size_t size = std::min(kAtOnce, n - first);
    uint64_t low[kAtOnce] = {};
    for (uint64_t length = columns.count; length > 0;) {  // the place is in [low, low + length]
      const uint64_t half = (length + 1) / 2;
      length /= 2;
      for (size_t i = 0; i < size; ++i) {
        const Key& key = keys[first + i];
        if (key.size > columns.width) continue;
        if (compare(stored(low[i] + half - 1), columns.width, key) < 0) low[i] += half;
        if (length > 0) prefetch(stored(low[i] + (length + 1) / 2 - 1));
      }
    }
    for (size_t i = 0; i < size; ++i) {
      const Key& key = keys[first + i];
      const bool fits = key.size > 0 && key.size <= columns.width && low[i] < columns.count;
      const bool same = fits && compare(stored(low[i]), columns.width, key) == 0;
      values[first + i] = {same ? Found::yes : Found::absent, nullptr, 0, low[i]};
    }
  }
}

}  // namespace featx::store
