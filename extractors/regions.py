"""Features of pooled regions on a CPU, without the work in res5 that they do not depend on.

A bin of RoIPool is the maximum over a window of whole cells, and the regions of a picture overlap: many of their bins
have the same window. The first block of res5 begins with 1x1 convolutions, which see one bin at a time, so they are
computed once for each distinct window, and their rows are gathered for the regions afterwards. Where res5 has a
stride, only the bins that it reads are pooled. Where it is dilated by 2, a region falls into four planes, of its even
and odd rows and columns, that never meet before the mean: planes are convolved without dilation, and equal planes,
those of regions that round to the same cells among them, once.

A row of a convolution has the same bits whatever rows stand beside it (tests compare), so that sharing changes the
time and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from featx import ops
from featx.ops.roi_reference import pool_bins
from featx_extractors.bottleneck import Bottleneck
from featx_extractors.conv import Conv
from featx_extractors.network import STRIDE, Res5
from featx_extractors.profiles import Profile
from featx_extractors.winograd import WinogradConv

TILE = 14  # rows are convolved as pictures of TILE x TILE cells, the shape oneDNN is given elsewhere
MOST_WINDOWS = 12_000  # convolved at a time: 100 MB in the shortcut's 2048 float32 channels
WORTH_SHARING = 0.8  # distinct windows per bin above which gathering costs more than it saves


class Planes(NamedTuple):
    """Distinct planes of the regions of a picture.

    tops, bottoms ``[U, P]``, lefts, rights ``[U, Q]``: where the windows of a plane begin and end, in cells of the map;
    owners ``[R, K]``: the planes of each region.
    """

    tops: torch.Tensor
    bottoms: torch.Tensor
    lefts: torch.Tensor
    rights: torch.Tensor
    owners: torch.Tensor

    def windows(self) -> torch.Tensor:
        """``[U, P * Q, 4]`` rows ``x0, y0, x1, y1``, past-last, of all windows; empty ones are all alike."""
        top, bottom = (side[:, :, None].expand(-1, -1, self.lefts.shape[1]) for side in (self.tops, self.bottoms))
        left, right = (side[:, None, :].expand(-1, self.tops.shape[1], -1) for side in (self.lefts, self.rights))
        found = torch.stack([left, top, right, bottom], -1).flatten(1, 2)
        empty = (found[..., 2] <= found[..., 0]) | (found[..., 3] <= found[..., 1])
        return found.masked_fill(empty[..., None], 0)


def planes_of(boxes: torch.Tensor, cells: tuple[int, int], resolution: int, *, step: int, phases: int) -> Planes:
    """The planes of ``boxes [R, 4]`` (input pixels) on a map of ``cells`` (height, width).

    Of ``resolution`` bins on each axis, a plane has every ``step``-th, from 0 to ``phases - 1`` on.
    """
    scale = 1 / STRIDE
    down = pool_bins(boxes[:, 1], boxes[:, 3], scale, resolution, cells[0])
    across = pool_bins(boxes[:, 0], boxes[:, 2], scale, resolution, cells[1])
    every = [
        torch.cat([*(side[:, i::step] for side in down), *(side[:, j::step] for side in across)], 1)
        for i in range(phases)
        for j in range(phases)
    ]
    distinct, owners = torch.unique(torch.stack(every, 1).flatten(0, 1), dim=0, return_inverse=True)
    tops, bottoms, lefts, rights = distinct.chunk(4, 1)
    return Planes(tops, bottoms, lefts, rights, owners.view(len(boxes), -1))


def shared(windows: torch.Tensor, cells: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct rows ``[D, 4]`` of ``windows [n, 4]``, and which of them each one is ``[n]``."""
    base = max(cells) + 1
    powers = torch.tensor([base**3, base**2, base, 1])
    keys, places = torch.unique((windows * powers).sum(1), return_inverse=True)
    return torch.stack([keys // power % base for power in powers.tolist()], 1), places


def pooled_rows(res4: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Maxima ``[n, C]`` of ``res4 [1, C, h, w]`` over ``windows [n, 4]`` of whole cells; 0 for an empty window."""
    outside = float(max(res4.shape[2:]))
    rois = windows.float()
    rois[:, 2:] -= 1  # RoIPool's corners are inclusive, and it widens an empty region to a cell
    rois = torch.where((rois[:, 2:] < rois[:, :2]).any(1, keepdim=True), outside, rois)
    rows = ops.roi_pool(res4, torch.cat([rois.new_zeros(len(rois), 1), rois], 1), 1, 1.0)
    return rows.permute(0, 2, 3, 1).reshape(len(rois), -1)


class SharedRegions:
    """``Res5`` after RoIPool on the CPU: the same features, to rounding, as pooling every bin and calling it.

    It shares the tensors of ``res5``, of the dtype that they have now. ``chunk`` regions at a time.
    """

    def __init__(self, res5: Res5, profile: Profile, chunk: int) -> None:
        blocks = [block for block in res5.blocks if isinstance(block, Bottleneck)]
        self.resolution, dilation = profile.resolution, blocks[0].conv2.dilation
        apart = dilation == 2 and profile.resolution % 2 == 0
        self.phases = 2 if apart else 1
        self.step = 2 if apart else blocks[0].conv1.stride
        self.blocks = [_dense(block, 1 if apart else dilation) for block in blocks]
        self.chunk = chunk * self.phases**2

    def __call__(self, res4: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Features ``[R, D]`` float32 of ``boxes [R, 4]`` (input pixels) on one picture's ``res4 [1, C, h, w]``."""
        cells = res4.shape[2], res4.shape[3]
        planes = planes_of(boxes, cells, self.resolution, step=self.step, phases=self.phases)
        sides, windows = (planes.tops.shape[1], planes.lefts.shape[1]), planes.windows()
        means = torch.cat([self._means(res4, some, sides) for some in _groups(windows, cells)])
        return means[planes.owners].mean(1)

    def _means(self, res4: torch.Tensor, windows: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
        """Means ``[u, D]`` of the planes that have these ``windows [u, P * Q, 4]``."""
        cells = res4.shape[2], res4.shape[3]
        distinct, places = shared(windows.flatten(0, 1), cells)
        chunks = windows.split(self.chunk)
        if len(distinct) > WORTH_SHARING * len(places):
            first = (self._first(res4, chunk.flatten(0, 1)) for chunk in chunks)
        else:
            hidden, shortcut = self._first(res4, distinct)
            where = places.split(self.chunk * windows.shape[1])
            first = ((hidden.index_select(0, at), shortcut.index_select(0, at)) for at in where)
        return torch.cat([self._rest(*rows, sides) for rows in first])

    def _first(self, res4: torch.Tensor, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the first block makes of each window alone: input of its 3x3 and shortcut, ``[n, C]`` each."""
        block = self.blocks[0]
        rows = pooled_rows(res4, windows)
        return convolved(block.conv1, rows), rows if block.shortcut is None else convolved(block.shortcut, rows)

    def _rest(self, hidden: torch.Tensor, shortcut: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
        hidden, x = (rows.view(-1, *sides, rows.shape[1]).permute(0, 3, 1, 2) for rows in (hidden, shortcut))
        x = self.blocks[0].conv3(self.blocks[0].conv2(hidden), x)
        for block in self.blocks[1:]:
            x = block(x)
        means: torch.Tensor = x.float().mean((2, 3))
        return means


def convolved(conv: Conv, rows: torch.Tensor) -> torch.Tensor:
    """The 1x1 ``conv`` of each of ``rows [n, C]``: ``[n, O]``."""
    count, tile = len(rows), TILE * TILE
    filled = torch.nn.functional.pad(rows, (0, 0, 0, -count % tile))
    pictures = filled.view(-1, TILE, TILE, rows.shape[1]).permute(0, 3, 1, 2)
    out: torch.Tensor = conv(pictures)
    return out.permute(0, 2, 3, 1).reshape(-1, out.shape[1])[:count]


def _groups(windows: torch.Tensor, cells: tuple[int, int]) -> Iterator[torch.Tensor]:
    """``windows [U, n, 4]`` in pieces that have at most ``MOST_WINDOWS`` distinct ones each, or are one plane."""
    if len(windows) < 2 or len(shared(windows.flatten(0, 1), cells)[0]) <= MOST_WINDOWS:
        yield windows
        return
    for half in windows.tensor_split(2):
        yield from _groups(half, cells)


def _dense(block: Bottleneck, dilation: int) -> Bottleneck:
    """A block with the same tensors, without a stride, that has another dilation."""
    twin = Bottleneck.__new__(Bottleneck)
    torch.nn.Module.__init__(twin)
    twin.shortcut = None if block.shortcut is None else _like(block.shortcut)
    twin.conv1, twin.conv3 = _like(block.conv1), _like(block.conv3)
    twin.conv2 = WinogradConv(block.conv2.weight, block.conv2.bias, padding=dilation, dilation=dilation)
    return twin


def _like(conv: Conv) -> Conv:
    return Conv(conv.weight, conv.bias, relu=conv.relu)
