// Arithmetic of one region of a feature map: where its bins are (RoIPool) and where its samples are (RoIAlign).
#pragma once

#include <cmath>
#include <cstdint>

#include "portable.h"

namespace featx {

// The picture a region belongs to, or -1 when there is no such picture.
template <typename T>
FEATX_HD int64_t picture_of(const T* roi, int64_t pictures) {
  return roi[0] >= T(0) && roi[0] < T(pictures) ? static_cast<int64_t>(roi[0]) : -1;
}

struct Range {
  int32_t begin, end;
};

FEATX_HD int32_t within(int64_t value, int64_t limit) {
  return static_cast<int32_t>(value < 0 ? 0 : value > limit ? limit : value);
}

// Rounds half away from zero; cut to 1e8 feature pixels (NaN to the low end), so that integers cannot overflow.
FEATX_HD int64_t corner(float pixel, float scale) {
  const float at = std::round(pixel * scale);
  return static_cast<int64_t>(!(at >= -1e8f) ? -1e8f : at > 1e8f ? 1e8f : at);
}

// Feature rows (or columns) of bin `i` of `bins` between two pixel coordinates. The step is a float32 quotient: exact
// arithmetic would move some edges.
FEATX_HD Range pool_bin(float low, float high, float scale, int64_t i, int64_t bins, int64_t limit) {
  const int64_t start = corner(low, scale), end = corner(high, scale);
  const float window = static_cast<float>(end - start + 1);
  const float step = (window < 1.0f ? 1.0f : window) / static_cast<float>(bins);
  const int64_t first = static_cast<int64_t>(std::floor(static_cast<float>(i) * step)) + start;
  const int64_t last = static_cast<int64_t>(std::ceil(static_cast<float>(i + 1) * step)) + start;
  return {within(first, limit), within(last, limit)};
}

// Whether `value` replaces the maximum so far: the first of equals stays, and a NaN, once met, stays.
template <typename T>
FEATX_HD bool replaces(T value, T best) {
  return (value > best) | ((value != value) & (best == best));
}

// One axis of a region in RoIAlign: where its bins start, how long one is, how many samples it has.
template <typename T>
struct AlignAxis {
  T start, step;
  int64_t samples;
};

template <typename T>
FEATX_HD AlignAxis<T> align_axis(T low, T high, T scale, int64_t bins, int64_t sampling_ratio, bool aligned) {
  const T shift = aligned ? T(0.5) : T(0);
  const T start = low * scale - shift;
  T size = high * scale - shift - start;
  if (!aligned && size < T(1)) size = T(1);
  const T step = size / static_cast<T>(bins);
  const int64_t samples = sampling_ratio > 0 ? sampling_ratio : static_cast<int64_t>(std::ceil(step));
  return {start, step, samples > 0 ? samples : 0};
}

// One sample on one axis: two neighbours and their weights, divided by the number of samples; 0 outside the map.
template <typename T>
struct AxisSample {
  int64_t low, high;
  T weight_low, weight_high;
};

template <typename T>
FEATX_HD AxisSample<T> axis_sample(const AlignAxis<T>& axis, int64_t bin, int64_t i, int64_t limit) {
  const T count = static_cast<T>(axis.samples);
  T at = axis.start + static_cast<T>(bin) * axis.step + (static_cast<T>(i) + T(0.5)) * axis.step / count;
  if (!(at >= T(-1) && at <= T(limit))) return {0, 0, T(0), T(0)};
  at = at < T(0) ? T(0) : at > T(limit - 1) ? T(limit - 1) : at;
  const int64_t low = static_cast<int64_t>(at);
  const T part = at - static_cast<T>(low);
  return {low, low + 1 < limit ? low + 1 : low, (T(1) - part) / count, part / count};
}

}  // namespace featx
