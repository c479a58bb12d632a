"""Every source of chance: how it is seeded, kept in a checkpoint and put back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from featx.loading.chance import generator


def seed_everything(seed: int, purpose: str = "build", rank: int = 0) -> None:
    """Seed the global generators of torch (all devices), numpy and Python; every purpose and rank has its own state.

    ``featx train`` does so before it builds a task, so that the same model is built every time; the loop does so again
    before its first step.
    """
    draws = generator(seed, purpose, rank)
    torch.manual_seed(int(draws.integers(2**63)))
    np.random.seed(int(draws.integers(2**32)))
    random.seed(int(draws.integers(2**63)))


def capture(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of the global generators as tensors, with that of the GPU where ``device`` is one."""
    _, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
    _, words, python_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*map(int, keys), place, has_gauss], dtype=torch.int64),
        "numpy.gauss": torch.tensor(gauss, dtype=torch.float64),
        "python": torch.tensor(words, dtype=torch.int64),
        "python.gauss": torch.tensor([] if python_gauss is None else [python_gauss], dtype=torch.float64),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore(state: Mapping[str, Any], device: torch.device) -> None:
    """Put the global generators into a state that :func:`capture` returned; a GPU's only where ``device`` is one."""
    torch.set_rng_state(state["torch"])
    *keys, place, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), place, has_gauss, state["numpy.gauss"].item()))
    random.setstate((3, tuple(state["python"].tolist()), next(iter(state["python.gauss"].tolist()), None)))
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
