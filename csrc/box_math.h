// Arithmetic of one box or one pair of boxes. Boxes are x0 y0 x1 y1 in pixels; `one` is 1 for inclusive widths, else 0.
#pragma once

#include <cmath>

#include "portable.h"

namespace featx {

// Position features of one box: 4 normalised corners, then by the number of columns
// 5: area / (W H);  6: w/W, h/H;  7: w/W, h/H, (w/W)(h/H).
template <typename T>
FEATX_HD void box_geometry(const T* box, T height, T width, int columns, T* out) {
  const T w = box[2] - box[0], h = box[3] - box[1];
  out[0] = box[0] / width;
  out[1] = box[1] / height;
  out[2] = box[2] / width;
  out[3] = box[3] / height;
  if (columns == 5) out[4] = w * h / (width * height);
  if (columns >= 6) out[4] = w / width, out[5] = h / height;
  if (columns == 7) out[6] = out[4] * out[5];
}

template <typename T>
FEATX_HD void denormalize_box(const T* box, T height, T width, T* out) {
  out[0] = box[0] * width;
  out[1] = box[1] * height;
  out[2] = box[2] * width;
  out[3] = box[3] * height;
}

template <typename T>
struct Centred {
  T x, y, w, h;
};

template <typename T>
FEATX_HD Centred<T> centred(const T* box, T one) {
  const T w = box[2] - box[0] + one, h = box[3] - box[1] + one;
  return {box[0] + T(0.5) * w, box[1] + T(0.5) * h, w, h};
}

// Weights of dx, dy, dw, dh, and the upper bound of dw and dh.
template <typename T>
struct DeltaRule {
  T x, y, w, h, clamp, one;
};

template <typename T>
FEATX_HD void encode_delta(const T* box, const T* target, DeltaRule<T> rule, T* out) {
  const Centred<T> from = centred(box, rule.one), to = centred(target, rule.one);
  out[0] = rule.x * ((to.x - from.x) / from.w);
  out[1] = rule.y * ((to.y - from.y) / from.h);
  out[2] = rule.w * std::log(to.w / from.w);
  out[3] = rule.h * std::log(to.h / from.h);
}

template <typename T>
FEATX_HD T at_most(T value, T bound) {
  return value > bound ? bound : value;  // NaN stays
}

template <typename T>
FEATX_HD void decode_delta(const T* delta, const T* box, DeltaRule<T> rule, T* out) {
  const Centred<T> from = centred(box, rule.one);
  const T x = delta[0] / rule.x * from.w + from.x, y = delta[1] / rule.y * from.h + from.y;
  const T w = std::exp(at_most(delta[2] / rule.w, rule.clamp)) * from.w;
  const T h = std::exp(at_most(delta[3] / rule.h, rule.clamp)) * from.h;
  out[0] = x - T(0.5) * w;
  out[1] = y - T(0.5) * h;
  out[2] = x + T(0.5) * w;
  out[3] = y + T(0.5) * h;
}

template <typename T>
FEATX_HD T clip(T value, T bound) {
  return at_most(value < T(0) ? T(0) : value, bound);
}

template <typename T>
FEATX_HD T box_area(T x0, T y0, T x1, T y1, T one) {
  return (x1 - x0 + one) * (y1 - y0 + one);
}

template <typename T>
FEATX_HD T intersection(T ax0, T ay0, T ax1, T ay1, T bx0, T by0, T bx1, T by1, T one) {
  const T w = (ax1 < bx1 ? ax1 : bx1) - (ax0 > bx0 ? ax0 : bx0) + one;
  const T h = (ay1 < by1 ? ay1 : by1) - (ay0 > by0 ? ay0 : by0) + one;
  return (w > T(0) ? w : T(0)) * (h > T(0) ? h : T(0));
}

// 0 where the boxes do not overlap, also where both are empty.
template <typename T>
FEATX_HD T box_iou(const T* a, const T* b, T one) {
  const T shared = intersection(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], one);
  if (!(shared > T(0))) return T(0);
  return shared / (box_area(a[0], a[1], a[2], a[3], one) + box_area(b[0], b[1], b[2], b[3], one) - shared);
}

// How NMS compares. `bar` is the smallest float32 IoU that suppresses: the same decision as comparing the IoU with the
// threshold in float64, without leaving float32.
struct NmsRule {
  float bar, one;
};

inline NmsRule nms_rule(double threshold, bool inclusive, bool plus_one) {
  float bar = static_cast<float>(threshold);
  const bool suppresses = inclusive ? bar >= threshold : bar > threshold;
  if (!suppresses) bar = std::nextafter(bar, INFINITY);
  return {bar, plus_one ? 1.0f : 0.0f};
}

// Boxes apart: one array per coordinate, as the vectorised loops read them.
struct BoxColumns {
  const float *x0, *y0, *x1, *y1, *area;
};

// Whether box a, once kept, drops box b. 0 / 0 (two empty boxes) drops nothing.
FEATX_HD bool suppresses(const BoxColumns& boxes, long a, long b, NmsRule rule) {
  const float shared = intersection(boxes.x0[a], boxes.y0[a], boxes.x1[a], boxes.y1[a], boxes.x0[b], boxes.y0[b],
                                    boxes.x1[b], boxes.y1[b], rule.one);
  return shared / (boxes.area[a] + boxes.area[b] - shared) >= rule.bar;
}

}  // namespace featx
