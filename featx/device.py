"""The device that a network runs on, by its name."""

from __future__ import annotations

import torch

from featx.errors import UsageError


def usable_device(name: str) -> torch.device:
    """The device called ``name``: cpu, cuda, cuda:1, ... Raises UsageError for one torch does not know or not find."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # memory of it, and a value back: the device `meta` gives none
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"the device {name!r} cannot be used: {reason}", "use --device cpu; `featx doctor` lists the devices"
        ) from None
    return device
