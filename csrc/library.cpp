// Registers the kernels for the schemas that featx/ops declares. Nothing else here knows the dispatcher.
#include "kernels.h"
#include "winograd.h"

#define FEATX_REGISTER(device)                                        \
  m.impl("box_geometry", TORCH_BOX(&device::box_geometry));           \
  m.impl("denormalize_boxes", TORCH_BOX(&device::denormalize_boxes)); \
  m.impl("encode_deltas", TORCH_BOX(&device::encode_deltas));         \
  m.impl("decode_deltas", TORCH_BOX(&device::decode_deltas));         \
  m.impl("clip_boxes", TORCH_BOX(&device::clip_boxes));               \
  m.impl("box_iou", TORCH_BOX(&device::box_iou));                     \
  m.impl("nms", TORCH_BOX(&device::nms));                             \
  m.impl("select_boxes", TORCH_BOX(&device::select_boxes));           \
  m.impl("roi_pool", TORCH_BOX(&device::roi_pool));                   \
  m.impl("roi_pool_backward", TORCH_BOX(&device::roi_pool_backward)); \
  m.impl("roi_align", TORCH_BOX(&device::roi_align));                 \
  m.impl("roi_align_backward", TORCH_BOX(&device::roi_align_backward));

STABLE_TORCH_LIBRARY_IMPL(featx, CPU, m) {
  using namespace featx;
  FEATX_REGISTER(cpu)
  if (cpu::winograd_level() > 0) m.impl("winograd_conv", TORCH_BOX(&cpu::winograd_conv));
}

#ifdef FEATX_CUDA
STABLE_TORCH_LIBRARY_IMPL(featx, CUDA, m) {
  using namespace featx;
  FEATX_REGISTER(cuda)
  m.impl("add_bias", TORCH_BOX(&cuda::add_bias));
  m.impl("nms_padded", TORCH_BOX(&cuda::nms_padded));
  m.impl("select_boxes_padded", TORCH_BOX(&cuda::select_boxes_padded));
}
#endif
