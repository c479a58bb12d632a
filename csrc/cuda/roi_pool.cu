// RoIPool on CUDA: one thread per element.
#include "kernels.h"
#include "roi_elements.h"

namespace featx::cuda {

Tensor roi_pool(const Tensor& features, const Tensor& rois, int64_t height, int64_t width, double scale) {
  return roi_pool_elements(features, rois, height, width, scale);
}

Tensor roi_pool_backward(const Tensor& grad, const Tensor& features, const Tensor& rois, int64_t, int64_t,
                         double scale) {
  return roi_pool_gradient_elements(grad, features, rois, scale);
}

}  // namespace featx::cuda
