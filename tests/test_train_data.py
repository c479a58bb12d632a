"""What reaches the model, and when: the sampler, the generators, the feed, the stores."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from featx.errors import UsageError
from featx.loading.chance import generator
from featx.loading.feed import Feed
from featx.store import open_store
from featx.train.distributed import join
from featx.train.sampler import Sampler
from featx.train.seeds import capture, restore, seed_everything
from featx.train.sources import fingerprint, opened
from tests.toy_task import make_store


def test_an_epoch_has_every_example_once_but_those_of_the_last_partial_batch() -> None:
    sampler = Sampler(23, 5, seed=1)
    assert sampler.steps == 4
    rows = np.concatenate([sampler.rows(0, step) for step in range(4)]).tolist()
    assert len(set(rows)) == len(rows) == 20
    assert set(rows) < set(range(23))


def test_epochs_and_seeds_have_orders_of_their_own_and_each_is_the_same_again() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = Sampler(40, 8, seed)
        return [int(row) for step in range(5) for row in sampler.rows(epoch, step)]

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6


@pytest.mark.parametrize(("world", "pieces"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4)])
def test_a_batch_has_the_same_examples_however_it_is_shared(world: int, pieces: int) -> None:
    alone = Sampler(50, 8, seed=3)
    shares = [Sampler(50, 8, seed=3, rank=rank, world=world, pieces=pieces) for rank in range(world)]
    for step in range(6):
        parts = [share.rows(2, step, piece) for share in shares for piece in range(pieces)]
        assert [len(part) for part in parts] == [8 // world // pieces] * (world * pieces)
        assert sorted(np.concatenate(parts)) == sorted(alone.rows(2, step))


def test_the_place_of_an_example_in_its_epoch_does_not_depend_on_how_a_batch_is_shared() -> None:
    alone, share = Sampler(50, 8, seed=3), Sampler(50, 8, seed=3, rank=1, world=2, pieces=2)
    assert share.places(4, 1).tolist() == [37, 39]
    whole = dict(zip(alone.places(4).tolist(), alone.rows(1, 4).tolist(), strict=True))
    assert [whole[37], whole[39]] == share.rows(1, 4, 1).tolist()


def test_a_process_takes_every_nth_row_of_a_batch() -> None:
    batch = Sampler(50, 8, seed=3).rows(1, 4).tolist()
    assert Sampler(50, 8, seed=3, rank=1, world=2).rows(1, 4).tolist() == batch[1::2]


@pytest.mark.parametrize(("count", "batch", "world", "pieces", "message"), [
    (50, 8, 3, 1, "train.batch is 8, which 3 process"), (50, 8, 2, 8, "cannot share evenly"),
    (7, 8, 1, 1, "there are 7 training examples, fewer than one batch of 8"), (0, 1, 1, 1, "there are 0 training"),
])  # fmt: skip
def test_a_batch_that_cannot_be_made_is_refused(count: int, batch: int, world: int, pieces: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sampler(count, batch, 0, world=world, pieces=pieces)


def test_every_purpose_and_place_has_a_stream_of_its_own() -> None:
    places: list[tuple[int, ...]] = [(), (0,), (0, 0), (0, 0, 0), (1,), (0, 1), (1, 0)]
    drawn = {generator(seed, purpose, *place).random() for seed in (0, 1) for purpose in "ab" for place in places}
    assert len(drawn) == 28
    assert generator(1, "a", 2).random() == generator(1, "a", 2).random()


def test_the_state_of_all_generators_can_be_put_back() -> None:
    import random

    def draw() -> list[float]:
        return [torch.rand(1).item(), float(np.random.standard_normal()), random.random(), random.gauss(0, 1)]

    seed_everything(4)
    draw()  # leaves one half of a pair of normal numbers waiting in numpy's and Python's generators
    state = {name: value.clone() for name, value in capture(torch.device("cpu")).items()}
    first = [draw() for _ in range(3)]
    seed_everything(5)
    restore(state, torch.device("cpu"))
    assert [draw() for _ in range(3)] == first


def test_a_run_on_the_cpu_leaves_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*args: object) -> None:
        raise AssertionError("a GPU was asked")

    for name, stand_in in (("is_available", lambda: True), ("get_rng_state", touched), ("set_rng_state", touched)):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    state = capture(torch.device("cpu"))
    assert "cuda" not in state
    restore({**state, "cuda": torch.zeros(1)}, torch.device("cpu"))


def test_one_gpu_is_not_shared_by_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"train\.device is cuda:1, one GPU for 2 processes"), join("cuda:1"):
        pass


def test_ranks_and_purposes_are_seeded_differently_and_the_same_again() -> None:
    def drawn(*place: object) -> tuple[float, float]:
        seed_everything(*place)  # type: ignore[arg-type]
        return torch.rand(1).item(), float(np.random.random())

    assert drawn(1, "a", 0) == drawn(1, "a", 0)
    assert len({drawn(1, "a", 0), drawn(1, "a", 1), drawn(1, "b", 0), drawn(2, "a", 0)}) == 4


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_the_order_of_their_places(workers: int) -> None:
    def make(place: int) -> int:
        time.sleep(0.01 * (place % 3 == 0))  # some are slower than those behind them
        return place * place

    with Feed(make, range(20), workers=workers) as feed:
        assert list(feed) == [n * n for n in range(20)]


def test_threads_work_ahead_no_farther_than_told() -> None:
    made: list[int] = []
    asked = threading.Semaphore(0)

    def make(place: int) -> int:
        made.append(place)
        asked.release()
        return place

    with Feed(make, range(100), workers=2, ahead=4) as feed:
        for _ in range(4):
            asked.acquire()
        assert sorted(made) == [0, 1, 2, 3], "before anybody asked"
        assert next(feed) == 0
        asked.acquire()
        assert sorted(made) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_where_its_item_is_asked_for(workers: int) -> None:
    def make(place: int) -> int:
        if place == 3:
            raise UsageError("no third")
        return place

    with Feed(make, range(9), workers=workers) as feed:
        assert [next(feed), next(feed), next(feed)] == [0, 1, 2]
        with pytest.raises(UsageError, match="no third"):
            next(feed)


def test_a_closed_feed_leaves_no_thread_and_the_number_of_cores_as_it_was() -> None:
    before, cores = threading.active_count(), torch.get_num_threads()
    torch.set_num_threads(cores + 1)
    try:
        feed = Feed(lambda place: torch.get_num_threads(), range(1000), workers=3)
        assert next(feed) == 1, "a thread of the feed runs its operators alone"
        feed.close()
        assert threading.active_count() == before
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == cores + 1, "also in threads to come"
        assert torch.get_num_threads() == cores + 1
    finally:
        torch.set_num_threads(cores)


def test_one_store_serves_both_splits_and_is_opened_once(tmp_path: Path) -> None:
    make_store(tmp_path / "a", 3)
    make_store(tmp_path / "b", 4)
    with opened(tmp_path / "a") as stores:
        assert stores["train"] is stores["val"]
    with opened({"train": tmp_path / "a", "val": tmp_path / "b"}) as stores:
        assert (len(stores["train"]), len(stores["val"])) == (3, 4)
    with open_store(tmp_path / "a") as reader:
        with opened({"train": reader}) as stores:
            assert dict(stores) == {"train": reader}
        assert len(reader) == 3, "a reader that was given is left open"
    with opened(None) as stores:
        assert not stores


def test_a_split_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the entry 'test'"), opened({"test": tmp_path}):
        pass


def test_a_fingerprint_tells_stores_apart_wherever_they_lie(tmp_path: Path) -> None:
    prints = []
    for name, count, backend in (("a", 3, "lmdb"), ("b", 3, "hdf5"), ("c", 4, "lmdb")):
        with open_store(make_store(tmp_path / name, count, backend=backend)) as store:
            prints.append(fingerprint(store))
    assert prints[0] == prints[1], "the same records in another place and backend"
    assert prints[0] != prints[2]
    assert (prints[0]["profile"], prints[0]["weights"], prints[0]["dim"]) == ("toy-profile", "toy-weights", 12)
