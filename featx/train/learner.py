"""One step of training: forward, backward, clip, update."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from featx.errors import UsageError
from featx.task import Batch, Task
from featx.train.config import TrainConfig
from featx.train.distributed import World
from featx.train.optim import optimiser, set_rate
from featx.train.schedule import schedule

Scalars = dict[str, torch.Tensor]


class _Losses(torch.nn.Module):
    """The task's loss as a module's forward, which is what DistributedDataParallel wraps."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model, self._task = task.model, task

    def forward(self, batch: Batch) -> Scalars:
        return self._task.loss(batch)


class Learner:
    """A task's model with its optimiser, in this process's place of the world.

    steps: of the whole run; the schedule needs them, where no others are planned.
    """

    def __init__(self, task: Task, config: TrainConfig, steps: int, world: World) -> None:
        self.task, self.config, self.world = task, config, world
        task.model.to(world.device).train()
        self.optimiser = optimiser(task.groups(), config)
        floor = config.lr_floor / config.lr if config.lr else 0.0
        self._factor = schedule(config.schedule, config.planned_steps or steps, config.warmup, floor)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=config.precision == "float16")
        self._parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        self._losses: torch.nn.Module = _Losses(task)
        if world.size > 1:
            self._losses = DistributedDataParallel(self._losses, find_unused_parameters=task.partial_graph)

    def close(self) -> None:
        """Let go of the other processes; what is left is the task's own model."""
        self._losses = _Losses(self.task)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of forward passes."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.world.device.type, getattr(torch, self.config.precision))

    def rate(self, number: int) -> float:
        """The rate of step ``number``, counted from 0."""
        return self.config.lr * self._factor(number)

    def step(self, pieces: Sequence[Batch], number: int) -> Scalars:
        """Step ``number`` (from 0) on the pieces of one batch.

        Returns, still on the device: ``loss`` and its parts, means over the pieces, and ``norm``, the global norm of
        the gradient before clipping.
        """
        set_rate(self.optimiser, self.rate(number))
        self.optimiser.zero_grad()
        found = [self._backward(piece, last=piece is pieces[-1], share=len(pieces)) for piece in pieces]
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if self.config.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip, norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return {**_means(found), "norm": norm.detach()}

    def _backward(self, piece: Batch, *, last: bool, share: int) -> Scalars:
        """Add the gradients of one piece; processes exchange them once, with the last."""
        quiet = nullcontext() if last or self.world.size == 1 else self._losses.no_sync()  # type: ignore[operator]
        with quiet:
            with self.autocast():
                losses = self._losses(piece)
            if "loss" not in losses:
                raise UsageError(f"the loss of task {self.task.name} has no 'loss'", f"it has {', '.join(losses)}")
            self.scaler.scale(losses["loss"] / share).backward()
        return {name: value.detach().float() for name, value in losses.items()}


def _means(found: Sequence[Scalars]) -> Scalars:
    """The mean of each loss over the pieces that have it."""
    names = dict.fromkeys(name for losses in found for name in losses)
    return {name: torch.stack([losses[name] for losses in found if name in losses]).mean() for name in names}
