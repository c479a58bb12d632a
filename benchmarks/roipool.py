"""RoIPool of 300 regions on a [1, 1024, 50, 67] map against the speed of memory.

The least traffic is one read of the map and one write of the output; the limit is a plain copy that moves as many bytes
in the same run.
"""

from __future__ import annotations

import torch

from benchmarks.select import case
from benchmarks.timing import interleaved, save, table
from featx import ops


def pool_and_forget(x: torch.Tensor, chunks: tuple[torch.Tensor, ...]) -> None:
    """Chunk after chunk, keeping none, as the detector does."""
    for chunk in chunks:
        ops.roi_pool(x, chunk, 14, 1 / 16)


def cached_reads(rois: torch.Tensor) -> int:
    """Cells that the bins of all regions cover, counted with their overlaps."""
    corners = (rois[:, 1:] / 16).round()
    covered = []
    for low, high, limit in ((0, 2, 67), (1, 3, 50)):
        size = (corners[:, high] - corners[:, low] + 1).clamp(min=1)[:, None]
        bins = torch.arange(14)
        start = (bins * size / 14).floor() + corners[:, low, None]
        end = ((bins + 1) * size / 14).ceil() + corners[:, low, None]
        covered.append((end.clamp(0, limit) - start.clamp(0, limit)).sum(1))
    return int((covered[0] * covered[1]).sum())


@torch.inference_mode()
def main() -> None:
    """Time, print, save."""
    x = torch.randn(1, 1024, 50, 67).to(memory_format=torch.channels_last)
    rois = torch.cat([torch.zeros(300, 1), case(0, 4.0)[0] * 1.25 * 1.33], 1)
    chunks, planes = rois.split(32), x.contiguous()
    out = ops.roi_pool(x, rois, 14, 1 / 16)
    moved = (x.numel() + out.numel()) * 4
    source = torch.empty((x.numel() + out.numel()) // 2)
    target = torch.empty_like(source)
    times = interleaved(
        {
            "copy of the same bytes": lambda: target.copy_(source),
            "channels last, in chunks of 32": lambda: pool_and_forget(x, chunks),
            "channels last, all at once": lambda: ops.roi_pool(x, rois, 14, 1 / 16),
            "NCHW, all at once": lambda: ops.roi_pool(planes, rois, 14, 1 / 16),
        },
        9,
    )
    limit = times["copy of the same bytes"].median
    rows = [("what", "median s", "best s", "GB/s", "of the copy")]
    for name, t in times.items():
        rate = f"{moved / t.median / 1e9:.1f}"
        rows.append((name, f"{t.median:.4f}", f"{t.best:.4f}", rate, f"{limit / t.median:.0%}"))
    print(table(rows))
    through = cached_reads(rois) * x.shape[1] * 4 + out.numel() * 4
    rate = through / times["channels last, in chunks of 32"].median
    print(f"\nbins overlap: {through / 1e6:.0f} MB pass through the operator, most of them from cache,")
    print(f"at {rate / 1e9:.1f} GB/s, {rate / (moved / limit):.1f} x the rate of the copy")
    print(f"\nwritten to {save('roipool', {'bytes': moved, 'bytes_through': through, 'times': times})}")
