"""Copies between the host and a device that nobody waits for."""

from __future__ import annotations

import torch


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` of the host on ``device``, in the order of its current stream; the host goes on at once.

    Pageable memory would have to be copied before the call returns, so it is pinned first. Devices other than a CUDA
    GPU are waited for.
    """
    return pinned(tensor, device).to(device, non_blocking=device.type == "cuda")


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` in memory that ``device`` reads by itself; may be called from any thread."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.is_cpu else tensor


def fetched(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` on the host. From a CUDA GPU it is *not there yet*: wait for the stream before reading it."""
    return tensor.to("cpu", non_blocking=tensor.is_cuda)
