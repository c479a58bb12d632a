"""Shared fixtures: the reference data outside the repository, the compiled operators, a GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import torch

settings.register_profile("featx", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("featx")


def absent(reason: str, requirement: str) -> NoReturn:
    """Skip for ``reason``, unless the environment says that this machine must have it."""
    if os.environ.get(requirement) == "1":
        pytest.fail(f"{reason} ({requirement}=1 makes this a failure)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data: $FEATX_SHARED, or ``shared`` beside the repository."""
    folder = Path(os.environ.get("FEATX_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        absent(f"no reference data at {folder}; set FEATX_SHARED to their folder", "FEATX_REQUIRE_SHARED")
    return folder


@pytest.fixture(scope="session")
def native() -> None:
    """Needs the compiled operators."""
    from featx import ops

    status = ops.native_status()
    if not status.cpu:
        absent(f"no compiled operators: {status.reason}", "FEATX_REQUIRE_NATIVE")


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """A CUDA device and operators compiled for it."""
    import torch

    from featx import ops

    if not torch.cuda.is_available():
        absent("torch finds no GPU", "FEATX_REQUIRE_CUDA")
    if not ops.native_status().cuda:
        absent("the operators were built without CUDA", "FEATX_REQUIRE_CUDA")
    return torch.device("cuda")
