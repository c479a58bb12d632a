"""The loader: the batches that it should give, where it goes on, what becomes of their memory, and of its thread."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import featx
from featx.errors import KeyNotFound, StoreDamaged, UsageError
from featx.loading import FeatureLoader
from featx.loading.order import Order
from featx.loading.ring import Ring
from featx.record import RecordBatch
from featx.store import StoreReader, create_store, open_part, open_store
from tests.conftest import absent
from tests.store_oracle import PROVENANCE, SCHEMA, names, record_of

COUNT = 50
FIXED = replace(SCHEMA, rows=12)


def written(path: Path, rows: int | None) -> Path:
    """The oracle's records of ``COUNT`` pictures, of 12 to 20 rows or all of ``rows``."""
    schema = replace(SCHEMA, rows=rows)
    create_store(path, "lmdb", schema, PROVENANCE)
    with open_part(path) as writer:
        for ordinal, key in enumerate(names(COUNT)):
            writer.put(key, record_of(key, schema), ordinal)
        writer.finish()
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("loading")
    return {"ragged": written(folder / "ragged", None), "fixed": written(folder / "fixed", 12)}


@pytest.fixture(params=["ragged", "fixed"])
def store(request: pytest.FixtureRequest, paths: dict[str, Path]) -> Iterator[StoreReader]:
    with open_store(paths[request.param]) as reader:
        yield reader


@pytest.fixture
def ragged(paths: dict[str, Path]) -> Iterator[StoreReader]:
    with open_store(paths["ragged"]) as reader:
        yield reader


@pytest.fixture
def fixed(paths: dict[str, Path]) -> Iterator[StoreReader]:
    with open_store(paths["fixed"]) as reader:
        yield reader


def expected(keys: Sequence[str], store: StoreReader) -> dict[str, np.ndarray[Any, Any]]:
    """The batch of ``keys`` as the oracle makes it, padded to its longest record."""
    records = [record_of(key, store.schema) for key in keys]
    rows = max(len(record.features) for record in records)

    def padded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        whole = np.zeros((rows, *array.shape[1:]), array.dtype)
        whole[: len(array)] = array
        return whole

    return {
        "features": np.stack([padded(record.features) for record in records]).astype(np.float32),
        "boxes": np.stack([padded(record.boxes) for record in records]),
        "mask": np.stack([np.arange(rows) < record.count for record in records]),
        "sizes": np.array([record.size for record in records], np.float32),
        "object_ids": np.stack([padded(record.extra["object_ids"]) for record in records]),
        "pooled": np.stack([record.extra["pooled"] for record in records]),
    }


def is_right(batch: RecordBatch, store: StoreReader) -> None:
    """Assert that a batch holds what the oracle says of its keys."""
    right = expected(batch.keys, store)
    assert set(batch.tensors) == set(right)
    for name, tensor in batch.tensors.items():
        np.testing.assert_array_equal(tensor.numpy(), right[name], err_msg=name)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("featx-feed")]


def test_the_loader_gives_the_records_of_its_order(store: StoreReader) -> None:
    keys = list(store.keys())
    lengths = None
    if store.schema.rows is None:
        lengths = np.array([len(record_of(key, SCHEMA).features) for key in keys])
    order = Order(COUNT, 8, 5, lengths=lengths)
    with featx.FeatureLoader(store, batch=8, seed=5, epochs=2) as loader:
        assert (len(loader), loader.steps) == (14, 7)
        for place, batch in enumerate(loader):
            rows = order.rows(*divmod(place, 7))
            assert batch.keys == tuple(keys[row] for row in rows)
            is_right(batch, store)
    assert place == 13


def test_keys_may_be_some_and_repeated(fixed: StoreReader) -> None:
    wanted = [names(COUNT)[n] for n in (3, 3, 9, 4, 3)]
    with FeatureLoader(fixed, wanted, batch=2, shuffle=False) as loader:
        seen = []
        for batch in loader:
            is_right(batch, fixed)
            seen += batch.keys
    assert seen == wanted


def test_a_pass_ends_with_its_epochs_and_the_next_one_goes_on_behind_it(fixed: StoreReader) -> None:
    with FeatureLoader(fixed, batch=8, seed=1) as by_epoch, FeatureLoader(fixed, batch=8, seed=1, epochs=3) as at_once:
        one_by_one = []
        while by_epoch.epoch < 3:
            one_by_one += [batch.keys for batch in by_epoch]
            assert by_epoch.position == 0
        assert one_by_one == [batch.keys for batch in at_once]
    assert len(set(one_by_one)) == 21, "no epoch is like another"


def test_a_loader_without_end_has_no_length(fixed: StoreReader) -> None:
    with FeatureLoader(fixed, batch=40, epochs=None) as loader:
        assert [loader.epoch for _, _ in zip(range(5), loader, strict=False)] == [0, 1, 1, 2, 2]
        with pytest.raises(TypeError, match="no length"):
            len(loader)


@pytest.mark.parametrize("stop", range(15))
def test_it_goes_on_exactly_where_another_one_stood(ragged: StoreReader, stop: int) -> None:
    def loader() -> FeatureLoader:
        return FeatureLoader(ragged, batch=8, seed=2, epochs=2)

    with loader() as first:
        batches = iter(first)
        before = [next(batches).keys for _ in range(stop)]
        state = first.state_dict()
    with loader() as second:
        second.load_state_dict(state)
        after = [batch.keys for batch in second]
    with loader() as whole:
        everything = [batch.keys for batch in whole]
    assert before + after == (everything if stop < 14 else everything + after)
    assert (state["epoch"], state["position"]) == divmod(stop, 7)


def test_another_number_of_processes_goes_on_with_the_same_examples(fixed: StoreReader) -> None:
    with FeatureLoader(fixed, batch=8, seed=2) as alone:
        batches = iter(alone)
        for _ in range(3):
            next(batches)
        state = alone.state_dict()
        rest = [set(batch.keys) for batch in batches]
    found: list[set[str]] = [set() for _ in rest]
    for rank in range(2):
        with FeatureLoader(fixed, batch=4, seed=2, rank=rank, world=2) as share:
            share.load_state_dict(state)
            for one, batch in zip(found, share, strict=True):
                one.update(batch.keys)
    assert found == rest


def test_the_place_of_another_order_is_refused(fixed: StoreReader) -> None:
    with FeatureLoader(fixed, batch=8, seed=2) as loader:
        state = loader.state_dict()
        for change in ({"seed": 3}, {"step": 16}, {"examples": 49}, {"shuffle": False}):
            with pytest.raises(UsageError, match=next(iter(change))):
                loader.load_state_dict(state | change)
        for change in ({"position": 7}, {"epoch": -1}, {"epoch": "x"}):
            with pytest.raises(UsageError, match="is no place in epochs of 7 batches"):
                loader.load_state_dict(state | change)


def test_the_processes_of_a_world_share_an_epoch(ragged: StoreReader) -> None:
    seen: list[str] = []
    for rank in range(3):
        with FeatureLoader(ragged, batch=5, seed=1, rank=rank, world=3) as loader:
            assert loader.steps == 4
            for batch in loader:
                is_right(batch, ragged)
                seen += batch.keys
    assert sorted(seen) == sorted(names(COUNT))


def test_similar_lengths_come_together_unless_told_otherwise(ragged: StoreReader) -> None:
    def padding(**options: Any) -> float:
        with FeatureLoader(ragged, batch=5, seed=1, **options) as loader:
            masks = [batch.mask.clone() for batch in loader]
        assert sum(int(mask.sum()) for mask in masks) == sum(record_of(key).count for key in names(COUNT))
        return sum(int((~mask).sum()) for mask in masks)

    assert padding() < 0.25 * padding(bucket=False)


def test_buffers_are_used_again_and_there_are_no_more_than_may_wait_and_one(store: StoreReader) -> None:
    with FeatureLoader(store, batch=8, epochs=5, ahead=2) as loader:
        places = []
        for batch in loader:
            places.append(batch.features.data_ptr())
            time.sleep(0.002)  # most of the time two batches wait, so that three buffers are in use
    assert len(places) == 35
    assert len(set(places)) <= 3


def test_a_batch_is_valid_until_the_next_one_is_asked_for_and_its_clone_for_ever(fixed: StoreReader) -> None:
    with FeatureLoader(fixed, batch=8, epochs=4, ahead=1) as loader:
        kept, views = [], []
        for batch in loader:
            is_right(batch, fixed)
            kept.append(batch.clone())
            views.append(batch)
    for one in kept:
        is_right(one, fixed)
    assert any(not torch.equal(view.features, one.features) for view, one in zip(views, kept, strict=True))


def test_the_batch_before_a_break_stays_as_it_is(fixed: StoreReader) -> None:
    loader = FeatureLoader(fixed, batch=8, epochs=5)
    for given in loader:
        batch = given
        if loader.position == 5:
            break
    for other in loader:
        assert other.features.data_ptr() != batch.features.data_ptr()
    is_right(batch, fixed)


def test_a_loader_that_was_left_goes_on_behind_the_batch_it_gave(fixed: StoreReader) -> None:
    with FeatureLoader(fixed, batch=8, seed=4) as loader, FeatureLoader(fixed, batch=8, seed=4) as whole:
        found = []
        for batch in loader:
            found.append(batch.keys)
            if len(found) == 3:
                break
        found += [batch.keys for batch in loader]
        assert found == [batch.keys for batch in whole]


def test_what_prepare_makes_of_a_batch_is_given_to_the_consumer(ragged: StoreReader) -> None:
    keys = list(ragged.keys())
    labels = torch.arange(COUNT)
    made_in = set()

    def prepare(records: RecordBatch, rows: np.ndarray[Any, Any]) -> tuple[RecordBatch, torch.Tensor]:
        made_in.add(threading.current_thread())
        return records, labels[torch.from_numpy(rows)]

    with FeatureLoader(ragged, keys, batch=8, prepare=prepare) as loader:
        for records, label in loader:
            is_right(records, ragged)
            assert records.keys == tuple(keys[n] for n in label.tolist())
    assert threading.current_thread() not in made_in


def test_fields_boxes_and_dtype_are_those_of_get_batch(fixed: StoreReader) -> None:
    with FeatureLoader(fixed, batch=8, fields=["pooled"], boxes="unit", dtype="stored") as loader:
        batch = next(iter(loader))
        right = expected(batch.keys, fixed)
        assert list(batch.extra) == ["pooled"]
        assert batch.features.dtype == torch.float16
        np.testing.assert_array_equal(batch.features.float().numpy(), right["features"])
        height, width = right["sizes"][:, 0], right["sizes"][:, 1]
        by = np.stack([width, height, width, height], 1)[:, None]
        np.testing.assert_allclose(batch.boxes.numpy(), right["boxes"] / by, rtol=1e-6)


def test_a_record_that_is_not_there_is_told_where_its_batch_is_asked_for(fixed: StoreReader) -> None:
    keys = [*names(COUNT)[:20], "nobody", *names(COUNT)[20:]]
    with FeatureLoader(fixed, keys, batch=8, shuffle=False) as loader:
        batches = iter(loader)
        for _ in range(2):
            is_right(next(batches), fixed)
        with pytest.raises(KeyNotFound, match="'nobody'"):
            next(batches)
        assert (loader.epoch, loader.position) == (0, 2), "it stands before the batch that it could not give"
    assert threads() == []


def test_a_damaged_record_is_told_with_its_key_where_its_batch_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "store", 12)
    key = names(COUNT)[21]
    features = record_of(key, FIXED).features.tobytes()
    for file in path.rglob("*.lmdb"):
        content = bytearray(file.read_bytes())
        content[content.index(features) + 100] ^= 1
        file.write_bytes(content)
    with open_store(path) as store, FeatureLoader(store, names(COUNT), batch=8, shuffle=False) as loader:
        batches = iter(loader)
        for _ in range(2):
            is_right(next(batches), store)
        with pytest.raises(StoreDamaged, match=key):
            next(batches)


def test_an_error_of_prepare_is_raised_where_its_batch_is_asked_for(fixed: StoreReader) -> None:
    def prepare(records: RecordBatch, rows: np.ndarray[Any, Any]) -> RecordBatch:
        if 20 in rows:
            raise UsageError("not the twentieth")
        return records

    with FeatureLoader(fixed, batch=8, shuffle=False, prepare=prepare) as loader:
        batches = iter(loader)
        next(batches), next(batches)
        with pytest.raises(UsageError, match="not the twentieth"):
            next(batches)


def test_a_thread_reads_ahead_while_the_consumer_works(fixed: StoreReader) -> None:
    made: list[int] = []
    ready = threading.Semaphore(0)

    def prepare(records: RecordBatch, rows: np.ndarray[Any, Any]) -> RecordBatch:
        made.append(int(rows[0]) // 8)
        ready.release()
        return records

    with FeatureLoader(fixed, batch=8, shuffle=False, prepare=prepare, ahead=2) as loader:
        batches = iter(loader)
        next(batches)
        for _ in range(3):
            assert ready.acquire(timeout=60), "two batches more than the one that was asked for"
        assert made == [0, 1, 2]


@pytest.mark.parametrize("way", ["end", "break", "error", "close", "interrupt"])
def test_no_thread_is_left_behind(fixed: StoreReader, way: str) -> None:
    before = torch.get_num_threads()
    loader = FeatureLoader(fixed, batch=8, epochs=2)

    def consume() -> None:
        for _ in loader:
            assert len(threads()) == 1
            if way == "break":
                break
            if way == "error":
                raise ValueError("of the consumer")
            if way == "interrupt":
                raise KeyboardInterrupt
            if way == "close":
                loader.close()

    with suppress(ValueError, KeyboardInterrupt):
        consume()
    gc.collect()
    assert threads() == []
    assert torch.get_num_threads() == before


def test_a_second_pass_ends_the_first(fixed: StoreReader) -> None:
    with FeatureLoader(fixed, batch=8) as loader:
        first = iter(loader)
        next(first)
        second = iter(loader)
        next(second)
        assert len(threads()) == 1
        assert list(first) == []
        assert len(list(second)) == 5
    assert threads() == []


def test_a_pass_has_some_epochs(fixed: StoreReader) -> None:
    with pytest.raises(UsageError, match="epochs is 0"):
        FeatureLoader(fixed, epochs=0)


def test_pinned_memory_without_a_gpu_is_refused(fixed: StoreReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="pinned memory needs a GPU"):
        FeatureLoader(fixed, pin=True)


def test_a_buffer_that_is_not_given_back_is_never_used_again(ragged: StoreReader) -> None:
    ring, keys = Ring(ragged, 4), names(COUNT)
    held = [ring.read(keys[begin : begin + 4]) for begin in range(0, 20, 4)]
    for filled in held:
        is_right(filled.records, ragged)
    places = {filled.records.features.data_ptr() for filled in held}
    assert len(places) == 5
    for filled in held[:2]:
        filled.release()
        filled.release()
    again = [ring.read(keys[begin : begin + 4]) for begin in (20, 24, 28)]
    taken = [filled.records.features.data_ptr() for filled in again]
    assert len({*taken} & places) == 2, "a buffer that is given back twice is free once"
    for filled in (*held[2:], *again):
        is_right(filled.records, ragged)


def test_a_buffer_is_given_back_when_reading_fails(fixed: StoreReader) -> None:
    ring = Ring(fixed, 2)
    first = ring.read(names(2))
    place = first.records.features.data_ptr()
    first.release()
    with pytest.raises(KeyNotFound):
        ring.read(["nobody"])
    assert ring.read(names(2)).records.features.data_ptr() == place


def test_a_pinned_buffer_waits_for_its_copies_to_a_gpu(fixed: StoreReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what is asked of one, in which order."""
    asked: list[str] = []

    class Event:
        def synchronize(self) -> None:
            asked.append("wait")

    class Stream:
        def record_event(self, event: Event | None) -> Event:
            asked.append("mark")
            return event or Event()

    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: True)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    ring = Ring(fixed, 8)
    first = ring.read(names(8))
    first.copied()
    assert asked == ["mark"]
    first.release()
    assert asked == ["mark"]
    second = ring.read(names(8))
    assert asked == ["mark", "wait"], "before a byte of it is written"
    second.release()
    second.copied()
    assert asked == ["mark", "wait"], "what is given back already is not ours to mark"


def test_pinned_batches_arrive_on_a_gpu_as_they_are(fixed: StoreReader) -> None:
    if not torch.cuda.is_available():
        absent("torch finds no GPU", "FEATX_REQUIRE_CUDA")
    weight = torch.randn(4096, 4096, device="cuda")
    with FeatureLoader(fixed, batch=8, epochs=20, pin=True, ahead=1) as loader:
        for batch in loader:
            assert batch.features.is_pinned()
            for _ in range(20):
                weight = weight @ weight  # the copy waits behind this, the loader must not go on before it
                weight /= weight.norm()
            is_right(batch.to("cuda", non_blocking=True).to("cpu"), fixed)


def test_buffers_grow_to_the_longest_record(ragged: StoreReader) -> None:
    lengths = {key: len(record_of(key).features) for key in names(COUNT)}
    short, *_, long = sorted(lengths, key=lambda key: lengths[key])
    ring = Ring(ragged, 2)
    for keys in ([short], [long, short], [short, short]):
        filled = ring.read(keys)
        is_right(filled.records, ragged)
        assert all(tensor.is_contiguous() for tensor in filled.records.tensors.values())
        filled.release()


def test_an_empty_record_and_a_batch_of_such(tmp_path: Path) -> None:
    create_store(tmp_path / "store", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "store") as writer:
        for ordinal, (key, rows) in enumerate([("a", 0), ("b", 0), ("c", 3)]):
            writer.put(key, record_of(key, SCHEMA, rows), ordinal)
        writer.finish()
    with open_store(tmp_path / "store") as store:
        with FeatureLoader(store, ["a", "b", "c"], batch=2, shuffle=False) as loader:
            assert [batch.features.shape for batch in loader] == [(2, 0, 96), (1, 3, 96)]
        assert FeatureLoader(store, ["a", "b"]).steps == 1


def test_what_was_written_in_this_process_is_read_by_the_store_s_own_schema(tmp_path: Path) -> None:
    """The layout of a record of one row is looked up by the writer's schema first, which is equal, not the same."""
    schema = replace(SCHEMA, fields=(replace(SCHEMA.fields[0], shape=(13,)), *SCHEMA.fields[1:]))
    create_store(tmp_path / "store", "lmdb", schema, PROVENANCE)
    with open_part(tmp_path / "store") as writer:
        writer.put("a", record_of("a", schema, 1), 0)
        writer.finish()
    with open_store(tmp_path / "store") as store:
        features = store.get_batch(["a"]).features
    np.testing.assert_array_equal(features[0].numpy(), record_of("a", schema, 1).features.astype(np.float32))


def test_one_record_of_a_batch_may_be_asked_for_by_name(fixed: StoreReader) -> None:
    batch = fixed.get_batch(names(3))
    one = batch[1]
    np.testing.assert_array_equal(one["features"].numpy(), record_of(names(3)[1], FIXED).features.astype(np.float32))
    assert list(one) == ["features", "boxes", "mask", "sizes", "object_ids", "pooled"]
    with pytest.raises(IndexError, match="record 3 of a batch of 3"):
        batch[3]
    moved = batch.to("cpu")
    assert moved.keys == batch.keys
    assert torch.equal(moved.features, batch.features)
