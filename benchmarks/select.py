"""Box selection on 300 proposals and [300, 1601] probabilities: one fused call against a Python loop over classes."""

from __future__ import annotations

import torch

from benchmarks.peers import compiled_nms, numpy_nms, select_by_class_loop
from benchmarks.timing import interleaved, save, table
from featx import ops

CASES = (("sure, 36", 4.0, 36, 36), ("sure, 10..100", 4.0, 10, 100), ("flat, 36", 1.0, 36, 36))


def case(seed: int, peaked: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Clustered proposals of a 640x480 photo, softmax over 1601 classes; a larger ``peaked`` is a surer network."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.rand(40, 2, generator=random) * torch.tensor([640.0, 480.0])
    middle = centres[torch.randint(40, (300,), generator=random)] + torch.randn(300, 2, generator=random) * 12
    half = torch.rand(300, 2, generator=random) * 90 + 12
    boxes = torch.cat([middle - half, middle + half], 1).clamp(min=0)
    boxes = torch.minimum(boxes, torch.tensor([639.0, 479.0, 639.0, 479.0]))
    return boxes, (torch.randn(300, 1601, generator=random) * peaked).softmax(-1)


def main() -> None:
    """Time, check that the rows agree, print, save."""
    rows, results = [("case", "numpy loop s", "compiled loop s", "select_boxes s", "numpy/ours", "compiled/ours")], {}
    for name, peaked, least, most in CASES:
        boxes, probs = case(0, peaked)
        ours = lambda b=boxes, p=probs, lo=least, hi=most: ops.select_boxes(b, p, min_boxes=lo, max_boxes=hi)[0]  # noqa: E731
        loop = lambda nms, b=boxes, p=probs, lo=least, hi=most: select_by_class_loop(b, p, lo, hi, nms)  # noqa: E731
        assert torch.equal(ours(), loop(compiled_nms)), "the loop and select_boxes choose different rows"
        assert torch.equal(ours(), loop(numpy_nms)), "numpy and select_boxes choose different rows"
        times = interleaved(
            {"numpy": lambda f=loop: f(numpy_nms), "compiled": lambda f=loop: f(compiled_nms), "featx": ours}, 5
        )
        a, b, c = (times[k].median for k in ("numpy", "compiled", "featx"))
        rows.append((name, f"{a:.4f}", f"{b:.4f}", f"{c:.6f}", f"{a / c:.0f}", f"{b / c:.0f}"))
        results[name] = times
    print(table(rows))
    print(f"\nwritten to {save('select', results)}")
