// RoIAlign on CUDA. A channels_last map of many channels: a block per bin, whose samples are the same for all channels,
// and a thread per 16 bytes of channels. Other maps, and the gradient: one thread per element.
#include "cuda/vectors.cuh"
#include "kernels.h"
#include "roi_elements.h"

namespace featx::cuda {
namespace {

// The samples of one bin of a region; taps come in the order of AlignWindow, so that sums round alike.
template <typename T, typename A = arithmetic_t<T>>
struct AlignBin {
  const Vector<T>* features;
  AlignWindow<A> window;

  // Calls body(pixel of the map, weight) for the four neighbours of every sample. False: there is no such picture.
  template <typename Body>
  __device__ bool for_each_tap(int64_t bin, const Body& body) const {
    const int64_t bins = window.grid.height * window.grid.width;
    return window.for_each_tap(Place{bin / bins, 0, bin % bins}, [&](Place place, A weight) {
      body(place.image * window.map.height * window.map.width + place.pixel, weight);
    });
  }

  __device__ Vector<T> sum(int64_t bin, int64_t vector, int64_t vectors) const {
    A total[Vector<T>::kLength] = {};
    const bool there = for_each_tap(bin, [&](int64_t pixel, A weight) {
      const Vector<T> values = features[pixel * vectors + vector];
#pragma unroll
      for (int i = 0; i < Vector<T>::kLength; ++i) total[i] += weight * static_cast<A>(values.values[i]);
    });
    Vector<T> result;
#pragma unroll
    for (int i = 0; i < Vector<T>::kLength; ++i) result.values[i] = static_cast<T>(there ? total[i] : A(NAN));
    return result;
  }
};

template <typename T>
__global__ void align_kernel(AlignBin<T> align, int64_t bins, int64_t vectors, Vector<T>* out) {
  for (int64_t bin = blockIdx.x; bin < bins; bin += gridDim.x) {
    for (int64_t v = threadIdx.x; v < vectors; v += blockDim.x) out[bin * vectors + v] = align.sum(bin, v, vectors);
  }
}

}  // namespace

Tensor roi_align(const Tensor& features, const Tensor& rois, int64_t height, int64_t width, double scale,
                 int64_t sampling_ratio, bool aligned) {
  const auto by_element = [&] {
    return roi_align_elements(features, rois, height, width, scale, sampling_ratio, aligned);
  };
  if (format_of(features) != MemoryFormat::ChannelsLast) return by_element();
  const Tensor map = dense(features, MemoryFormat::ChannelsLast), regions = dense(rois);
  const Tensor out = empty_grid(features, rois, height, width);
  bool done = false;
  dispatch_features(features, [&](auto zero) {
    using T = decltype(zero);
    using A = arithmetic_t<T>;
    const T* from = map.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    const int64_t channels = map.size(1), bins = out.size(0) * height * width;
    done = has_vectors(from, channels) && has_vectors<T>(to, channels);
    const int64_t vectors = channels / Vector<T>::kLength;
    if (!done || bins == 0 || vectors == 0) return;
    const AlignBin<T> align{as_vectors(from), AlignWindow<A>{Layout(map), Layout(out), regions.const_data_ptr<A>(),
                                                             A(scale), sampling_ratio, aligned}};
    const Launch launch(out);
    align_kernel<T><<<blocks_of_bins(bins), threads_of(vectors), 0, launch.stream>>>(align, bins, vectors,
                                                                                     as_vectors(to));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return done ? out : by_element();
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& features, const Tensor& rois, int64_t, int64_t,
                          double scale, int64_t sampling_ratio, bool aligned) {
  return roi_align_gradient_elements(grad, features, rois, scale, sampling_ratio, aligned);
}

}  // namespace featx::cuda
