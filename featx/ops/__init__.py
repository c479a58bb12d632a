"""Box and region operators: compiled for CPU and CUDA where that was possible, plain torch elsewhere, one meaning."""

from featx.ops.add_bias import add_bias
from featx.ops.boxes import (
    box_geometry,
    box_iou,
    clip_boxes,
    decode_deltas,
    denormalize_boxes,
    encode_deltas,
    normalize_boxes,
)
from featx.ops.library import NativeStatus, native_status
from featx.ops.nms import batched_nms, nms, nms_padded
from featx.ops.roi import roi_align, roi_pool
from featx.ops.select import select_boxes, select_boxes_padded, select_maxnms
from featx.ops.winograd import winograd_compiled, winograd_conv, winograd_weight

__all__ = [
    "NativeStatus",
    "add_bias",
    "batched_nms",
    "box_geometry",
    "box_iou",
    "clip_boxes",
    "decode_deltas",
    "denormalize_boxes",
    "encode_deltas",
    "native_status",
    "nms",
    "nms_padded",
    "normalize_boxes",
    "roi_align",
    "roi_pool",
    "select_boxes",
    "select_boxes_padded",
    "select_maxnms",
    "winograd_compiled",
    "winograd_conv",
    "winograd_weight",
]
