"""A store under torch's DataLoader: whatever way its workers are started and its batches are chosen."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

import featx
from featx.errors import KeyNotFound
from featx.loading.order import Order
from featx.record import RecordBatch
from featx.store import create_store, open_part, open_store
from tests.store_oracle import PROVENANCE, SCHEMA, names, record_of

COUNT = 23
FIXED = replace(SCHEMA, rows=12)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset") / "store"
    create_store(path, "lmdb", SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        for ordinal, key in enumerate(names(COUNT)):
            writer.put(key, record_of(key), ordinal)
        writer.finish()
    return path


@pytest.fixture
def dataset(path: Path) -> Iterator[featx.FeatureDataset]:
    made = featx.FeatureDataset(path, names(COUNT))
    yield made
    made.store.close()


def is_right(batch: RecordBatch) -> None:
    for place, key in enumerate(batch.keys):
        record, one = record_of(key), batch[place]
        count = record.count
        assert one["mask"].tolist() == [n < count for n in range(len(one["mask"]))]
        assert one["sizes"].tolist() == list(record.size)
        np.testing.assert_array_equal(one["features"][:count].numpy(), record.features.astype(np.float32))
        np.testing.assert_array_equal(one["boxes"][:count].numpy(), record.boxes)
        np.testing.assert_array_equal(one["object_ids"][:count].numpy(), record.extra["object_ids"])
        np.testing.assert_array_equal(one["pooled"].numpy(), record.extra["pooled"])
        assert not one["features"][count:].any()


def test_one_example_is_its_record_as_tensors(dataset: featx.FeatureDataset) -> None:
    assert len(dataset) == COUNT
    for number in (0, 7, COUNT - 1):
        record, one = record_of(names(COUNT)[number]), dataset[number]
        assert one["features"].shape == record.features.shape
        np.testing.assert_array_equal(one["features"].numpy(), record.features.astype(np.float32))
        np.testing.assert_array_equal(one["boxes"].numpy(), record.boxes)
    with pytest.raises(IndexError):
        dataset[COUNT]


def test_a_batch_is_read_at_once(dataset: featx.FeatureDataset) -> None:
    batch = dataset.__getitems__([3, 1, 3])
    assert batch.keys == tuple(names(COUNT)[n] for n in (3, 1, 3))
    is_right(batch)


@pytest.mark.parametrize("method", ["fork", "spawn", None])
def test_workers_read_what_the_process_itself_reads(dataset: featx.FeatureDataset, method: str | None) -> None:
    assert dataset[0], "the files are open here already, and a forked worker must not use them"
    loader = DataLoader(
        dataset, batch_size=5, shuffle=True, collate_fn=dataset.collate, num_workers=2 if method else 0,
        multiprocessing_context=method,
    )  # fmt: skip
    seen: list[str] = []
    for batch in loader:
        assert isinstance(batch, RecordBatch)
        is_right(batch)
        seen += batch.keys
    assert sorted(seen) == sorted(names(COUNT))


def test_batches_may_be_chosen_by_a_batch_sampler(dataset: featx.FeatureDataset) -> None:
    sampler = BatchSampler(SequentialSampler(dataset), 4, drop_last=False)
    found = [b.keys for b in DataLoader(dataset, batch_sampler=sampler, collate_fn=dataset.collate)]
    assert [key for keys in found for key in keys] == names(COUNT)
    lengths = np.array([record_of(key).count for key in names(COUNT)])
    order = Order(COUNT, 4, seed=1, lengths=lengths)
    batches = [order.rows(0, step).tolist() for step in range(order.steps)]
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=dataset.collate)
    assert [b.keys for b in loader] == [tuple(names(COUNT)[n] for n in batch) for batch in batches]


def test_without_collate_a_batch_is_a_mapping_of_the_same_tensors(dataset: featx.FeatureDataset) -> None:
    batch: dict[str, Any] = next(iter(DataLoader(dataset, batch_size=5)))
    right = dataset.__getitems__(range(5))
    assert list(batch) == list(right.tensors)
    assert all(torch.equal(batch[name], tensor) for name, tensor in right.tensors.items())


def test_single_examples_come_without_a_batch(dataset: featx.FeatureDataset) -> None:
    found = list(DataLoader(dataset, batch_size=None))
    assert [len(one["mask"]) for one in found] == [record_of(key).count for key in names(COUNT)]


def test_fields_boxes_and_dtype_can_be_chosen(path: Path) -> None:
    with open_store(path) as store:
        dataset = featx.FeatureDataset(store, dtype="stored", boxes="unit", fields=["pooled"])
        assert dataset.keys == sorted(names(COUNT))
        batch = dataset.__getitems__([0, 1])
        assert list(batch.extra) == ["pooled"]
        assert batch.features.dtype == torch.float16
        assert float(batch.boxes.max()) <= 1.0
        assert list(dataset[0]) == ["features", "boxes", "mask", "sizes", "pooled"]


def test_a_data_set_travels_as_the_place_of_its_store(dataset: featx.FeatureDataset) -> None:
    copy = pickle.loads(pickle.dumps(dataset))
    is_right(copy.__getitems__([2, 5]))
    copy.store.close()
    assert len(pickle.dumps(dataset)) < 4000, "the keys, and no record"


def test_a_batch_crosses_processes(dataset: featx.FeatureDataset) -> None:
    batch = dataset.__getitems__([2, 5])
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    queue.put(batch)
    again = queue.get()
    assert again.keys == batch.keys
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in batch.tensors.items())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_record_that_is_not_there_is_named(path: Path, workers: int) -> None:
    dataset = featx.FeatureDataset(path, [*names(4), "nobody"])
    loader = DataLoader(dataset, batch_size=2, collate_fn=dataset.collate, num_workers=workers)
    batches = iter(loader)
    is_right(next(batches))
    is_right(next(batches))
    with pytest.raises(KeyNotFound, match="nobody"):
        next(batches)
    dataset.store.close()
