"""The operators as torch sees them: schema, reference, fake kernel, compiled kernels, status.

An operator is declared in Python, next to its plain-torch reference. The reference is registered for every device
(dispatch key CompositeExplicitAutograd); a kernel of the compiled library is registered for CPU or CUDA and takes
precedence where it exists. So the package works unbuilt, and the oracle of the tests is what runs as the fallback.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])

HOW_TO_BUILD = (
    "run `FEATX_NATIVE=1 python setup.py build_ext --inplace` with torch, ninja and a C++20 compiler installed"
)
_PROBE = "featx::nms"  # compiled for every device that is compiled at all
_LIBRARY = torch.library.Library("featx", "DEF")


@dataclass(frozen=True)
class NativeStatus:
    """What was compiled and loaded; where nothing was, plain torch runs instead."""

    loaded: bool
    path: str
    cpu: bool
    cuda: bool
    reason: str  # why it is not loaded, empty when it is
    how_to_build: str


def operator(schema: str, fake: Callable[..., Any]) -> Callable[[Function], Function]:
    """Declare ``torch.ops.featx.<name>`` with the decorated function as its plain-torch reference.

    ``fake`` gives the shape, dtype and memory format of the result without computing it.
    """
    name = schema.partition("(")[0]

    def declare(reference: Function) -> Function:
        _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
        torch.library.register_fake(f"featx::{name}", fake, lib=_LIBRARY)
        return reference

    return declare


def differentiable(name: str, backward: Callable[..., Any], setup_context: Callable[..., Any]) -> None:
    """Give the operator ``name`` a gradient formula."""
    torch.library.register_autograd(f"featx::{name}", backward, setup_context=setup_context, lib=_LIBRARY)


def _load() -> tuple[str, str]:
    """Load the compiled library once; returns (its path, why it is not loaded)."""
    if os.environ.get("FEATX_NATIVE") == "0":
        return "", "switched off by FEATX_NATIVE=0"
    spec = importlib.util.find_spec("featx._native")
    if spec is None or spec.origin is None:
        return "", "featx was installed without compiled operators"
    try:
        torch.ops.load_library(spec.origin)
    except OSError as error:  # built for another platform, or for a newer torch
        return spec.origin, f"torch {torch.__version__} cannot load it: {error}"
    return spec.origin, ""


_PATH, _REASON = _load()


def native_status() -> NativeStatus:
    """Report whether compiled operators are in use, for which devices, and if not why."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return NativeStatus(
        loaded=bool(_PATH) and not _REASON,
        path=_PATH,
        cpu=has_kernel(_PROBE, "CPU"),
        cuda=has_kernel(_PROBE, "CUDA"),
        reason=_REASON,
        how_to_build=HOW_TO_BUILD,
    )
