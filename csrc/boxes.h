// The elementwise box operators, written once; boxes.cpp and boxes.cu compile this for their device.
#pragma once

#include "aten.h"
#include "box_math.h"
#include "for_each.h"
#include "kernels.h"

namespace featx::FEATX_DEVICE {
namespace {

// Finds the size of the picture that a row belongs to: `ends` has the past-last row of each picture, or is null when
// every picture has `each` rows. A row past the last picture gets the last one, so that no count reads outside.
template <typename T>
struct SizeOfRow {
  const T* sizes;  // height, width
  const int64_t* ends;
  int64_t pictures, each;

  FEATX_HD const T* operator()(int64_t row) const {
    int64_t low = 0, high = pictures - 1;
    if (!ends) return sizes + 2 * (row / each < high ? row / each : high);
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (row < ends[middle]) high = middle;
      else low = middle + 1;
    }
    return sizes + 2 * low;
  }
};

// Where the size of each row is found; `ends` must outlive it.
template <typename T>
SizeOfRow<T> size_of_row(const Tensor& sizes, const std::optional<Tensor>& ends, int64_t rows) {
  const int64_t pictures = sizes.size(0);
  STD_TORCH_CHECK(pictures > 0 || rows == 0, rows, " boxes of no picture");
  return {sizes.const_data_ptr<T>(), ends ? ends->const_data_ptr<int64_t>() : nullptr, pictures,
          rows > pictures ? rows / pictures : 1};
}

std::optional<Tensor> running_sum(const std::optional<Tensor>& counts) {
  return counts ? std::optional(aten::cumsum(*counts)) : std::nullopt;
}

// The body of each operator: what happens to element i.

template <typename T>
struct Geometry {
  const T* boxes;
  SizeOfRow<T> size_of;
  int64_t columns;
  T* out;
  FEATX_HD void operator()(int64_t i) const {
    const T* size = size_of(i);
    featx::box_geometry(boxes + 4 * i, size[0], size[1], static_cast<int>(columns), out + columns * i);
  }
};

template <typename T>
struct Denormalize {
  const T* boxes;
  SizeOfRow<T> size_of;
  T* out;
  FEATX_HD void operator()(int64_t i) const {
    const T* size = size_of(i);
    denormalize_box(boxes + 4 * i, size[0], size[1], out + 4 * i);
  }
};

template <typename T>
struct Encode {
  const T *boxes, *targets;
  DeltaRule<T> rule;
  T* out;
  FEATX_HD void operator()(int64_t i) const { encode_delta(boxes + 4 * i, targets + 4 * i, rule, out + 4 * i); }
};

template <typename T>
struct Decode {
  const T *deltas, *boxes;
  DeltaRule<T> rule;
  int64_t classes;
  T* out;
  FEATX_HD void operator()(int64_t i) const {
    decode_delta(deltas + 4 * i, boxes + i / classes * 4, rule, out + 4 * i);
  }
};

template <typename T>
struct Clip {
  const T* boxes;
  T height, width;
  T* out;
  FEATX_HD void operator()(int64_t i) const { out[i] = clip(boxes[i], i % 2 ? height : width); }
};

template <typename T>
struct Iou {
  const T *a, *b;
  int64_t columns;
  T one;
  T* out;
  FEATX_HD void operator()(int64_t i) const { out[i] = featx::box_iou(a + i / columns * 4, b + i % columns * 4, one); }
};

template <typename T>
DeltaRule<T> delta_rule(const std::vector<double>& weights, double clamp, bool plus_one) {
  STD_TORCH_CHECK(weights.size() == 4, "expected 4 weights");
  return {T(weights[0]), T(weights[1]), T(weights[2]), T(weights[3]), T(clamp), T(plus_one)};
}

}  // namespace

Tensor box_geometry(const Tensor& boxes, const Tensor& sizes, const std::optional<Tensor>& counts, int64_t columns) {
  const Tensor from = dense(boxes), size = dense(sizes), to = empty({boxes.size(0), columns}, boxes);
  const std::optional<Tensor> ends = running_sum(counts);
  dispatch_boxes(boxes, [&](auto zero) {
    using T = decltype(zero);
    for_each(boxes.size(0), boxes,
             Geometry<T>{from.const_data_ptr<T>(), size_of_row<T>(size, ends, boxes.size(0)), columns,
                         to.mutable_data_ptr<T>()});
  });
  return to;
}

Tensor denormalize_boxes(const Tensor& boxes, const Tensor& sizes, const std::optional<Tensor>& counts) {
  const Tensor from = dense(boxes), size = dense(sizes), to = empty({boxes.size(0), 4}, boxes);
  const std::optional<Tensor> ends = running_sum(counts);
  dispatch_boxes(boxes, [&](auto zero) {
    using T = decltype(zero);
    for_each(boxes.size(0), boxes,
             Denormalize<T>{from.const_data_ptr<T>(), size_of_row<T>(size, ends, boxes.size(0)),
                            to.mutable_data_ptr<T>()});
  });
  return to;
}

Tensor encode_deltas(const Tensor& boxes, const Tensor& targets, const std::vector<double>& weights, bool plus_one) {
  const Tensor from = dense(boxes), goal = dense(targets), to = empty({boxes.size(0), 4}, boxes);
  dispatch_boxes(boxes, [&](auto zero) {
    using T = decltype(zero);
    for_each(boxes.size(0), boxes,
             Encode<T>{from.const_data_ptr<T>(), goal.const_data_ptr<T>(), delta_rule<T>(weights, 0, plus_one),
                       to.mutable_data_ptr<T>()});
  });
  return to;
}

Tensor decode_deltas(const Tensor& deltas, const Tensor& boxes, const std::vector<double>& weights, double clamp,
                     bool plus_one) {
  const Tensor from = dense(boxes), moves = dense(deltas), to = empty({deltas.size(0), deltas.size(1)}, deltas);
  const int64_t classes = deltas.size(1) / 4;
  dispatch_boxes(boxes, [&](auto zero) {
    using T = decltype(zero);
    for_each(boxes.size(0) * classes, boxes,
             Decode<T>{moves.const_data_ptr<T>(), from.const_data_ptr<T>(), delta_rule<T>(weights, clamp, plus_one),
                       classes, to.mutable_data_ptr<T>()});
  });
  return to;
}

Tensor clip_boxes(const Tensor& boxes, double height, double width) {
  const Tensor from = dense(boxes), to = empty({boxes.size(0), 4}, boxes);
  dispatch_boxes(boxes, [&](auto zero) {
    using T = decltype(zero);
    for_each(boxes.numel(), boxes, Clip<T>{from.const_data_ptr<T>(), T(height), T(width), to.mutable_data_ptr<T>()});
  });
  return to;
}

Tensor box_iou(const Tensor& a, const Tensor& b, bool plus_one) {
  const Tensor rows = dense(a), columns = dense(b), to = empty({a.size(0), b.size(0)}, a);
  dispatch_boxes(a, [&](auto zero) {
    using T = decltype(zero);
    for_each(to.numel(), a,
             Iou<T>{rows.const_data_ptr<T>(), columns.const_data_ptr<T>(), b.size(0), T(plus_one),
                    to.mutable_data_ptr<T>()});
  });
  return to;
}

}  // namespace featx::FEATX_DEVICE
