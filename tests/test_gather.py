"""Batches by the compiled reader: bit for bit what reading one record after another gives, or the same refusal."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featx.errors import KeyNotFound, StoreDamaged, UsageError
from featx.record import Record, RecordBatch
from featx.schema import Array, Field, Schema
from featx.store import create_store, open_part, open_store
from featx.store.folder import FolderStore
from featx.store.native import reader
from featx.store.reader import StoreReader
from tests.conftest import absent
from tests.forked import in_child
from tests.store_oracle import PROVENANCE, make_store, names, record_of, write_missing

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = (
    Field("object_ids", "int32"),
    Field("pooled", "bfloat16", (5,), "picture"),
    Field("halves", "float16", (3,)),
    Field("codes", "int8", (7,)),
    Field("flags", "uint8", (2, 3)),
    Field("seen", "int64", (), "picture"),
)


def schema_of(dtype: str, rows: int | None, dim: int = 77) -> Schema:
    return Schema((Field("features", dtype, (dim,)), Field("boxes", "float32", (4,)), *EXTRAS), rows=rows)


@pytest.fixture(autouse=True)
def compiled() -> None:
    if reader().module is None:
        absent(f"no compiled reader of stores: {reader().reason}", "FEATX_REQUIRE_NATIVE")


@pytest.fixture(params=["plain", "avx2", "avx512"])
def level(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every instruction set that this processor has."""
    before = reader().level
    try:
        reader().module.level(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield
    reader().module.level(before)


@pytest.fixture(scope="module", params=["lmdb", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


CASES = [("float16", 36), ("float16", None), ("bfloat16", None), ("int8", 9), ("int8", None), ("float32", None)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def store(request: pytest.FixtureRequest, backend: str, tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    dtype, rows = request.param
    path = make_store(tmp_path_factory.mktemp("s") / "s", backend, 40, parts=3, schema=schema_of(dtype, rows))
    opened = open_store(path)
    assert isinstance(opened, FolderStore)
    return opened


def tensors(batch: RecordBatch) -> dict[str, torch.Tensor]:
    own = {name: getattr(batch, name) for name in ("features", "boxes", "mask", "sizes")}
    return own | {f"extra.{name}": tensor for name, tensor in batch.extra.items()}


def assert_same(a: RecordBatch, b: RecordBatch) -> None:
    assert a.keys == b.keys
    left, right = tensors(a), tensors(b)
    assert list(left) == list(right)
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        assert torch.equal(bits(left[name]), bits(right[name])), name


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8) if tensor.numel() else torch.tensor(tensor.shape)


def expected(store: StoreReader, keys: Sequence[str], rows: int) -> dict[str, Array]:
    """The batch by numpy alone, from records read one by one."""
    records = [store[key] for key in keys]

    def padded(arrays: list[Array]) -> Array:
        out = np.zeros((len(arrays), rows, *arrays[0].shape[1:]), arrays[0].dtype)
        for place, array in zip(out, arrays, strict=True):
            place[: len(array)] = array
        return out

    made = {
        "features": padded([record.features.astype(np.float32) for record in records]),
        "boxes": padded([record.boxes for record in records]),
        "mask": np.array([[row < record.count for row in range(rows)] for record in records]),
        "sizes": np.array([record.size for record in records], np.float32),
    }
    for field in store.schema.extras:
        arrays = [record.array(field.name) for record in records]
        made[f"extra.{field.name}"] = padded(arrays) if field.per == "region" else np.stack(arrays)
    return made


def plain(store: StoreReader, *arguments: Any, **options: Any) -> RecordBatch:
    """The same batch, record by record in Python."""
    return StoreReader.get_batch(store, *arguments, **options)


def some(store: StoreReader) -> list[str]:
    """Keys of all parts, out of order, one of them twice."""
    keys = list(store)
    return [*keys[::-2], keys[3], *keys[1::2]]


@pytest.mark.usefixtures("level")
def test_a_batch_is_what_reading_record_by_record_gives(store: FolderStore) -> None:
    keys = some(store)
    batch = store.get_batch(keys)
    found, rows = tensors(batch), int(store.row_counts(keys)[:, 0].max())
    for name, array in expected(store, keys, rows).items():
        np.testing.assert_array_equal(found[name].numpy(), array, err_msg=name, strict=True)
    assert_same(batch, plain(store, keys))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("boxes", ["pixels", "unit"])
@pytest.mark.parametrize("dtype", ["float32", "stored"])
@pytest.mark.parametrize("fields", [None, [], ["codes", "object_ids"]], ids=str)
def test_dtype_boxes_and_fields_are_as_in_plain_python(
    store: FolderStore, boxes: str, dtype: str, fields: list[str] | None
) -> None:
    keys = some(store)
    batch = store.get_batch(keys, boxes=boxes, dtype=dtype, fields=fields)
    assert_same(batch, plain(store, keys, boxes=boxes, dtype=dtype, fields=fields))
    stored = store.schema.fields[0].dtype
    assert batch.features.dtype == getattr(torch, stored if dtype == "stored" and stored != "int8" else "float32")
    assert list(batch.extra) == [f.name for f in EXTRAS if fields is None or f.name in fields]
    if boxes == "unit":
        size = batch.sizes.numpy()[:, None, [1, 0, 1, 0]]
        np.testing.assert_array_equal(batch.boxes.numpy(), store.get_batch(keys).boxes.numpy() / size)


@pytest.mark.parametrize("dtype", ["float32", "stored"])
def test_a_buffer_is_overwritten_whole_and_views_of_it_are_returned(store: FolderStore, dtype: str) -> None:
    keys = some(store)
    rows = int(store.row_counts(keys)[:, 0].max()) + 5
    out, other = (store.buffer(len(keys) + 2, rows, dtype=dtype) for _ in range(2))
    for buffer, filling in ((out, 255), (other, 7)):
        for tensor in tensors(buffer).values():
            tensor.view(torch.uint8).fill_(filling if tensor.dtype != torch.bool else 1)
    for chosen in (keys, keys[:3], [], keys[::-1]):
        batch = store.get_batch(chosen, out)
        assert_same(batch, plain(store, chosen, other))
        assert batch.keys == tuple(chosen)
        for name, tensor in tensors(batch).items():
            assert tensor.data_ptr() == tensors(out)[name].data_ptr() or not len(chosen)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_any_number_of_threads_gives_the_same_bits(store: FolderStore, threads: int) -> None:
    keys = some(store) * 3
    assert store._gather is not None
    before, store._gather.threads = store._gather.threads, threads
    try:
        assert_same(store.get_batch(keys), plain(store, keys))
    finally:
        store._gather.threads = before


def test_large_batches_are_streamed_past_the_caches_with_the_same_bits(tmp_path: Path, backend: str) -> None:
    for dtype in ("float16", "bfloat16", "int8", "float32"):
        path = make_store(tmp_path / dtype, backend, 24, schema=schema_of(dtype, 36, 2047))
        with open_store(path) as store:
            keys = list(store) * 2
            for asked in ("float32", "stored"):
                assert_same(store.get_batch(keys, dtype=asked), plain(store, keys, dtype=asked))


def test_every_float16_becomes_the_float32_of_the_same_value(tmp_path: Path) -> None:
    schema = Schema((Field("features", "float16", (2048,)), Field("boxes", "float32", (4,))))
    every = np.arange(2**16, dtype=np.uint16)
    finite = every[(every & 0x7C00) != 0x7C00].view(np.float16)
    features = np.concatenate([finite, finite[:2048]])[: 31 * 2048].reshape(31, 2048)
    create_store(tmp_path / "s", "lmdb", schema, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", Record(features, np.zeros((31, 4), np.float32), (5, 5)), 0)
        writer.finish()
    before = reader().level
    try:
        for level in ("plain", "avx2", "avx512")[: 1 + ("plain", "avx2", "avx512").index(before)]:
            reader().module.level(level)
            read = open_store(tmp_path / "s").get_batch(["a"]).features[0]
            np.testing.assert_array_equal(read.numpy().view(np.uint32), features.astype(np.float32).view(np.uint32))
    finally:
        reader().module.level(before)


@pytest.mark.parametrize("rows", [None, 9])
def test_keys_of_all_kinds_are_found(tmp_path: Path, backend: str, rows: int | None) -> None:
    schema = schema_of("float16", rows)
    keys = ["a", "Zürich", "Zu\u0308rich 2", "日本.jpg", "x" * 400, "y" * 401, "long " + "é" * 300, "~", "sp ace"]
    create_store(tmp_path / "s", backend, schema, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        for ordinal, key in enumerate(keys):
            writer.put(key, record_of(key, schema), ordinal)
        writer.finish()
    with open_store(tmp_path / "s") as store:
        assert_same(store.get_batch(keys), plain(store, keys))
        for strange in ("Z\u0000", "", "x" * 399, "日本"):
            with pytest.raises(UsageError):
                store.get_batch([keys[0], strange])


@pytest.mark.parametrize("rows", [None, 9])
def test_an_open_store_is_gathered_from_sealed_files_and_from_its_log(
    tmp_path: Path, backend: str, rows: int | None
) -> None:
    schema = schema_of("float16", rows)
    create_store(tmp_path / "s", backend, schema, PROVENANCE, parts=2)
    every = list(enumerate(names(30)))
    with open_part(tmp_path / "s", 0) as writer:
        write_missing(writer, every[:15])
        writer.finish()
    with open_part(tmp_path / "s", 1) as writer:
        write_missing(writer, every[15:])
    with open_store(tmp_path / "s", partial=True) as store:
        keys = list(store)[::-1]
        assert len(keys) == 26
        assert_same(store.get_batch(keys), plain(store, keys))
        out = store.buffer(len(keys), 25)
        assert_same(store.get_batch(keys, out, boxes="unit"), plain(store, keys, store.buffer(30, 25), boxes="unit"))
        with pytest.raises(KeyNotFound, match="nobody"):
            store.get_batch([keys[0], "nobody"])


def test_rows_and_counts_come_from_headers(store: FolderStore) -> None:
    keys = some(store)
    read = [store[key] for key in keys]
    np.testing.assert_array_equal(store.row_counts(keys), [(len(record.features), record.count) for record in read])
    np.testing.assert_array_equal(store.row_counts(keys), StoreReader.row_counts(store, keys))
    assert store.row_counts([]).shape == (0, 2)


def wrong(store: StoreReader, change: str) -> RecordBatch:
    out = store.buffer(4, 20, fields=["object_ids"])
    if change == "dtype":
        return RecordBatch((), out.features.double(), out.boxes, out.mask, out.sizes, out.extra)
    if change == "strided":
        return RecordBatch(
            (), out.features, out.boxes.permute(0, 2, 1).contiguous().permute(0, 2, 1), out.mask, out.sizes
        )
    if change == "mask":
        return RecordBatch((), out.features, out.boxes, out.mask[:, :3], out.sizes, out.extra)
    if change == "field":
        return RecordBatch((), out.features, out.boxes, out.mask, out.sizes, {"nothing": out.sizes})
    if change == "device":
        return RecordBatch((), out.features, out.boxes, out.mask, out.sizes.to("meta"), out.extra)
    assert change == "flat"
    return RecordBatch((), out.features.flatten(), out.boxes, out.mask, out.sizes, out.extra)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("dtype", r"features is torch.float64 \[4, 20, 77\]"),
        ("strided", "boxes is .*not contiguous"),
        ("mask", r"mask is torch.bool \[4, 3\]"),
        ("field", "no field 'nothing'"),
        ("device", "sizes is .* on meta"),
        ("flat", "features are"),
    ],
)
def test_an_out_that_does_not_fit_is_refused_by_name(tmp_path: Path, change: str, said: str) -> None:
    store = open_store(make_store(tmp_path / "s", "lmdb", 6, schema=schema_of("float16", None)))
    keys = list(store)[:2]
    for get in (store.get_batch, lambda *given: plain(store, *given)):
        with pytest.raises(UsageError, match=said):
            get(keys, wrong(store, change))


def test_out_with_too_few_places_or_rows_is_refused(tmp_path: Path) -> None:
    store = open_store(make_store(tmp_path / "s", "lmdb", 6, schema=schema_of("float16", None)))
    keys = list(store)
    for get in (store.get_batch, lambda *given: plain(store, *given)):
        with pytest.raises(UsageError, match="4 places, 6 records"):
            get(keys, store.buffer(4, 20))
        with pytest.raises(UsageError, match="rows, out has room for 3"):
            get(keys[:2], store.buffer(4, 3))
    with pytest.raises(UsageError, match="say for how many rows"):
        store.buffer(4)
    fixed = open_store(make_store(tmp_path / "fixed", "lmdb", 6, schema=schema_of("float16", 9)))
    with pytest.raises(UsageError, match="room for 3 rows, records have 9"):
        fixed.get_batch(list(fixed), fixed.buffer(6, 3))
    for options in ({"boxes": "cm"}, {"dtype": "float64"}, {"fields": ["nothing"]}):
        with pytest.raises(UsageError):
            store.get_batch(keys, **options)  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="pinned"):
            store.buffer(4, 20, pin=True)


def test_a_field_may_have_the_name_of_a_tensor_of_the_batch(tmp_path: Path) -> None:
    schema = Schema((Field("features", "float16", (8,)), Field("boxes", "float32", (4,)), Field("mask", "uint8", (9,))))
    store = open_store(make_store(tmp_path / "s", "lmdb", 6, schema=schema))
    batch = store.get_batch(list(store))
    assert batch.mask.dtype == torch.bool
    assert torch.equal(batch.extra["mask"][0, :12], torch.from_numpy(store[batch.keys[0]].mask.copy())[:12])
    assert_same(store.get_batch(list(store), store.buffer(9, 30)), plain(store, list(store), store.buffer(9, 30)))


def test_forked_children_and_the_parent_gather_at_once(tmp_path: Path, backend: str) -> None:
    store = open_store(make_store(tmp_path / "s", backend, 40, parts=2, schema=schema_of("float16", 36, 512)))
    keys = list(store) * 4
    right = plain(store, keys).features.numpy()

    def check() -> None:
        for _ in range(5):  # compared by numpy: torch's own threads do not survive a fork
            assert np.array_equal(store.get_batch(keys).features.numpy(), right)

    check()
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(in_child(check))  # and its child
        children.append(child)
    check()
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


def test_threads_of_python_gather_from_one_store_at_once(tmp_path: Path, backend: str) -> None:
    store = open_store(make_store(tmp_path / "s", backend, 40, parts=2, schema=schema_of("float16", None)))
    keys = list(store)
    right = plain(store, keys)
    with ThreadPoolExecutor(6) as pool:
        for batch in pool.map(lambda _: store.get_batch(keys), range(60)):
            assert_same(batch, right)


def test_a_pickled_or_closed_store_gathers_again(tmp_path: Path, backend: str) -> None:
    with open_store(make_store(tmp_path / "s", backend, 9), checksums="always") as store:
        keys = list(store)
        first = store.get_batch(keys)
        again = pickle.loads(pickle.dumps(store))
        assert again.checksums == "always"
        assert_same(again.get_batch(keys), first)
    assert_same(store.get_batch(keys), first)


def test_without_the_compiled_reader_the_same_batches_come(tmp_path: Path, backend: str) -> None:
    path = make_store(tmp_path / "s", backend, 20, parts=2, schema=schema_of("bfloat16", None))
    store = open_store(path)
    torch.save(tensors(store.get_batch(list(store), boxes="unit")), tmp_path / "batch.pt")
    code = (
        "import sys, torch\nfrom featx.store import open_store\nfrom featx.store.native import reader\n"
        "assert reader().module is None and 'FEATX_NATIVE' in reader().reason\n"
        "store, right = open_store(sys.argv[1]), torch.load(sys.argv[2])\n"
        "keys = list(store)\n"
        "batch = store.get_batch(keys, store.buffer(30, int(store.row_counts(keys).max())), boxes='unit')\n"
        "assert torch.equal(batch.features, right['features']) and torch.equal(batch.boxes, right['boxes'])\n"
        "assert all(torch.equal(tensor, right['extra.' + name]) for name, tensor in batch.extra.items())\n"
    )
    environment = os.environ | {"FEATX_NATIVE": "0"}
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "batch.pt"], cwd=ROOT, env=environment, check=True)


def test_a_missing_and_a_damaged_record_are_named(tmp_path: Path, backend: str) -> None:
    path = make_store(tmp_path / "s", backend, 20, parts=2)
    keys = list(open_store(path))
    key = keys[7]
    features = record_of(key).features.tobytes()
    (file,) = (f for f in path.rglob("records*") if features in f.read_bytes())
    damaged = bytearray(file.read_bytes())
    damaged[damaged.index(features) + 100] ^= 1
    file.write_bytes(damaged)
    store = open_store(path)
    for chosen in (keys, keys[::-1], [key], [key] * 5):
        with pytest.raises(StoreDamaged, match=f"{key}.*checksum.*{file.name}"):
            store.get_batch(chosen)
    others = [name for name in keys if name != key]
    assert_same(store.get_batch(others), plain(store, others))
    with pytest.raises(KeyNotFound, match="'nobody'"):
        store.get_batch([others[0], "nobody", key])
