"""RoIPool of 300 regions on a [1, 1024, 50, 67] map against the speed of memory.

The least traffic is one read of the map and one write of the output; the limit is a plain copy that moves as many bytes
in the same run.
"""

from __future__ import annotations

import torch
from featx import ops

from benchmarks.select import case
from benchmarks.timing import interleaved, save, table


def pool_and_forget(x: torch.Tensor, chunks: tuple[torch.Tensor, ...]) -> None:
    """Chunk after chunk, keeping none, as the detector does."""
    for chunk in chunks:
        ops.roi_pool(x, chunk, 14, 1 / 16)


@torch.inference_mode()
def main() -> None:
    """Time, print, save."""
    x = torch.randn(1, 1024, 50, 67).to(memory_format=torch.channels_last)
    rois = torch.cat([torch.zeros(300, 1), case(0, 4.0)[0] * 1.25 * 1.33], 1)
    chunks = rois.split(32)
    out = ops.roi_pool(x, rois, 14, 1 / 16)
    moved = (x.numel() + out.numel()) * 4
    source = torch.empty((x.numel() + out.numel()) // 2)
    target = torch.empty_like(source)
    times = interleaved(
        {
            "copy of the same bytes": lambda: target.copy_(source),
            "channels last, in chunks of 32": lambda: pool_and_forget(x, chunks),
            "channels last, all at once": lambda: ops.roi_pool(x, rois, 14, 1 / 16),
            "NCHW, all at once": lambda c=x.contiguous(): ops.roi_pool(c, rois, 14, 1 / 16),
        },
        9,
    )
    limit = times["copy of the same bytes"].median
    rows = [("what", "median s", "best s", "GB/s", "of the copy")]
    for name, t in times.items():
        rows.append((name, f"{t.median:.4f}", f"{t.best:.4f}", f"{moved / t.median / 1e9:.1f}", f"{limit / t.median:.0%}"))
    print(table(rows))
    print(f"\nwritten to {save('roipool', {'bytes': moved, 'times': times})}")
