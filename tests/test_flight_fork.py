"""A store behind grpc:// is read on both sides of a fork, which gRPC itself does not bear.

Each test has a fresh process: servers in this one, as other tests have them, would be in use by gRPC when it forks.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from featx.loading import FeatureDataset
from featx.store import open_store
from tests.flight_calls import apart
from tests.forked import in_child
from tests.store_oracle import FIXED, make_store
from tests.test_gather import assert_same

LONGEST = 120  # seconds


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("s") / "s", "hdf5", 40, schema=FIXED)


def afresh(check: Callable[..., None], *arguments: Any) -> int | None:
    """Exit code of a fresh process that does ``check``; None where it came to no end."""
    process = multiprocessing.get_context("spawn").Process(target=check, args=arguments)
    process.start()
    process.join(LONGEST)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code


def read_on_both_sides(single: Path) -> None:
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


def read_by_workers(single: Path, context: str) -> None:
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


def test_a_forked_child_has_a_connection_of_its_own(single: Path) -> None:
    assert afresh(read_on_both_sides, single) == 0


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_dataloader_read_from_a_url(single: Path, context: str) -> None:
    assert afresh(read_by_workers, single, context) == 0
