// RoIPool and RoIAlign one output element at a time, in any memory format. This is all that CUDA runs; the CPU runs it
// for maps of few channels, where whole pixels are too short to be worth a vector loop.
#pragma once

#include "for_each.h"
#include "roi_math.h"

namespace featx::FEATX_DEVICE {

struct Place {
  int64_t image, channel, pixel;
};

// How a feature map [B, C, H, W] or a pooled grid [K, C, P, Q] lies in memory.
struct Layout {
  int64_t images, channels, height, width;
  bool channels_last;

  explicit Layout(const Tensor& t)
      : images(t.size(0)), channels(t.size(1)), height(t.size(2)), width(t.size(3)),
        channels_last(format_of(t) == MemoryFormat::ChannelsLast) {}

  FEATX_HD int64_t offset(Place p) const {
    const int64_t pixels = height * width;
    return channels_last ? (p.image * pixels + p.pixel) * channels + p.channel
                         : (p.image * channels + p.channel) * pixels + p.pixel;
  }
  FEATX_HD Place place(int64_t offset) const {
    const int64_t pixels = height * width, image = offset / (pixels * channels);
    return channels_last ? Place{image, offset % channels, offset / channels % pixels}
                         : Place{image, offset / pixels % channels, offset % pixels};
  }
};

// --- RoIPool

template <typename T>
struct PoolWindow {
  const T* features;
  Layout map, grid;
  const float* rois;
  float scale;

  // Picture of the region, and the pixel of the first maximum of the bin: -1 where there is none.
  FEATX_HD Place find(Place out) const {
    const float* roi = rois + 5 * out.image;
    const int64_t row = out.pixel / grid.width, column = out.pixel % grid.width;
    const Range y = pool_bin(roi[2], roi[4], scale, row, grid.height, map.height);
    const Range x = pool_bin(roi[1], roi[3], scale, column, grid.width, map.width);
    Place best{picture_of(roi, map.images), out.channel, -1};
    for (int64_t i = y.begin; i < y.end && best.image >= 0; ++i) {
      for (int64_t j = x.begin; j < x.end; ++j) {
        const int64_t pixel = i * map.width + j;
        if (best.pixel < 0 || replaces(at(best, pixel), at(best, best.pixel))) best.pixel = pixel;
      }
    }
    return best;
  }
  FEATX_HD arithmetic_t<T> at(Place place, int64_t pixel) const {
    place.pixel = pixel;
    return static_cast<arithmetic_t<T>>(features[map.offset(place)]);
  }
};

template <typename T>
struct PoolElement {
  PoolWindow<T> window;
  T* out;
  FEATX_HD void operator()(int64_t i) const {
    const Place best = window.find(window.grid.place(i));
    out[i] = best.pixel >= 0 ? window.features[window.map.offset(best)] : static_cast<T>(best.image < 0 ? NAN : 0.0f);
  }
};

template <typename T>
struct PoolGradient {
  PoolWindow<T> window;
  const T* grad;
  arithmetic_t<T>* sum;
  FEATX_ON_DEVICE void operator()(int64_t i) const {
    const Place best = window.find(window.grid.place(i));
    if (best.pixel >= 0) add_shared(sum[window.map.offset(best)], static_cast<arithmetic_t<T>>(grad[i]));
  }
};

// --- RoIAlign

template <typename A>
struct AlignWindow {
  Layout map, grid;
  const A* rois;
  A scale;
  int64_t sampling_ratio;
  bool aligned;

  // Calls body(place in the map, weight) for the four neighbours of every sample of a bin. False: no such picture.
  template <typename Body>
  FEATX_HD bool for_each_tap(Place out, const Body& body) const {
    const A* roi = rois + 5 * out.image;
    const int64_t picture = picture_of(roi, map.images);
    if (picture < 0) return false;
    const auto down = align_axis(roi[2], roi[4], scale, grid.height, sampling_ratio, aligned);
    const auto across = align_axis(roi[1], roi[3], scale, grid.width, sampling_ratio, aligned);
    for (int64_t i = 0; i < down.samples; ++i) {
      const auto y = axis_sample(down, out.pixel / grid.width, i, map.height);
      for (int64_t j = 0; j < across.samples; ++j) {
        const auto x = axis_sample(across, out.pixel % grid.width, j, map.width);
        const auto tap = [&](int64_t row, int64_t column, A weight) {
          if (weight != A(0)) body(Place{picture, out.channel, row * map.width + column}, weight);
        };
        tap(y.low, x.low, y.weight_low * x.weight_low);
        tap(y.low, x.high, y.weight_low * x.weight_high);
        tap(y.high, x.low, y.weight_high * x.weight_low);
        tap(y.high, x.high, y.weight_high * x.weight_high);
      }
    }
    return true;
  }
};

template <typename T, typename A = arithmetic_t<T>>
struct AlignElement {
  const T* features;
  AlignWindow<A> window;
  T* out;
  FEATX_HD void operator()(int64_t i) const {
    A sum = 0;
    const bool there = window.for_each_tap(window.grid.place(i), [&](Place place, A weight) {
      sum += weight * static_cast<A>(features[window.map.offset(place)]);
    });
    out[i] = static_cast<T>(there ? sum : A(NAN));
  }
};

template <typename T, typename A = arithmetic_t<T>>
struct AlignGradient {
  AlignWindow<A> window;
  const T* grad;
  A* sum;
  FEATX_ON_DEVICE void operator()(int64_t i) const {
    const A share = static_cast<A>(grad[i]);
    window.for_each_tap(window.grid.place(i),
                        [&](Place place, A weight) { add_shared(sum[window.map.offset(place)], weight * share); });
  }
};

// --- the operators

inline Tensor empty_grid(const Tensor& features, const Tensor& rois, int64_t height, int64_t width) {
  return empty({rois.size(0), features.size(1), height, width}, features, std::nullopt, format_of(features));
}

inline Tensor roi_pool_elements(const Tensor& features, const Tensor& rois, int64_t height, int64_t width,
                                double scale) {
  const Tensor map = dense(features, format_of(features)), regions = dense(rois);
  const Tensor out = empty_grid(features, rois, height, width);
  dispatch_features(features, [&](auto zero) {
    using T = decltype(zero);
    const PoolWindow<T> window{map.const_data_ptr<T>(), Layout(map), Layout(out), regions.const_data_ptr<float>(),
                               static_cast<float>(scale)};
    for_each(out.numel(), out, PoolElement<T>{window, out.mutable_data_ptr<T>()});
  });
  return out;
}

inline Tensor roi_pool_gradient_elements(const Tensor& grad, const Tensor& features, const Tensor& rois, double scale) {
  const Tensor map = dense(features, format_of(features)), regions = dense(rois), above = dense(grad, format_of(grad));
  const Tensor sum = zeros_to_sum(features);
  dispatch_features(features, [&](auto zero) {
    using T = decltype(zero);
    const PoolWindow<T> window{map.const_data_ptr<T>(), Layout(map), Layout(above), regions.const_data_ptr<float>(),
                               static_cast<float>(scale)};
    for_each_adding(above.numel(), sum,
                    PoolGradient<T>{window, above.const_data_ptr<T>(), sum.mutable_data_ptr<arithmetic_t<T>>()});
  });
  return rounded_sum(sum, features);
}

inline Tensor roi_align_elements(const Tensor& features, const Tensor& rois, int64_t height, int64_t width,
                                 double scale, int64_t sampling_ratio, bool aligned) {
  const Tensor map = dense(features, format_of(features)), regions = dense(rois);
  const Tensor out = empty_grid(features, rois, height, width);
  dispatch_features(features, [&](auto zero) {
    using T = decltype(zero);
    using A = arithmetic_t<T>;
    const AlignWindow<A> window{Layout(map), Layout(out), regions.const_data_ptr<A>(), A(scale), sampling_ratio,
                                aligned};
    for_each(out.numel(), out, AlignElement<T>{map.const_data_ptr<T>(), window, out.mutable_data_ptr<T>()});
  });
  return out;
}

inline Tensor roi_align_gradient_elements(const Tensor& grad, const Tensor& features, const Tensor& rois, double scale,
                                          int64_t sampling_ratio, bool aligned) {
  const Tensor regions = dense(rois), above = dense(grad, format_of(grad)), sum = zeros_to_sum(features);
  dispatch_features(features, [&](auto zero) {
    using T = decltype(zero);
    using A = arithmetic_t<T>;
    const AlignWindow<A> window{Layout(sum), Layout(above), regions.const_data_ptr<A>(), A(scale), sampling_ratio,
                                aligned};
    for_each_adding(above.numel(), sum,
                    AlignGradient<T>{window, above.const_data_ptr<T>(), sum.mutable_data_ptr<A>()});
  });
  return rounded_sum(sum, features);
}

}  // namespace featx::FEATX_DEVICE
