// RoIAlign on the CPU. Bilinear weights are separable: a bin is the sum over its rows and columns of
// weight(row) weight(column) value, and the weights are the same for every channel.
#include "roi_pixels.h"

namespace featx::cpu {
namespace {

// The rows (or columns) a bin reads, from `begin` on, with their weights.
template <typename A>
struct Taps {
  int64_t begin = 0;
  std::vector<A> weights;
};

template <typename A>
Taps<A> taps_of(const AlignAxis<A>& axis, int64_t bin, int64_t limit) {
  Taps<A> taps;
  int64_t first = limit, last = -1;
  for (int64_t i = 0; i < axis.samples; ++i) {
    const AxisSample<A> sample = axis_sample(axis, bin, i, limit);
    if (sample.weight_low == A(0) && sample.weight_high == A(0)) continue;
    first = std::min(first, sample.low);
    last = std::max(last, sample.high);
  }
  taps.begin = first;
  taps.weights.resize(std::max<int64_t>(last - first + 1, 0));
  for (int64_t i = 0; i < axis.samples && last >= 0; ++i) {
    const AxisSample<A> sample = axis_sample(axis, bin, i, limit);
    if (sample.weight_low == A(0) && sample.weight_high == A(0)) continue;
    taps.weights[sample.low - first] += sample.weight_low;
    taps.weights[sample.high - first] += sample.weight_high;
  }
  return taps;
}

// The taps of all bins of all regions.
template <typename A>
struct Grid {
  int64_t rows, columns;
  std::vector<int64_t> picture;
  std::vector<Taps<A>> down, across;

  Grid(const Tensor& rois, const MapShape& map, int64_t rows, int64_t columns, A scale, int64_t ratio, bool aligned)
      : rows(rows), columns(columns) {
    const Tensor packed = dense(rois);
    const A* roi = packed.const_data_ptr<A>();
    for (int64_t k = 0; k < rois.size(0); ++k, roi += 5) {
      picture.push_back(picture_of(roi, map.pictures));
      const auto vertical = align_axis(roi[2], roi[4], scale, rows, ratio, aligned);
      const auto horizontal = align_axis(roi[1], roi[3], scale, columns, ratio, aligned);
      for (int64_t i = 0; i < rows; ++i) down.push_back(taps_of(vertical, i, map.height));
      for (int64_t i = 0; i < columns; ++i) across.push_back(taps_of(horizontal, i, map.width));
    }
  }
  int64_t size() const { return rows * columns; }
  int64_t total() const { return std::ssize(picture) * size(); }
  bool is_there(int64_t i) const { return picture[i / size()] >= 0; }

  // Calls body(index of the pixel, weight) for every pixel that bin i of all bins reads.
  template <typename Body>
  void for_each_tap(int64_t i, const MapShape& map, const Body& body) const {
    const int64_t roi = i / size(), bin = i % size();
    const Taps<A>&y = down[roi * rows + bin / columns], &x = across[roi * columns + bin % columns];
    for (int64_t j = 0; j < std::ssize(y.weights) && is_there(i); ++j) {
      const int64_t row = (picture[roi] * map.height + y.begin + j) * map.width + x.begin;
      for (int64_t k = 0; k < std::ssize(x.weights); ++k) body(row + k, y.weights[j] * x.weights[k]);
    }
  }
};

template <typename T, typename A>
FEATX_BODY void add_to(const T* pixel, A weight, int64_t channels, A* sum) {
  for (int64_t c = 0; c < channels; ++c) sum[c] += weight * static_cast<A>(pixel[c]);
}

FEATX_CLONES void add(const float* pixel, float w, int64_t n, float* sum) { add_to(pixel, w, n, sum); }
FEATX_CLONES void add(const double* pixel, double w, int64_t n, double* sum) { add_to(pixel, w, n, sum); }
FEATX_CLONES void add(const Half* pixel, float w, int64_t n, float* sum) { add_to(pixel, w, n, sum); }
FEATX_CLONES void add(const BFloat16* pixel, float w, int64_t n, float* sum) { add_to(pixel, w, n, sum); }

template <typename T, typename A>
void align(const Tensor& features, const MapShape& map, const Grid<A>& grid, const Tensor& out) {
  const T* in = features.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  parallel_for(0, grid.total(), grain_of(map), [&](int64_t begin, int64_t end) {
    std::vector<A> sum(map.channels);
    for (int64_t i = begin; i < end; ++i) {
      std::fill(sum.begin(), sum.end(), grid.is_there(i) ? A(0) : A(NAN));
      grid.for_each_tap(i, map, [&](int64_t pixel, A weight) {
        add(in + pixel * map.channels, weight, map.channels, sum.data());
      });
      std::copy(sum.begin(), sum.end(), to + i * map.channels);
    }
  });
}

template <typename T, typename A>
void spread(const Tensor& grad, const MapShape& map, const Grid<A>& grid, const Tensor& sum) {
  const T* from = grad.const_data_ptr<T>();
  A* to = sum.mutable_data_ptr<A>();
  for_each_channel_block(map.channels, [&](int64_t channel, int64_t count) {
    for (int64_t i = 0; i < grid.total(); ++i) {
      const T* share = from + i * map.channels + channel;
      grid.for_each_tap(i, map, [&](int64_t pixel, A weight) {
        add(share, weight, count, to + pixel * map.channels + channel);
      });
    }
  });
}

}  // namespace

Tensor roi_align(const Tensor& features, const Tensor& rois, int64_t height, int64_t width, double scale,
                 int64_t sampling_ratio, bool aligned) {
  const MapShape map(features);
  if (map.channels < kManyChannels) {
    return roi_align_elements(features, rois, height, width, scale, sampling_ratio, aligned);
  }
  const Tensor packed = dense(features, MemoryFormat::ChannelsLast);
  const Tensor out = empty_pixels({rois.size(0), map.channels, height, width}, features);
  dispatch_features(features, [&](auto zero) {
    using T = decltype(zero);
    using A = arithmetic_t<T>;
    align<T>(packed, map, Grid<A>(rois, map, height, width, A(scale), sampling_ratio, aligned), out);
  });
  return dense(out, format_of(features));
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& features, const Tensor& rois, int64_t height,
                          int64_t width, double scale, int64_t sampling_ratio, bool aligned) {
  const MapShape map(features);
  if (map.channels < kManyChannels) {
    return roi_align_gradient_elements(grad, features, rois, scale, sampling_ratio, aligned);
  }
  const Tensor above = dense(grad, MemoryFormat::ChannelsLast);
  const Tensor sum = zeros_to_sum(features, MemoryFormat::ChannelsLast);
  dispatch_features(features, [&](auto zero) {
    using T = decltype(zero);
    using A = arithmetic_t<T>;
    spread<T>(above, map, Grid<A>(rois, map, height, width, A(scale), sampling_ratio, aligned), sum);
  });
  return rounded_sum(sum, features);
}

}  // namespace featx::cpu
