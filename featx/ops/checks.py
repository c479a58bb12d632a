"""Argument checks of the operators: every failure names the argument, what was found and what was expected."""

from __future__ import annotations

import torch

from featx.errors import UsageError

BOXES = "boxes are rows x0, y0, x1, y1 in pixels"


def expect(name: str, tensor: torch.Tensor, shape: tuple[int | str, ...], hint: str = "") -> None:
    """Check the shape; a string in ``shape`` stands for any length."""
    if not isinstance(tensor, torch.Tensor):
        raise UsageError(
            f"{name} is a {type(tensor).__name__}, expected a torch.Tensor", "convert with torch.as_tensor"
        )
    found = tuple(tensor.shape)
    if len(found) != len(shape) or any(isinstance(n, int) and n != m for n, m in zip(shape, found, strict=True)):
        wanted = ", ".join(map(str, shape))
        raise UsageError(f"{name} has shape {list(found)}, expected [{wanted}]", hint)


def expect_dtype(name: str, tensor: torch.Tensor, *allowed: torch.dtype) -> None:
    """Check the dtype against the allowed ones."""
    if tensor.dtype not in allowed:
        wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        found = str(tensor.dtype).removeprefix("torch.")
        raise UsageError(f"{name} is {found}, expected {wanted}", f"convert with {name}.to(torch.{wanted.split()[0]})")


def expect_boxes(name: str, boxes: torch.Tensor) -> None:
    """Check for [N, 4], float32 or float64."""
    expect(name, boxes, ("N", 4), BOXES)
    expect_dtype(name, boxes, torch.float32, torch.float64)


def expect_alike(**tensors: torch.Tensor) -> None:
    """Check that all tensors are on one device and, where floating, of one dtype."""
    (first, lead), *others = tensors.items()
    for name, tensor in others:
        if tensor.device != lead.device:
            raise UsageError(f"{name} is on {tensor.device}, {first} on {lead.device}", "move them to one device")
        if tensor.is_floating_point() and tensor.dtype != lead.dtype:
            raise UsageError(f"{name} is {tensor.dtype}, {first} is {lead.dtype}", "convert them to one dtype")


def expect_length(name: str, tensor: torch.Tensor, length: int, other: str) -> None:
    """Check that ``tensor`` has one row per row of ``other``."""
    if len(tensor) != length:
        raise UsageError(
            f"{name} has {len(tensor)} rows, {other} has {length}", f"give one row of {name} per row of {other}"
        )
