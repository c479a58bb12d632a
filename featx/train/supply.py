"""What the model is fed with: examples -> records of the store -> tensors, for training and for evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from featx import __version__
from featx.errors import UsageError
from featx.loading.chance import generator
from featx.loading.feed import Feed
from featx.loading.order import Rows, lengths_of
from featx.loading.ring import Filled, Ring
from featx.store import StoreReader
from featx.task import Batch, Task
from featx.train.config import TrainConfig
from featx.train.contents import contents
from featx.train.distributed import World
from featx.train.evaluation import rounds
from featx.train.sampler import Sampler
from featx.train.sources import fingerprint

Place = tuple[int, int, int]  # epoch, step of the epoch, piece of the step; all from 0


@dataclass(frozen=True)
class Made:
    """What ``Task.prepare`` made, and the records it made it of: tensors may be views of these."""

    tensors: Batch
    records: Filled | None

    def release(self) -> None:
        """The step is over, or the prediction made: the memory of the records is used for others."""
        if self.records is not None:
            self.records.release()


@dataclass(frozen=True)
class Supply:
    """The batches of this process. stores and examples by split; no stores for a task that wants none."""

    task: Task
    config: TrainConfig
    world: World
    stores: Mapping[str, StoreReader]
    examples: Mapping[str, Sequence[Any]]
    sampler: Sampler

    @classmethod
    def of(
        cls, task: Task, config: TrainConfig, world: World, stores: Mapping[str, StoreReader],
        examples: Mapping[str, Sequence[Any]],
    ) -> Supply:  # fmt: skip
        """The batches of this process. Raises UsageError where they cannot be made of the examples."""
        if config.patience is not None and not examples["val"]:
            raise UsageError("train.patience counts evaluations, and there are no val examples", "leave it out")
        stores = {} if task.wants() is None else stores
        sampler = Sampler(
            len(examples["train"]), config.batch, config.seed,
            rank=world.rank, world=world.size, pieces=config.accumulate,
            lengths=_lengths(task, stores.get("train"), examples["train"]) if config.bucket else None,
        )  # fmt: skip
        return cls(task, config, world, stores, examples, sampler)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.sampler.steps

    def training(self, epoch: int, position: int) -> Feed[Place, Made]:
        """All pieces from ``position`` of ``epoch`` on, to the last epoch, one after another."""
        pieces = self.config.accumulate
        ring = self._ring("train", self.config.batch // self.world.size // pieces)
        return Feed(
            partial(self._piece, ring), self._places(epoch, position), workers=self.config.workers,
            ahead=pieces + 2 * self.config.workers,
        )  # fmt: skip

    def evaluation(self) -> Feed[range, Made | None]:
        """The val examples of this process in order; None where another process has one batch more."""
        size = self.config.eval_batch or max(1, self.config.batch // self.world.size // self.config.accumulate)
        shares = rounds(len(self.examples["val"]), self.world, size)
        return Feed(partial(self._share, self._ring("val", size)), shares, workers=self.config.workers)

    def describe(self, options: Mapping[str, Any], mismatch: Sequence[str]) -> dict[str, Any]:
        """What a run of this is begun with, as it stands in config.json."""
        facts = {
            "featx": __version__,
            "task": self.task.name,
            "options": dict(options),
            "train": self.config.to_dict(),
            "stores": {split: fingerprint(store) for split, store in self.stores.items()},
            "examples": {split: len(found) for split, found in self.examples.items()},
            "contents": {split: contents(found) for split, found in self.examples.items()},
            "mismatch": list(mismatch),
            "threads": torch.get_num_threads(),
            "processes": self.world.size,
        }
        return dict(json.loads(json.dumps(facts, default=str)))

    def provenance(self) -> dict[str, Any]:
        """What an export may say of the data: provenance, labels, dimension and dtype of the training store."""
        if (store := self.stores.get("train")) is None:
            return {"provenance": {}, "labels": {}, "dim": None, "dtype": None, "store": None}
        manifest = store.manifest
        return {
            "provenance": dict(manifest.provenance),
            "labels": dict(manifest.labels),
            "dim": store.schema.dim,
            "dtype": store.schema.fields[0].dtype,
            "store": fingerprint(store),
        }

    def _places(self, epoch: int, position: int) -> Iterator[Place]:
        for now in range(epoch, self.config.epochs):
            for step in range(position if now == epoch else 0, self.steps):
                yield from ((now, step, piece) for piece in range(self.config.accumulate))

    @property
    def _pin(self) -> bool:
        return self.world.device.type == "cuda"

    def _ring(self, split: str, size: int) -> Ring | None:
        store = self.stores.get(split)
        return None if store is None else Ring(store, size, pin=self._pin)

    def _piece(self, ring: Ring | None, place: Place) -> Made:
        epoch, step, piece = place
        rngs = (generator(self.config.seed, "prepare", epoch, n) for n in self.sampler.places(step, piece).tolist())
        return self._made(ring, [self.examples["train"][row] for row in self.sampler.rows(*place).tolist()], rngs)

    def _share(self, ring: Ring | None, rows: range) -> Made | None:
        return self._made(ring, [self.examples["val"][row] for row in rows], None) if rows else None

    def _made(self, ring: Ring | None, chosen: Sequence[Any], rngs: Iterable[np.random.Generator] | None) -> Made:
        filled = None if ring is None else ring.read([self.task.key(example) for example in chosen])
        batch = self.task.prepare(chosen, None if filled is None else filled.records, rngs)
        return Made({n: t.pin_memory() for n, t in batch.items()} if self._pin else batch, filled)

    def place(self, made: Made) -> dict[str, torch.Tensor]:
        """The batch on the device of the model; on the CPU these are the tensors themselves."""
        placed = {name: tensor.to(self.world.device, non_blocking=True) for name, tensor in made.tensors.items()}
        if self._pin and made.records is not None:
            made.records.copied()
        return placed


def _lengths(task: Task, store: StoreReader | None, examples: Sequence[Any]) -> Rows | None:
    """The number of regions of each example's picture, where it differs."""
    if store is None or store.schema.rows is not None:
        return None
    return lengths_of(store, [task.key(example) for example in examples])
