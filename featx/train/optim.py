"""Optimisers by name, on the groups of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from featx.errors import UsageError
from featx.task import Group
from featx.train.bert_adam import BertAdam
from featx.train.config import TrainConfig


def optimiser(groups: Sequence[Group], config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimiser. Each of its groups has a ``scale``, by which :func:`set_rate` multiplies the rate.

    Raises UsageError when there is nothing to train, or a parameter is in two groups.
    """
    settings = [_settings(group, config) for group in groups if group.parameters]
    parameters = [p for group in settings for p in group["params"]]
    if not parameters:
        raise UsageError("the task gives no parameter to train", "its groups() must name some")
    if len({id(p) for p in parameters}) != len(parameters):
        raise UsageError("the task gives a parameter in two groups", "its groups() must not overlap")
    if config.optimiser == "sgd":
        return torch.optim.SGD(settings, lr=config.lr, momentum=config.momentum)
    kind: Any = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "bertadam": BertAdam}[config.optimiser]
    eps = config.eps if config.eps is not None else 1e-6 if kind is BertAdam else 1e-8
    made: torch.optim.Optimizer = kind(settings, lr=config.lr, betas=config.betas, eps=eps)
    return made


def _settings(group: Group, config: TrainConfig) -> dict[str, Any]:
    decay = config.weight_decay if group.decay else 0.0
    return {"params": list(group.parameters), "weight_decay": decay, "scale": group.lr}


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate ``rate`` times its scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]
