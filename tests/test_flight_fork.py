"""A store behind grpc:// is read on both sides of a fork, which gRPC itself does not bear.

The servers here have processes of their own, and nothing else in this process may use gRPC.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from featx.loading import FeatureDataset
from featx.store import open_store
from tests.flight_calls import apart
from tests.forked import in_child
from tests.store_oracle import FIXED, make_store
from tests.test_gather import assert_same


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("s") / "s", "hdf5", 40, schema=FIXED)


def test_a_forked_child_has_a_connection_of_its_own(single: Path) -> None:
    folder, keys = open_store(single), list(open_store(single))
    expected, record = folder.get_batch(keys), folder[keys[0]]
    with apart(s=single) as location, open_store(f"{location}/s") as store:

        def check() -> None:
            for _ in range(3):
                assert_same(store.get_batch(keys), expected)
                assert store[keys[0]] == record

        check()  # the connection is there
        for _ in range(2):
            assert in_child(check) == 0
            check()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_dataloader_read_from_a_url(single: Path, context: str) -> None:
    folder = open_store(single)
    with apart(s=single) as location:
        dataset = FeatureDataset(f"{location}/s")
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=18, num_workers=1 if context == "spawn" else 2, collate_fn=dataset.collate,
            multiprocessing_context=multiprocessing.get_context(context),
        )  # fmt: skip
        batches = list(loader)
        del loader, dataset
    assert [key for batch in batches for key in batch.keys] == list(folder)
    for batch in batches:
        assert_same(batch, folder.get_batch(batch.keys))
