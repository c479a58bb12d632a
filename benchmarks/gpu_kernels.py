"""Our CUDA kernels on the sizes of the full-size network, against what bounds them.

RoIPool and the sums behind a convolution are bound by memory: their floor is one read of what goes in and one write of
what comes out, at the rate of a copy of the same run. NMS and selection move next to nothing and are chains of kernels
that need each other: their floor is the number of their kernels times the time from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch.nn import functional

from benchmarks.device import timed, watched
from benchmarks.select import case
from featx import ops
from featx_extractors.precision import PRECISIONS


@dataclass(frozen=True)
class Kernel:
    """One operator: its seconds and its floor, which is of ``bound``: bytes or kernels."""

    name: str
    bound: str
    amount: float
    seconds: float
    floor: float

    HEADS: ClassVar[tuple[str, ...]] = ("kernel", "bound by", "us", "floor us", "of floor")

    def line(self) -> tuple[str, ...]:
        """One row of the table."""
        amount = f"{self.amount / 1e6:.0f} MB" if self.bound == "bytes" else f"{self.amount:.0f} kernels"
        share = self.floor / self.seconds if self.seconds else float("nan")
        return (self.name, amount, f"{self.seconds * 1e6:.1f}", f"{self.floor * 1e6:.1f}", f"{share:.0%}")


# Of res5 on 300 regions and of res4 on a photo: channels in and out, side of the kernel, dilation, maps, rows, columns.
CONVOLUTIONS = {
    "res5 1x1 2048-512": (2048, 512, 1, 1, 300, 14, 14),
    "res5 3x3 512": (512, 512, 3, 2, 300, 14, 14),
    "res5 1x1 512-2048": (512, 2048, 1, 1, 300, 14, 14),
    "res4 3x3 256": (256, 256, 3, 1, 8, 50, 67),
}


@torch.inference_mode()
def convolutions(device: torch.device, precisions: Sequence[str], *, small: bool = False) -> list[dict[str, Any]]:
    """Operations a second of the bare convolutions that cost most, in both layouts: the most the network can reach."""
    found = []
    for name, (ins, outs, side, dilation, maps, rows, columns) in CONVOLUTIONS.items():
        maps, ins, outs = (2, ins // 16, outs // 16) if small else (maps, ins, outs)
        for precision in (PRECISIONS[each] for each in precisions):
            row: dict[str, Any] = {"name": name, "precision": precision.name}
            for layout, form in (("channels last", torch.channels_last), ("NCHW", torch.contiguous_format)):
                x = torch.randn(maps, ins, rows, columns, device=device).to(precision.dtype, memory_format=form)
                weight = torch.randn(outs, ins, side, side, device=device).to(precision.dtype, memory_format=form)
                call = partial(functional.conv2d, x, weight, None, 1, dilation * (side // 2), dilation)
                with precision.flags(device):
                    seconds = timed(call, device, repeats=5)
                row[layout] = 2.0 * weight.numel() * maps * rows * columns / seconds
            found.append(row)
    return found


def size_of(*tensors: torch.Tensor) -> int:
    """Bytes of all."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@torch.inference_mode()
def kernels(device: torch.device, copies: float, launch: float, *, small: bool = False) -> list[Kernel]:
    """Every operator of ours that a picture goes through, in the order of its path."""
    regions, found = (20 if small else 300), []
    boxes, probs = (each[:regions].to(device) for each in case(0, 4.0))
    rois = torch.cat([boxes.new_zeros(regions, 1), boxes * 1.66], 1)
    channels = 64 if small else 1024
    for dtype in (torch.float32, torch.bfloat16):
        short = str(dtype).removeprefix("torch.")
        res4 = torch.randn(1, channels, 50, 67, device=device).to(dtype, memory_format=torch.channels_last)
        pooled = ops.roi_pool(res4, rois, 14, 1 / 16)
        pools = lambda x=res4: ops.roi_pool(x, rois, 14, 1 / 16)  # noqa: E731
        found.append(_by_bytes(f"roi_pool {short}", pools, size_of(res4, pooled), copies, device))
        deep = torch.cat([pooled, pooled], 1).contiguous(memory_format=torch.channels_last)
        bias, shortcut = torch.randn(deep.shape[1], device=device).to(dtype), torch.randn_like(deep)
        summed = lambda x=deep, b=bias, more=shortcut: ops.add_bias(x, b, more, relu=True)  # noqa: E731
        found.append(_by_bytes(f"add_bias with shortcut {short}", summed, 3 * size_of(deep), copies, device))
    many = 100 if small else 6000
    random = torch.Generator().manual_seed(1)
    corner = torch.rand(many, 2, generator=random) * 900
    crowd = torch.cat([corner, corner + 20 + torch.rand(many, 2, generator=random) * 200], 1).to(device)
    scores, taking = torch.rand(many, generator=random).to(device), torch.tensor([many], device=device)
    found.append(_by_launches("nms_padded 6000 -> 300", lambda: ops.nms_padded(crowd, scores, taking, 0.7, limit=300),
                              launch, device))  # fmt: skip
    of = torch.tensor([regions], device=device)
    found.append(_by_launches("select_boxes_padded 300 x 1601", lambda: ops.select_boxes_padded(boxes, probs, of),
                              launch, device))  # fmt: skip
    return found


def _by_bytes(name: str, work: Callable[[], Any], moved: int, copies: float, device: torch.device) -> Kernel:
    return Kernel(name, "bytes", moved, timed(work, device, repeats=10), moved / copies)


def _by_launches(name: str, work: Callable[[], Any], launch: float, device: torch.device) -> Kernel:
    number = float(watched(work, device)["kernels"])
    return Kernel(name, "kernels", number, timed(work, device, repeats=10), number * launch)
