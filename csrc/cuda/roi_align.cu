// RoIAlign on CUDA: one thread per element.
#include "kernels.h"
#include "roi_elements.h"

namespace featx::cuda {

Tensor roi_align(const Tensor& features, const Tensor& rois, int64_t height, int64_t width, double scale,
                 int64_t sampling_ratio, bool aligned) {
  return roi_align_elements(features, rois, height, width, scale, sampling_ratio, aligned);
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& features, const Tensor& rois, int64_t, int64_t,
                          double scale, int64_t sampling_ratio, bool aligned) {
  return roi_align_gradient_elements(grad, features, rois, scale, sampling_ratio, aligned);
}

}  // namespace featx::cuda
