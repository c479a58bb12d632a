"""How the kernels of trunk and region head are launched on a GPU: one by one, as recorded graphs, or compiled.

``eager`` launches each as torch comes to it and is the default. ``graphs`` records the kernels of a shape once and
replays them: the same kernels with the same results, and a host that is free. ``compile`` lets ``torch.compile`` fuse
what lies between the convolutions: other kernels, with results within rounding; it needs Triton and a C compiler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Literal, NamedTuple, get_args

import torch

from featx.errors import UsageError
from featx_extractors.network import Network

Launch = Literal["eager", "graphs", "compile"]
Piece = Callable[[torch.Tensor], torch.Tensor]
SHAPES = 8  # recorded of each piece: every one keeps memory of its own
WARM = 2  # calls before a recording, in which libraries choose their kernels and make room for them


class Recorded(NamedTuple):
    """A graph, and the tensors it reads and writes."""

    graph: torch.cuda.CUDAGraph
    input: torch.Tensor
    output: torch.Tensor


class Graphed:
    """A function of one tensor on a GPU, recorded for each shape that comes a second time and replayed from then on.

    What it returns is a copy: the next replay writes where this one did.
    """

    def __init__(self, function: Piece, most: int = SHAPES) -> None:
        self.function, self.most = function, most
        self._seen: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Recorded] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        key = (tuple(x.shape), x.stride(), x.dtype, x.device)
        recorded = self._recorded.get(key)
        if recorded is None:
            self._seen[key] += 1
            if self._seen[key] < 2 or len(self._recorded) >= self.most:
                return self.function(x)
            recorded = self._recorded[key] = record(self.function, x)
        recorded.input.copy_(x)
        recorded.graph.replay()
        return recorded.output.clone()


def record(function: Piece, x: torch.Tensor) -> Recorded:
    """Record ``function`` on a tensor like ``x``. The GPU is waited for."""
    static, side = torch.empty_like(x).copy_(x), torch.cuda.Stream(x.device)
    side.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(side):
        for _ in range(WARM):
            function(static)
    torch.cuda.current_stream(x.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Threads that decode pin memory meanwhile, which only a recording of this thread alone bears.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = function(static)
    return Recorded(graph, static, output)


def launched(network: Network, device: torch.device, how: Launch) -> None:
    """Make ``network`` launch its trunk and its region head that way. Raises UsageError."""
    if how not in get_args(Launch):
        raise UsageError(f"launch is {how!r}", f"give one of {', '.join(get_args(Launch))} for launch")
    if how == "eager":
        return
    if device.type != "cuda":
        raise UsageError(
            f"launch {how} is asked for on {device}", "it is for a GPU: give --device cuda, or leave it out"
        )
    for part in (network.trunk, network.res5):
        plain: Piece = part.forward
        quicker = Graphed(plain) if how == "graphs" else torch.compile(plain, dynamic=False)
        setattr(part, "forward", quicker)  # noqa: B010 (a method of this one module)
