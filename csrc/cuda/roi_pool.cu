// RoIPool on CUDA. A channels_last map of many channels: a block per bin, whose window is computed once, and a thread
// per 16 bytes of channels. Other maps, and the gradient: one thread per element.
#include "cuda/vectors.cuh"
#include "kernels.h"
#include "roi_elements.h"

namespace featx::cuda {
namespace {

// Sizes of the map and of the grid of bins, and what maps pixels to cells.
struct PoolShape {
  int64_t pictures;
  int32_t map_height, map_width, height, width;
  float scale;
};

// The cells of one bin, and where they begin: picture -1 when there is no such picture.
struct Window {
  int64_t picture;
  Range y, x;

  __device__ Window(const float* rois, int64_t bin, PoolShape shape) {
    const int64_t bins = int64_t{shape.height} * shape.width, cell = bin % bins;
    const float* roi = rois + 5 * (bin / bins);
    picture = picture_of(roi, shape.pictures);
    y = pool_bin(roi[2], roi[4], shape.scale, cell / shape.width, shape.height, shape.map_height);
    x = pool_bin(roi[1], roi[3], shape.scale, cell % shape.width, shape.width, shape.map_width);
  }
  __device__ bool filled() const { return picture >= 0 && y.begin < y.end && x.begin < x.end; }
};

// The first maximum of each of a thread's channels, rows first.
template <typename T>
__device__ Vector<T> maximum(const Vector<T>* features, int64_t vectors, Window window, PoolShape shape) {
  const auto pixel = [&](int64_t row, int64_t column) {
    return features[((window.picture * shape.map_height + row) * shape.map_width + column) * vectors];
  };
  using A = arithmetic_t<T>;
  Vector<T> best = pixel(window.y.begin, window.x.begin);
  for (int32_t row = window.y.begin; row < window.y.end; ++row) {
    for (int32_t column = window.x.begin; column < window.x.end; ++column) {
      const Vector<T> next = pixel(row, column);
#pragma unroll
      for (int i = 0; i < Vector<T>::kLength; ++i) {
        if (replaces(static_cast<A>(next.values[i]), static_cast<A>(best.values[i]))) best.values[i] = next.values[i];
      }
    }
  }
  return best;
}

template <typename T>
__global__ void pool_kernel(const Vector<T>* features, const float* rois, int64_t bins, int64_t vectors,
                            PoolShape shape, Vector<T>* out) {
  for (int64_t bin = blockIdx.x; bin < bins; bin += gridDim.x) {
    const Window window(rois, bin, shape);
    const bool filled = window.filled();
    Vector<T> empty;
#pragma unroll
    for (int i = 0; i < Vector<T>::kLength; ++i) empty.values[i] = static_cast<T>(window.picture < 0 ? NAN : 0.0f);
    for (int64_t v = threadIdx.x; v < vectors; v += blockDim.x) {
      out[bin * vectors + v] = filled ? maximum(features + v, vectors, window, shape) : empty;
    }
  }
}

template <typename T>
void pool(const Tensor& map, const Tensor& rois, PoolShape shape, const Tensor& out) {
  const int64_t vectors = map.size(1) / Vector<T>::kLength, bins = out.size(0) * out.size(2) * out.size(3);
  if (bins == 0 || vectors == 0) return;
  const Launch launch(out);
  pool_kernel<T><<<blocks_of_bins(bins), threads_of(vectors), 0, launch.stream>>>(
      as_vectors(map.const_data_ptr<T>()), rois.const_data_ptr<float>(), bins, vectors, shape,
      as_vectors(out.mutable_data_ptr<T>()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

Tensor roi_pool(const Tensor& features, const Tensor& rois, int64_t height, int64_t width, double scale) {
  if (format_of(features) != MemoryFormat::ChannelsLast) return roi_pool_elements(features, rois, height, width, scale);
  const Tensor map = dense(features, MemoryFormat::ChannelsLast), regions = dense(rois);
  const Tensor out = empty_grid(features, rois, height, width);
  const PoolShape shape{map.size(0),
                        static_cast<int32_t>(map.size(2)),
                        static_cast<int32_t>(map.size(3)),
                        static_cast<int32_t>(height),
                        static_cast<int32_t>(width),
                        static_cast<float>(scale)};
  bool done = false;
  dispatch_features(features, [&](auto zero) {
    using T = decltype(zero);
    // A grid of one bin is contiguous in both formats, and then lies as its channels do all the same.
    done = has_vectors(map.const_data_ptr<T>(), map.size(1)) && has_vectors(out.const_data_ptr<T>(), map.size(1));
    if (done) pool<T>(map, regions, shape, out);
  });
  return done ? out : roi_pool_elements(features, rois, height, width, scale);
}

Tensor roi_pool_backward(const Tensor& grad, const Tensor& features, const Tensor& rois, int64_t, int64_t,
                         double scale) {
  return roi_pool_gradient_elements(grad, features, rois, scale);
}

}  // namespace featx::cuda
