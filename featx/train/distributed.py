"""Several processes, as ``torchrun`` starts them: who am I, and how do we agree.

Gradients travel over gloo (CPU) or nccl (CUDA). Everything else that processes tell each other is JSON or raw bytes in
CPU tensors over gloo, so nothing is ever pickled.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from featx.device import usable_device
from featx.errors import FeatxError, UsageError


class ToldByFirst(FeatxError):
    """What the first process raised, in another one: it needs not be told again."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


@dataclass(frozen=True)
class World:
    """The processes of a run: this one is ``rank`` of ``size`` and works on ``device``."""

    rank: int
    size: int
    device: torch.device
    control: Any = None  # the gloo group; None in a world of one

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """The bytes of every process, by rank, in every process."""
        if self.size == 1:
            return [data]
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(data)]), group=self.control)
        counts = [int(length) for length in lengths]
        mine = torch.zeros(max(1, *counts), dtype=torch.uint8)
        if data:
            mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        rows = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(rows, mine, group=self.control)
        return [row[:count].numpy().tobytes() for row, count in zip(rows, counts, strict=True)]

    def gather(self, value: Any) -> list[Any]:
        """A JSON-able value of every process, by rank, in every process."""
        return (
            [value] if self.size == 1 else [json.loads(data) for data in self.gather_bytes(json.dumps(value).encode())]
        )

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        total = torch.tensor([int(flag)])
        dist.all_reduce(total, group=self.control)
        return bool(total)

    def by_first(self, action: Callable[[], Any]) -> Any:
        """Let the first process do what one must do for all; its JSON-able result, in every process.

        What is raised there is raised in every other process as ToldByFirst, so that none waits for a dead one.
        """
        if self.size == 1:
            return action()
        if not self.first:
            result, *error = self.gather(None)[0]
            if error:
                raise ToldByFirst(*error)
            return result
        try:
            result = action()
        except Exception as error:
            hint, code = (error.hint, error.exit_code) if isinstance(error, FeatxError) else ("", FeatxError.exit_code)
            self.gather([None, str(getattr(error, "message", error)), hint, code])
            raise
        return self.gather([result])[0][0]


@contextmanager
def join(device: str) -> Iterator[World]:
    """This process's place in the world, from the environment of ``torchrun``; alone where there is none.

    With ``device`` cuda each process of a machine takes the GPU of its LOCAL_RANK. Raises UsageError for a device that
    is not there, and for one GPU that several processes would share.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size > 1 and device.startswith("cuda:"):
        raise UsageError(
            f"train.device is {device}, one GPU for {size} processes", "give cuda: each process then takes its own"
        )
    place = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield World(0, 1, place)
        return
    if dist.is_initialized():
        raise UsageError("this process is in a torch.distributed group already", "leave it before training")
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    world = World(rank, size, place, dist.new_group(backend="gloo"))
    try:
        yield world
    finally:
        # A group's threads end with its last reference, not here. One that still let go of a tensor while the
        # interpreter shuts down would abort the process.
        object.__setattr__(world, "control", None)
        dist.destroy_process_group()
        gc.collect()


def _device(name: str, local: int) -> torch.device:
    place = usable_device(f"cuda:{local}" if name == "cuda" else name)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    return place
