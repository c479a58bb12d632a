// RoIPool on the CPU.
#include "roi_pixels.h"

namespace featx::cpu {
namespace {

// The bins of all regions, computed once: they are the same for every channel.
struct Bins {
  int64_t rows, columns;
  std::vector<int64_t> picture;
  std::vector<Range> down, across;

  Bins(const Tensor& rois, const MapShape& map, int64_t rows, int64_t columns, float scale)
      : rows(rows), columns(columns) {
    const Tensor packed = dense(rois);
    const float* roi = packed.const_data_ptr<float>();
    for (int64_t k = 0; k < rois.size(0); ++k, roi += 5) {
      picture.push_back(picture_of(roi, map.pictures));
      for (int64_t i = 0; i < rows; ++i) down.push_back(pool_bin(roi[2], roi[4], scale, i, rows, map.height));
      for (int64_t i = 0; i < columns; ++i) across.push_back(pool_bin(roi[1], roi[3], scale, i, columns, map.width));
    }
  }
  int64_t size() const { return rows * columns; }
  int64_t total() const { return std::ssize(picture) * size(); }

  // Calls body(index of the pixel) for every pixel of bin i of all bins, rows first; false if there is none.
  template <typename Body>
  bool for_each_pixel(int64_t i, const MapShape& map, const Body& body) const {
    const int64_t roi = i / size(), bin = i % size();
    const Range y = down[roi * rows + bin / columns], x = across[roi * columns + bin % columns];
    if (picture[roi] < 0 || y.begin >= y.end || x.begin >= x.end) return false;
    for (int64_t row = y.begin; row < y.end; ++row) {
      for (int64_t column = x.begin; column < x.end; ++column) {
        body((picture[roi] * map.height + row) * map.width + column);
      }
    }
    return true;
  }
};

template <typename T>
FEATX_BODY void raise_to(const T* pixel, int64_t channels, T* best) {
  for (int64_t c = 0; c < channels; ++c) best[c] = replaces(pixel[c], best[c]) ? pixel[c] : best[c];
}

// Half precision is compared as integers that rise with the number, NaN highest: cheaper than converting it.
template <typename T>
FEATX_BODY void raise_half(const T* pixel, int64_t channels, T* best, int infinity) {
  const auto key = [infinity](uint16_t bits) {
    const int magnitude = bits & 0x7fff;
    return magnitude > infinity ? 0x8000 : bits >> 15 ? -magnitude : magnitude;
  };
  for (int64_t c = 0; c < channels; ++c) best[c].x = key(pixel[c].x) > key(best[c].x) ? pixel[c].x : best[c].x;
}

FEATX_CLONES void raise(const float* pixel, int64_t channels, float* best) { raise_to(pixel, channels, best); }
FEATX_CLONES void raise(const double* pixel, int64_t channels, double* best) { raise_to(pixel, channels, best); }
FEATX_CLONES void raise(const Half* pixel, int64_t channels, Half* best) { raise_half(pixel, channels, best, 0x7c00); }
FEATX_CLONES void raise(const BFloat16* pixel, int64_t channels, BFloat16* best) {
  raise_half(pixel, channels, best, 0x7f80);
}

template <typename T>
void pool(const Tensor& features, const MapShape& map, const Bins& bins, const Tensor& out) {
  const T* in = features.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  parallel_for(0, bins.total(), grain_of(map), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* best = to + i * map.channels;
      bool first = true;
      const bool filled = bins.for_each_pixel(i, map, [&](int64_t pixel) {
        const T* values = in + pixel * map.channels;
        if (first) std::copy_n(values, map.channels, best);
        else raise(values, map.channels, best);
        first = false;
      });
      const bool there = bins.picture[i / bins.size()] >= 0;
      if (!filled) std::fill_n(best, map.channels, static_cast<T>(there ? 0.0f : NAN));
    }
  });
}

// Finds the maxima of one bin in a block of channels, and which pixels they are.
template <typename A, typename T>
void locate(const T* values, int64_t pixel, bool first, int64_t channels, A* best, int64_t* place) {
  for (int64_t c = 0; c < channels; ++c) {
    const A value = static_cast<A>(values[c]);
    const bool better = first || replaces(value, best[c]);
    best[c] = better ? value : best[c];
    place[c] = better ? pixel : place[c];
  }
}

template <typename T, typename A = arithmetic_t<T>>
void scatter(const Tensor& grad, const Tensor& features, const MapShape& map, const Bins& bins, const Tensor& sum) {
  const T *in = features.const_data_ptr<T>(), *from = grad.const_data_ptr<T>();
  A* to = sum.mutable_data_ptr<A>();
  for_each_channel_block(map.channels, [&](int64_t channel, int64_t count) {
    std::vector<A> best(count);
    std::vector<int64_t> place(count);
    for (int64_t i = 0; i < bins.total(); ++i) {
      bool first = true;
      const bool filled = bins.for_each_pixel(i, map, [&](int64_t pixel) {
        locate(in + pixel * map.channels + channel, pixel, first, count, best.data(), place.data());
        first = false;
      });
      const T* share = from + i * map.channels + channel;
      for (int64_t c = 0; filled && c < count; ++c) {
        to[place[c] * map.channels + channel + c] += static_cast<A>(share[c]);
      }
    }
  });
}

}  // namespace

Tensor roi_pool(const Tensor& features, const Tensor& rois, int64_t height, int64_t width, double scale) {
  const MapShape map(features);
  if (map.channels < kManyChannels) return roi_pool_elements(features, rois, height, width, scale);
  const Bins bins(rois, map, height, width, static_cast<float>(scale));
  const Tensor packed = dense(features, MemoryFormat::ChannelsLast);
  const Tensor out = empty_pixels({rois.size(0), map.channels, height, width}, features);
  dispatch_features(features, [&](auto zero) { pool<decltype(zero)>(packed, map, bins, out); });
  return dense(out, format_of(features));
}

Tensor roi_pool_backward(const Tensor& grad, const Tensor& features, const Tensor& rois, int64_t height, int64_t width,
                         double scale) {
  const MapShape map(features);
  if (map.channels < kManyChannels) return roi_pool_gradient_elements(grad, features, rois, scale);
  const Bins bins(rois, map, height, width, static_cast<float>(scale));
  const Tensor packed = dense(features, MemoryFormat::ChannelsLast), above = dense(grad, MemoryFormat::ChannelsLast);
  const Tensor sum = zeros_to_sum(features, MemoryFormat::ChannelsLast);
  dispatch_features(features, [&](auto zero) { scatter<decltype(zero)>(above, packed, map, bins, sum); });
  return rounded_sum(sum, features);
}

}  // namespace featx::cpu
