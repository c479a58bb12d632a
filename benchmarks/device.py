"""What a GPU can do and how busy it is: rates of matrix products and copies, launches, idle time, waits of the host."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from featx_extractors.precision import PRECISIONS

PRODUCT, COPIED, CHAIN = 8192, 1 << 30, 200  # side of a matrix, bytes, kernels in a row


def settle(device: torch.device) -> None:
    """Wait for all that was asked of a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: torch.device, runs: int = 5, repeats: int = 1) -> float:
    """Seconds of ``work`` on the device, the best of ``runs``; each queues it ``repeats`` times before it waits."""
    work()
    settle(device)
    best = []
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        settle(device)
        best.append((time.perf_counter() - start) / repeats)
    return min(best)


def matrix_rates(device: torch.device, names: Iterable[str], side: int = PRODUCT) -> dict[str, float]:
    """Operations a second of a square matrix product in each precision, 2 for a multiplication and its addition."""
    rates = {}
    for name in names:
        precision = PRECISIONS[name]
        a = torch.randn(side, side, device=device).to(precision.dtype)
        with _products_in(name):
            rates[name] = 2 * side**3 / timed(lambda a=a: a @ a, device, repeats=3)  # type: ignore[misc]
    return rates


class _products_in:  # noqa: N801 (a context, used like a function)
    """TF32 in matrix products, for which a detector has no use, while the body runs."""

    def __init__(self, name: str) -> None:
        self.word = "high" if name == "tf32" else "highest"

    def __enter__(self) -> None:
        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.word)

    def __exit__(self, *error: object) -> None:
        torch.set_float32_matmul_precision(self.before)


def copy_rate(device: torch.device, size: int = COPIED) -> float:
    """Bytes a second that pass through the memory when it is copied: each is read once and written once."""
    source = torch.empty(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / timed(lambda: target.copy_(source), device)


def launch_seconds(device: torch.device) -> float:
    """Seconds from one kernel to the next where each is of one element and needs the one before."""
    x = torch.zeros(1, device=device)

    def chain() -> None:
        for _ in range(CHAIN):
            x.add_(1)

    return timed(chain, device) / CHAIN


def covered(intervals: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Length of the union of intervals, and from the first beginning to the last end; both 0 where there are none."""
    union, at, first = 0.0, float("-inf"), None
    for begin, end in sorted(intervals):
        first = begin if first is None else first
        union += max(0.0, end - max(begin, at))
        at = max(at, end)
    return union, 0.0 if first is None else at - first


def watched(work: Callable[[], Any], device: torch.device) -> Mapping[str, float]:
    """``work`` under torch's profiler: idle share of the device between its first and last kernel, kernels, seconds.

    The profiler slows the host down, never the GPU: the true idle share is smaller. NaN on a CPU, which has no kernels.
    """
    if device.type != "cuda":
        work()
        return {"idle": float("nan"), "kernels": 0, "seconds": float("nan")}
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        settle(device)
    events = [
        event
        for event in profiler.events() or ()
        if event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    ]
    busy, span = covered((event.time_range.start, event.time_range.end) for event in events)
    return {"idle": 1 - busy / span if span else float("nan"), "kernels": len(events), "seconds": span / 1e6}


def waits(work: Callable[[], Any], device: torch.device) -> int | None:
    """How many operations of torch made the host wait for the GPU in ``work``; None on a CPU."""
    if device.type != "cuda":
        work()
        return None
    settle(device)
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("called a synchronizing" in str(each.message) for each in told)


def median_rate(work: Callable[[], int], device: torch.device, runs: int = 3) -> tuple[float, float, float]:
    """Pictures a second of ``work``, which says how many it did: median, worst and best; one run before to warm up."""
    work()
    rates = []
    for _ in range(runs):
        settle(device)
        start = time.perf_counter()
        done = work()
        settle(device)
        rates.append(done / (time.perf_counter() - start))
    return statistics.median(rates), min(rates), max(rates)
