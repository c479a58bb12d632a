"""Every operator on every device: torch's own checks of its declaration, and one answer everywhere.

The GPU tests skip where there is no GPU, and fail there with FEATX_REQUIRE_CUDA=1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from featx import ops

MODULES = [import_module(f"featx.ops.{name}") for name in ("add_bias", "boxes", "nms", "roi_reference", "select")]


def boxes(n: int, seed: int = 0) -> Tensor:
    """Clusters of boxes, some equal, some empty."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 20, (n, 2), generator=generator) * 4.0
    sides = torch.randint(0, 12, (n, 2), generator=generator) * 5.0
    result = torch.cat([low, low + sides], 1)
    result[::2] += torch.rand(len(result[::2]), 4, generator=generator)
    return result


def scores(n: int, seed: int = 1) -> Tensor:
    """Few distinct values, so that many tie."""
    return torch.randint(0, 50, (n,), generator=torch.Generator().manual_seed(seed)) / 50


def table(n: int, columns: int) -> Tensor:
    return torch.softmax(torch.randn(n, columns, generator=torch.Generator().manual_seed(2)) * 3, 1)


def features(channels: int, dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    x = torch.randn(2, channels, 13, 17, generator=torch.Generator().manual_seed(3))
    return ((x * 8).round() / 8).to(dtype, memory_format=memory_format)


def regions(n: int) -> Tensor:
    picture = torch.arange(n).float() % 2
    return torch.cat([picture[:, None], boxes(n, seed=4) * 2 - 20], 1)


def pooled(channels: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(9, channels, 4, 3, generator=torch.Generator().manual_seed(5)).to(dtype)


SIZES = torch.tensor([[100.0, 120.0], [80.0, 60.0], [90.0, 200.0]])
COUNTS = torch.tensor([20, 0, 10])
WEIGHTS = [10.0, 10.0, 5.0, 5.0]
Case = tuple[str, tuple[Any, ...], float]  # operator, arguments, tolerance: 0 where the answer is exact


def box_cases() -> Iterator[Case]:
    for dtype in (torch.float32, torch.float64):
        a, b = boxes(30).to(dtype), boxes(30, seed=6).to(dtype) + 1
        for columns in (4, 5, 6, 7):
            yield "box_geometry", (a, SIZES.to(dtype), COUNTS, columns), 0
        yield "box_geometry", (a, SIZES.to(dtype), None, 4), 0
        yield "denormalize_boxes", (a, SIZES.to(dtype), COUNTS), 0
        yield "encode_deltas", (a + torch.tensor([0, 0, 1, 1]), b + torch.tensor([0, 0, 1, 1]), WEIGHTS, False), 1e-5
        yield "decode_deltas", (torch.randn(30, 12).to(dtype), a, WEIGHTS, 4.135, True), 1e-4
        yield "clip_boxes", (a, 50.0, 60.0), 0
        yield "box_iou", (a, b, False), 0


def choice_cases() -> Iterator[Case]:
    for n in (0, 1, 64, 300):
        for inclusive, plus_one in ((False, False), (True, True)):
            yield "nms", (boxes(n), scores(n), None, 0.3, inclusive, plus_one, 0), 0
            yield "nms", (boxes(n), scores(n), (scores(n, 7) * 4).long(), 0.3, inclusive, plus_one, 0), 0
            for score in (0.0, 0.2, 0.9):
                yield "select_boxes", (boxes(n), table(n, 41), 0.3, score, 10, 36, inclusive, plus_one), 0
    yield "nms", (boxes(300), scores(300), None, 0.5, False, False, 40), 0


def padded_cases() -> Iterator[Case]:
    """Results of a fixed length; of 300 boxes all, some or none take part."""
    for n, taking in ((0, 0), (1, 1), (64, 64), (300, 300), (300, 163), (300, 20), (300, 1), (300, 0)):
        first = torch.tensor([taking])
        for inclusive, plus_one in ((False, False), (True, True)):
            yield "nms_padded", (boxes(n), scores(n), None, first, 0.3, inclusive, plus_one, 40), 0
            labels = (scores(n, 7) * 4).long()
            yield "nms_padded", (boxes(n), scores(n), labels, first, 0.3, inclusive, plus_one, 500), 0
            for score in (0.0, 0.2, 0.9):
                yield "select_boxes_padded", (boxes(n), table(n, 41), first, 0.3, score, 10, 36, inclusive, plus_one), 0


def region_cases() -> Iterator[Case]:
    for channels in (3, 40):  # below and above what the CPU pools as whole pixels
        for memory_format in (torch.contiguous_format, torch.channels_last):
            for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
                x, rois, grad = features(channels, dtype, memory_format), regions(9), pooled(channels, dtype)
                loose = {torch.float16: 1e-2, torch.bfloat16: 6e-2}.get(dtype, 1e-5)
                yield "roi_pool", (x, rois, 4, 3, 1 / 16), 0
                yield "roi_pool_backward", (grad, x, rois, 4, 3, 1 / 16), loose
                precise = rois.double() if dtype == torch.float64 else rois
                for ratio, aligned in ((0, True), (2, False)):
                    yield "roi_align", (x, precise, 4, 3, 1 / 16, ratio, aligned), loose
                    yield "roi_align_backward", (grad, x, precise, 4, 3, 1 / 16, ratio, aligned), loose


def wide_cases() -> Iterator[Case]:
    """Maps whose channels fill vectors of 16 bytes, as those of the network do, in a slice of a batch, and others."""
    for channels in (40, 64, 300):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            x = features(channels, dtype, torch.channels_last)
            for some in (x, x[1:], x[:, :, 1:]):
                rois = regions(12)
                rois[:, 0] = rois[:, 0].clamp(max=len(some) - 1)
                yield "roi_pool", (some, rois, 14, 14, 1 / 16), 0
                yield "roi_pool", (some, rois, 1, 1, 1 / 16), 0
                loose = {torch.float16: 1e-2, torch.bfloat16: 6e-2}.get(dtype, 1e-5)
                yield "roi_align", (some, rois, 7, 7, 1 / 16, 0, True), loose
                yield "roi_align", (some, rois, 1, 1, 1 / 16, 2, False), loose


def sum_cases() -> Iterator[Case]:
    for channels in (3, 40, 64):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
                x, bias = features(channels, dtype, memory_format), torch.linspace(-1, 1, channels).to(dtype)
                loose = {torch.float16: 4e-3, torch.bfloat16: 3e-2}.get(dtype, 0)  # rounded once, not thrice
                yield "add_bias", (x, bias, None, True), loose
                yield "add_bias", (x, bias, x.flip(0), True), loose
                yield "add_bias", (x[1:], bias, x[:1], False), loose


CASES = [*box_cases(), *choice_cases(), *padded_cases(), *region_cases(), *wide_cases(), *sum_cases()]
each_case = pytest.mark.parametrize(
    ("name", "arguments", "tolerance"), CASES, ids=[f"{c[0]}{i}" for i, c in enumerate(CASES)]
)
ONCE = {case[0]: case for case in reversed(CASES)}
once = pytest.mark.parametrize(("name", "arguments"), [c[:2] for c in ONCE.values()], ids=list(ONCE))


def operator(name: str) -> Callable[..., Any]:
    return getattr(torch.ops.featx, name).default  # type: ignore[no-any-return]


def on(device: torch.device, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.to(device) if isinstance(a, Tensor) else a for a in arguments)


def same(found: Any, expected: Any, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


CPU_ONLY = ("winograd_conv",)  # tests/test_winograd.py; a GPU has cuDNN for it


def test_every_declared_operator_has_a_case() -> None:
    declared = {name.partition("::")[2] for name in torch._C._dispatch_get_all_op_names() if name.startswith("featx::")}
    assert declared - {*CPU_ONLY} == set(ONCE)


@once
def test_torch_accepts_the_declaration_of_every_operator(name: str, arguments: tuple[Any, ...]) -> None:
    torch.library.opcheck(operator(name), arguments)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("name", "how"), [("roi_pool", (4, 3, 1 / 16)), ("roi_align", (4, 3, 1 / 16, 2, True))])
def test_torch_accepts_the_gradient_of_the_region_operators(
    name: str, how: tuple[Any, ...], memory_format: torch.memory_format
) -> None:
    x = features(20, torch.float32, memory_format).requires_grad_()
    torch.library.opcheck(operator(name), (x, regions(9), *how))


def reference(name: str) -> Callable[..., Any]:
    found = [vars(module)[f"{name}_reference"] for module in MODULES if f"{name}_reference" in vars(module)]
    return found[0]  # type: ignore[no-any-return]


@each_case
def test_the_compiled_cpu_kernel_equals_the_reference(
    native: None, name: str, arguments: tuple[Any, ...], tolerance: float
) -> None:
    same(operator(name)(*arguments), reference(name)(*arguments), tolerance)


@each_case
def test_the_gpu_kernel_equals_the_cpu_kernel(
    cuda: torch.device, name: str, arguments: tuple[Any, ...], tolerance: float
) -> None:
    found = operator(name)(*on(cuda, arguments))
    expected = operator(name)(*arguments)
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    for ours, theirs in pairs:
        assert ours.device.type == "cuda"
        same(ours.cpu(), theirs, tolerance)


@once
def test_torch_accepts_the_declaration_of_every_operator_on_the_gpu(
    cuda: torch.device, name: str, arguments: tuple[Any, ...]
) -> None:
    torch.library.opcheck(operator(name), on(cuda, arguments))


def test_gradients_agree_with_finite_differences_on_the_gpu(cuda: torch.device) -> None:
    x = torch.randn(2, 2, 6, 7, dtype=torch.float64, device=cuda, requires_grad=True)
    rois = torch.tensor([[0, 3, 5, 70, 60], [1, 20, 10, 50, 90], [0, -30, -30, 200, 20]], device=cuda)
    exact = {"nondet_tol": 1e-12}  # sums arrive in any order
    assert torch.autograd.gradcheck(lambda y: ops.roi_pool(y, rois, (3, 2), 1 / 16), (x,), **exact)
    assert torch.autograd.gradcheck(lambda y: ops.roi_align(y, rois, (3, 2), 1 / 16), (x,), **exact)


def test_work_on_a_side_stream_is_in_the_order_of_that_stream(cuda: torch.device) -> None:
    a = boxes(2000).to(cuda)
    expected = ops.box_iou(a, a)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(a)
        torch.cuda._sleep(20_000_000)
        late.copy_(a)
        found = ops.box_iou(late, late)
    stream.synchronize()
    assert torch.equal(found, expected)
