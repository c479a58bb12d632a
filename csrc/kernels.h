// Every kernel once per device, with the signature of its schema in featx/ops.
#pragma once

#include "tensor.h"

#define FEATX_DECLARE(device)                                                                                          \
  namespace featx::device {                                                                                            \
  Tensor box_geometry(const Tensor& boxes, const Tensor& sizes, const std::optional<Tensor>& counts, int64_t columns); \
  Tensor denormalize_boxes(const Tensor& boxes, const Tensor& sizes, const std::optional<Tensor>& counts);             \
  Tensor encode_deltas(const Tensor& boxes, const Tensor& targets, const std::vector<double>& weights, bool plus_one); \
  Tensor decode_deltas(const Tensor& deltas, const Tensor& boxes, const std::vector<double>& weights, double clamp,    \
                       bool plus_one);                                                                                 \
  Tensor clip_boxes(const Tensor& boxes, double height, double width);                                                 \
  Tensor box_iou(const Tensor& a, const Tensor& b, bool plus_one);                                                     \
  Tensor nms(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& classes, double threshold,        \
             bool inclusive, bool plus_one, int64_t limit);                                                            \
  std::tuple<Tensor, Tensor> select_boxes(const Tensor& boxes, const Tensor& probs, double nms_threshold,              \
                                          double score_threshold, int64_t min_boxes, int64_t max_boxes,                \
                                          bool inclusive, bool plus_one);                                              \
  Tensor roi_pool(const Tensor& features, const Tensor& rois, int64_t height, int64_t width, double scale);            \
  Tensor roi_pool_backward(const Tensor& grad, const Tensor& features, const Tensor& rois, int64_t height,             \
                           int64_t width, double scale);                                                               \
  Tensor roi_align(const Tensor& features, const Tensor& rois, int64_t height, int64_t width, double scale,            \
                   int64_t sampling_ratio, bool aligned);                                                              \
  Tensor roi_align_backward(const Tensor& grad, const Tensor& features, const Tensor& rois, int64_t height,            \
                            int64_t width, double scale, int64_t sampling_ratio, bool aligned);                        \
  }

FEATX_DECLARE(cpu)
FEATX_DECLARE(cuda)

// Results of a fixed length with their number, so that nothing is read back from the device. `taking` [1]: only so many
// boxes take part. The CPU has nothing to wait for: there the schemas' references call the kernels above.
namespace featx::cuda {
std::tuple<Tensor, Tensor> nms_padded(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& classes,
                                      const Tensor& taking, double threshold, bool inclusive, bool plus_one,
                                      int64_t limit);
std::tuple<Tensor, Tensor, Tensor> select_boxes_padded(const Tensor& boxes, const Tensor& probs, const Tensor& taking,
                                                       double nms_threshold, double score_threshold, int64_t min_boxes,
                                                       int64_t max_boxes, bool inclusive, bool plus_one);

// oneDNN does this within its convolutions.
Tensor add_bias(const Tensor& x, const Tensor& bias, const std::optional<Tensor>& shortcut, bool relu);
}  // namespace featx::cuda
