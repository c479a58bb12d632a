// The order in which NMS visits boxes: falling score, equal scores by rising index, NaN first (as torch sorts).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace featx {

// Sorts like the score falls: a smaller key is visited earlier. The low half is the index, so no two keys are equal.
inline uint64_t rank_key(float score, uint32_t index) {
  const float positive_zero = score + 0.0f;  // -0 and 0 are equal scores
  uint32_t bits;
  std::memcpy(&bits, &positive_zero, sizeof bits);
  const bool nan = score != score, negative = bits >> 31;
  const uint32_t rising = nan ? 0xffffffffu : negative ? ~bits : bits | 0x80000000u;
  return uint64_t{~rising} << 32 | index;
}

inline uint32_t index_of(uint64_t key) { return static_cast<uint32_t>(key); }

// Keys of n scores in the order of visit; proposals often come sorted already.
inline std::vector<uint64_t> visit_order(const float* scores, int64_t n) {
  std::vector<uint64_t> keys(n);
  for (int64_t i = 0; i < n; ++i) keys[i] = rank_key(scores[i], static_cast<uint32_t>(i));
  if (!std::is_sorted(keys.begin(), keys.end())) std::sort(keys.begin(), keys.end());
  return keys;
}

}  // namespace featx
