"""What the model is fed with: examples -> records of the store -> tensors, for training and for evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from featx import __version__
from featx.errors import UsageError
from featx.loading.chance import generator
from featx.loading.feed import Feed
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
        sampler = Sampler(
            len(examples["train"]), config.batch, config.seed,
            rank=world.rank, world=world.size, pieces=config.accumulate,
        )  # fmt: skip
        return cls(task, config, world, {} if task.wants() is None else stores, examples, sampler)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.sampler.steps

    def training(self, epoch: int, position: int) -> Feed[Place, Batch]:
        """All pieces from ``position`` of ``epoch`` on, to the last epoch, one after another."""
        pieces = self.config.accumulate
        return Feed(
            self._piece, self._places(epoch, position), workers=self.config.workers,
            ahead=pieces + 2 * self.config.workers,
        )  # fmt: skip

    def evaluation(self) -> Feed[range, Batch | None]:
        """The val examples of this process in order; None where another process has one batch more."""
        size = self.config.eval_batch or max(1, self.config.batch // self.world.size // self.config.accumulate)
        shares = rounds(len(self.examples["val"]), self.world, size)
        return Feed(self._share, shares, workers=self.config.workers)

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
        """What an export may say of the data: provenance, labels and dimension of the training store."""
        if (store := self.stores.get("train")) is None:
            return {"provenance": {}, "labels": {}, "dim": None, "store": None}
        manifest = store.manifest
        return {
            "provenance": dict(manifest.provenance),
            "labels": dict(manifest.labels),
            "dim": store.schema.dim,
            "store": fingerprint(store),
        }

    def _places(self, epoch: int, position: int) -> Iterator[Place]:
        for now in range(epoch, self.config.epochs):
            for step in range(position if now == epoch else 0, self.steps):
                yield from ((now, step, piece) for piece in range(self.config.accumulate))

    def _piece(self, place: Place) -> Batch:
        epoch, step, piece = place
        rngs = (generator(self.config.seed, "prepare", epoch, n) for n in self.sampler.places(step, piece).tolist())
        return self._batch("train", self.sampler.rows(*place).tolist(), rngs)

    def _share(self, rows: range) -> Batch | None:
        return self._batch("val", rows, None) if rows else None

    def _batch(self, split: str, rows: Sequence[int], rngs: Iterable[np.random.Generator] | None) -> Batch:
        chosen = [self.examples[split][row] for row in rows]
        store = self.stores.get(split)
        records = None if store is None else store.get_batch([self.task.key(example) for example in chosen])
        batch = self.task.prepare(chosen, records, rngs)
        return {n: t.pin_memory() for n, t in batch.items()} if self.world.device.type == "cuda" else batch

    def place(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The batch on the device of the model."""
        return {name: tensor.to(self.world.device, non_blocking=True) for name, tensor in batch.items()}
