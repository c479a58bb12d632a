"""What the loop is fed with lies in memory that is used again: a task may keep views of it until its step is over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featx.errors import KeyNotFound
from featx.record import Record, RecordBatch
from featx.schema import Schema, region_schema
from featx.store import create_store, open_part, open_store
from featx.task import Batch
from featx.train import TrainConfig
from featx.train.distributed import World
from featx.train.sampler import Sampler
from featx.train.supply import Supply
from tests.toy_task import DIM, PROVENANCE, Example, Toy, kinds, toy, trained

PICTURES = 60
ALONE = World(0, 1, torch.device("cpu"))


def features_of(picture: str, rows: int | None = None) -> np.ndarray[Any, Any]:
    """``[N, DIM]`` float32 of a picture ``p7``: 1 to 9 regions, or ``rows``."""
    number = int(picture[1:])
    rng = np.random.default_rng(number)
    return rng.standard_normal((rows or int(rng.integers(1, 10)), DIM)).astype(np.float32)


@pytest.fixture(scope="module", params=["ragged", "fixed"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int | None]:
    path, rows = tmp_path_factory.mktemp("supply") / request.param, {"ragged": None, "fixed": 3}[request.param]
    schema: Schema = replace(region_schema(DIM, "float32", attributes=False), rows=rows)
    create_store(path, "lmdb", schema, PROVENANCE)
    with open_part(path) as writer:
        for i in range(PICTURES):
            features = features_of(f"p{i}", rows)
            extra = {
                "object_ids": np.zeros(len(features), np.int32),
                "object_confs": np.ones(len(features), np.float32),
            }
            boxes = np.zeros((len(features), 4), np.float32)
            writer.put(f"p{i}", Record(features, boxes, (8, 8), extra=extra), i)
        writer.finish()
    return path, rows


class Views(Toy):
    """Returns nothing but views of the records, and looks at the end of its step whether they are still right."""

    def __init__(self, rows: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.rows, self.looked, self.memory = rows, 0, set[int]()

    def prepare(
        self, examples: Sequence[Example], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        assert records is not None
        self.memory.add(records.features.data_ptr())
        pictures = torch.tensor([int(example.picture[1:]) for example in examples])
        return {"features": records.features, "mask": records.mask, "pictures": pictures}

    def look(self, batch: Batch) -> None:
        own = [features_of(f"p{i}", self.rows) for i in batch["pictures"].tolist()]
        longest = max(map(len, own))
        right = np.stack([np.pad(one, [(0, longest - len(one)), (0, 0)]) for one in own])
        np.testing.assert_array_equal(batch["features"].numpy(), right)
        assert batch["mask"].sum(1).tolist() == [len(one) for one in own]
        self.looked += 1

    def as_toy(self, batch: Batch) -> dict[str, torch.Tensor]:
        x = batch["features"].mean(1)
        return {"x": x, "y": (x.sum(1) > 0).float()}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        found = super().loss(self.as_toy(batch))
        self.look(batch)
        return found

    def predict(self, batch: Batch) -> list[Any]:
        found = super().predict(self.as_toy(batch))
        self.look(batch)
        return found


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_views_of_the_records_are_right_until_the_step_is_over(
    store: tuple[Path, int | None], workers: int, accumulate: int, tmp_path: Path
) -> None:
    path, rows = store
    task = toy(Views, rows=rows, val=10)
    trained(path, tmp_path / "run", task, workers=workers, accumulate=accumulate, eval_batch=4)
    assert task.looked == 3 * (50 // 8 * accumulate + 3), "in every piece of three epochs, and every evaluation"


def test_the_memory_of_a_run_is_that_of_what_may_wait_and_what_is_learnt_from(
    store: tuple[Path, int | None], tmp_path: Path
) -> None:
    path, rows = store
    task = toy(Views, rows=rows, val=0)
    trained(path, tmp_path / "run", task, workers=2, accumulate=2, epochs=10)
    assert task.looked == 120
    most = 2 + 2 * 2 + 2  # ahead, and the pieces of a step
    assert len(task.memory) <= (most if rows else 2 * most), "a buffer for up to 8 rows is replaced by one for 9"


def test_a_loss_is_the_same_with_batches_of_similar_length_where_all_have_the_same(
    store: tuple[Path, int | None], tmp_path: Path
) -> None:
    path, rows = store
    for bucket in (False, True):
        trained(path, tmp_path / str(bucket), toy(noise=0.3), bucket=bucket)
    losses = [[event["loss"] for event in kinds(tmp_path / name, "epoch")] for name in ("False", "True")]
    assert (losses[0] == losses[1]) == (rows is not None)


def test_batches_of_similar_length_have_every_example_once_and_less_padding(
    store: tuple[Path, int | None], tmp_path: Path
) -> None:
    path, rows = store
    padded = {}
    with open_store(path) as reader:
        for bucket in (False, True):
            task = toy(Views, rows=rows, train=48)
            config = TrainConfig(batch=8, workers=1, epochs=1, bucket=bucket)
            supply = Supply.of(task, config, ALONE, {"train": reader}, {"train": task.examples("train"), "val": []})
            seen: list[int] = []
            padded[bucket] = 0
            with supply.training(0, 0) as feed:
                for made in feed:
                    task.look(made.tensors)
                    seen += made.tensors["pictures"].tolist()
                    padded[bucket] += int((~made.tensors["mask"]).sum())
                    made.release()
            assert sorted(seen) == list(range(48))
    assert padded[True] < 0.5 * padded[False] or rows is not None


@pytest.mark.parametrize(("world", "pieces"), [(2, 1), (1, 2), (2, 2)])
def test_a_batch_of_similar_lengths_has_the_same_examples_however_it_is_shared(world: int, pieces: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 50)
    alone = Sampler(50, 8, seed=3, lengths=lengths)
    shares = [Sampler(50, 8, seed=3, rank=rank, world=world, pieces=pieces, lengths=lengths) for rank in range(world)]
    for step in range(6):
        parts = [share.rows(2, step, piece) for share in shares for piece in range(pieces)]
        assert sorted(np.concatenate(parts)) == sorted(alone.rows(2, step))


def test_a_record_that_vanished_is_told_where_its_batch_is_asked_for(store: tuple[Path, int | None]) -> None:
    path, rows = store
    with open_store(path) as reader:
        task = toy(Views, rows=rows)
        examples = [Example(f"p{i}", i) for i in range(16)]
        config = TrainConfig(batch=8, workers=1)
        supply = Supply.of(task, config, ALONE, {"train": reader}, {"train": examples, "val": []})
        gone = int(supply.sampler.rows(0, 1)[3])
        examples[gone] = Example("p99", 99)
        with supply.training(0, 0) as feed:
            next(feed).release()
            with pytest.raises(KeyNotFound, match="p99"):
                next(feed)
