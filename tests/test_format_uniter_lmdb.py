"""UNITER's LMDB: msgpack as its packages write it, compressed npz, row counts beside it; and back to its own reader."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
import msgpack
import msgpack_numpy
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featx.errors import FeatxError, UsageError
from featx.formats import get
from featx.formats.base import Item
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.values import msgpack as msgpacked
from featx.schema import Array
from featx.store import StoreReader, open_store
from tests.foreign import import_tsv

FORM = get("uniter-lmdb")
SIZE = (90, 120)


def dump(seed: int, rows: int = 3, dim: int = 8, **changes: Any) -> dict[str, Array]:
    """What load_npz of convert_imgdir.py gives: float16, rows by falling confidence."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((rows, 2, 2)), axis=1).reshape(rows, 4)
    places = np.concatenate([corners, corners[:, 2:] - corners[:, :2]], 1).astype(np.float16)
    made = {
        "norm_bb": places, "features": rng.random((rows, dim)).astype(np.float16),
        "conf": np.sort(rng.random((rows, 1)), axis=0)[::-1].astype(np.float16),
        "soft_labels": rng.random((rows, 5)).astype(np.float16),
    }  # fmt: skip
    return {name: array for name, array in {**made, **changes}.items() if array is not None}


def packed(values: Any) -> bytes:
    """As msgpack is once msgpack_numpy.patch() was called."""
    return bytes(msgpack.packb(values, use_bin_type=True, default=msgpack_numpy.encode))


def compressed(values: dict[str, Array]) -> bytes:
    """np.savez_compressed(**values, allow_pickle=True) of numpy 1: the flag is an array, too."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {**values, "allow_pickle": np.array(True)}.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    return out.getvalue()


def made(path: Path, values: dict[str, Any], encode: Any = packed) -> Path:
    path.parent.mkdir(exist_ok=True)
    env = lmdb.open(str(path), map_size=1 << 24)
    txn = env.begin(write=True)
    for number, (name, value) in enumerate(values.items()):
        txn.put(name.encode(), value if isinstance(value, bytes) else encode(value))
        if number % 1000 == 0:
            txn.commit()
            txn = env.begin(write=True)
    txn.put(b"__keys__", json.dumps(list(values)).encode())
    txn.commit()
    env.close()
    return path


@pytest.fixture
def told(tmp_path: Path) -> Options:
    """Options with the size of every picture that these tests make."""
    path = tmp_path / "sizes.csv"
    path.write_text("".join(f"{name},90,120\n" for name in ("b", "a", "c", *map(str, range(60)))))
    return Options(sizes=str(path))


def read(path: Path, options: Options, start: int = 0) -> list[Item]:
    return list(FORM.read(path, options, start))


@pytest.mark.parametrize("kind", ["feat_th0.2_max100_min10", "feat_numbb36_compressed", "all"])
def test_what_the_converter_writes_is_read(tmp_path: Path, told: Options, kind: str) -> None:
    pictures = {
        "b.npz": dump(1),
        "a.npz": dump(2, 5),
        "c.npz": dump(3, soft_labels=None) | {"soft_labels": dump(3)["soft_labels"]},
    }
    path = made(tmp_path / "out" / kind, pictures, compressed if "compressed" in kind else packed)
    assert FORM.detect(path)
    items = read(path, told)
    assert [(item.key, item.problem) for item in items] == [("b", ""), ("a", ""), ("c", "")]
    for item, values in zip(items, pictures.values(), strict=True):
        record = item.record
        assert record is not None
        assert record.size == SIZE
        assert record.features.dtype == np.float16
        assert np.array_equal(record.features, values["features"])
        assert np.array_equal(
            record.boxes, values["norm_bb"][:, :4].astype(np.float32) * np.float32([120, 90, 120, 90])
        )
        assert np.array_equal(record.object_confs, values["conf"][:, 0].astype(np.float32))
        assert np.array_equal(record.class_probs, values["soft_labels"])
    assert read(path, told, 1) == items[1:]
    assert FORM.survey(path, Options()).total == 3


def test_rows_are_cut_to_the_counts_beside_the_folder(tmp_path: Path, told: Options) -> None:
    path = made(tmp_path / "out" / "feat_th0.2_max100_min10", {"b.npz": dump(1, 5), "a.npz": dump(2, 5)})
    (tmp_path / "out" / "nbb_th0.2_max100_min10.json").write_text('{"b.npz": 2, "a.npz": 9}')
    assert [len(item.record or ()) for item in read(path, told)] == [2, 5]
    (tmp_path / "out" / "nbb_th0.2_max100_min10.json").write_text("{")
    with pytest.raises(UsageError, match="nbb_th0"):
        read(path, told)


def test_without_sizes_nothing_can_be_read_and_a_missing_one_is_a_problem(tmp_path: Path, told: Options) -> None:
    path = made(tmp_path / "all", {"b.npz": dump(1), "unknown.npz": dump(2)})
    with pytest.raises(UsageError, match="--sizes"):
        read(path, Options())
    good, bad = read(path, told)
    assert good.record is not None
    assert "'unknown'" in bad.problem


BAD: dict[str, tuple[Any, str]] = {
    "a picture that the converter could not read": ({}, "holds nothing"),
    "no boxes": (dump(1, norm_bb=None), "no norm_bb"),
    "other rows": (dump(1, norm_bb=dump(1, 4)["norm_bb"]), "norm_bb has shape"),
    "other confidences": (dump(1, conf=np.zeros((4, 1), np.float16)), "conf"),
    "other soft labels": (dump(1, soft_labels=np.zeros((4, 5), np.float16)), "soft_labels"),
    "a cut message": (packed(dump(1))[:-7], "reach beyond"),
    "a long message": (packed(dump(1)) + b"\xc0", "follow the message"),
    "an object array": (packed({"features": {b"nd": True, b"type": "|O", b"shape": [1], b"data": b"x" * 8}}), "'|O'"),
    "a shape that lies": (
        packed({"features": {b"nd": True, b"type": "<f2", b"shape": [9, 9], b"data": b"x"}}),
        "1 bytes",
    ),
    "a cut npz": (compressed(dump(1))[:-30], "zip"),
    "an npz of pickles": (compressed(dump(1) | {"features": np.array([None])}), "Object arrays"),
    "text": (b"hello", ""),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_value_is_told_with_its_key_and_the_rest_is_read(tmp_path: Path, told: Options, case: str) -> None:
    spoilt, said = BAD[case]
    items = read(made(tmp_path / "all", {"a.npz": dump(1), "b.npz": spoilt, "c.npz": dump(3)}), told)
    assert [(item.key, item.record is None) for item in items] == [("a", False), ("b", True), ("c", False)]
    assert items[1].problem
    assert said in items[1].problem
    assert items[1].place.startswith("key 'b.npz', byte ")


def newer(archive: bytes) -> bytes:
    """An archive that says it needs version 14.6 of the zip format to be read."""
    made = bytearray(archive)
    for mark, place in ((b"PK\3\4", 4), (b"PK\1\2", 6)):
        at = made.index(mark) + place
        made[at : at + 2] = b"\x92\x00"
    return bytes(made)


def encrypted(archive: bytes) -> bytes:
    """An archive whose first member says that it is encrypted."""
    made = bytearray(archive)
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        made[made.index(mark) + place] |= 1
    return bytes(made)


@pytest.mark.parametrize(("spoil", "said"), [(newer, "version 14.6"), (encrypted, "encrypted")])
def test_an_archive_that_cannot_be_opened_is_a_problem(tmp_path: Path, told: Options, spoil: Any, said: str) -> None:
    pictures = {"a.npz": compressed(dump(1)), "b.npz": spoil(compressed(dump(2))), "c.npz": compressed(dump(3))}
    items = read(made(tmp_path / "all_compressed", pictures), told)
    assert [item.record is None for item in items] == [False, True, False]
    assert said in items[1].problem


SIGNALLING = {"<f2": 0x7D01, "<f4": 0x7F800001, "<f8": 0x7FF0000000000001}  # NaN that the processor complains about


@pytest.mark.parametrize("dtype", SIGNALLING)
@pytest.mark.parametrize("name", ["norm_bb", "features", "conf"])
def test_what_is_no_number_is_read_without_a_word_and_is_for_the_store_to_refuse(
    tmp_path: Path, told: Options, dtype: str, name: str
) -> None:
    shape = dump(1)[name].shape
    nan = np.full(shape, SIGNALLING[dtype], dtype.replace("f", "u")).view(dtype)
    most = np.full(shape, np.finfo(dtype).max, dtype)
    pictures = {"a.npz": dump(1, **{name: nan}), "b.npz": dump(1, **{name: most}), "c.npz": dump(1)}
    items = read(made(tmp_path / "all", pictures), told)
    field = {"norm_bb": "boxes", "features": "features", "conf": "object_confs"}[name]
    values = [item.record.array(field) for item in items if item.record is not None]
    assert np.isnan(values[0]).all()
    assert (values[1] > 6e4).all()
    assert np.isfinite(values[2]).all()


def test_a_file_that_was_cut_keeps_its_whole_records(tmp_path: Path, told: Options) -> None:
    pictures = {f"{n}.npz": dump(n, 4, 900) for n in range(60)}
    path = made(tmp_path / "all", pictures)
    whole = (path / "data.mdb").read_bytes()
    for share in (0.5, 0.9):
        (path / "data.mdb").write_bytes(whole[: int(len(whole) * share)])
        items = read(path, told)
        assert any(item.problem for item in items)
        for item in items:
            if item.record:
                assert np.array_equal(item.record.features, pictures[f"{item.key}.npz"]["features"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=40) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=30,
)


@given(VALUES)
def test_plain_values_are_packed_and_read_as_the_package_does(value: Any) -> None:
    message = msgpack.packb(value, use_bin_type=True)
    assert msgpacked.pack(value) == message
    assert msgpacked.unpack(message) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(message: bytes) -> None:
    with suppress(ValueError):
        msgpacked.unpack(message)


@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6))
def test_a_changed_message_is_read_or_an_error(changes: list[tuple[int, int]]) -> None:
    message = bytearray(packed(dump(1)))
    for place, value in changes:
        message[place % len(message)] = value
    with suppress(ValueError):
        msgpacked.unpack(bytes(message))


@pytest.fixture(scope="module")
def golden(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    folder = tmp_path_factory.mktemp("golden")
    import_tsv(shared / "golden" / "train2014_obj36.tsv", folder / "store")
    return open_store(folder / "store")


def peer_reads(path: Path, name: str, nbb: int) -> dict[str, Array]:
    """As DetectFeatLmdb.get_dump and __getitem__ of data/data.py: unpack, slice to nbb rows, float32."""
    env = lmdb.open(str(path), readonly=True, create=False, readahead=False)
    with env.begin(buffers=True) as txn:
        assert name in json.loads(bytes(txn.get(b"__keys__")).decode("utf-8"))
        value = bytes(txn.get(name.encode("utf-8")))
    env.close()
    if path.name.endswith("_compressed"):
        with np.load(io.BytesIO(value), allow_pickle=True) as loaded:
            found = {key: loaded[key] for key in loaded.files}
    else:
        found = msgpack.unpackb(value, object_hook=msgpack_numpy.decode, strict_map_key=False, raw=False)
    return {key: array[:nbb] for key, array in found.items()}


@pytest.mark.parametrize("kind", ["feat_th0.2_max100_min10", "feat_numbb36_compressed"])
def test_the_published_features_go_through_and_the_peers_reader_finds_them(
    golden: StoreReader, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / kind
    keys = list(golden.keys("source"))
    assert FORM.write(Records(golden), path, Options()) == 10
    counts = tmp_path / "nbb_th0.2_max100_min10.json"
    assert counts.exists() == ("th" in kind)
    if counts.exists():
        assert json.loads(counts.read_text()) == {f"{key}.npz": 36 for key in keys}
    sizes = tmp_path / "sizes.json"
    sizes.write_text(json.dumps({key: golden[key].size for key in keys}))
    items = read(path, Options(sizes=str(sizes)))
    assert [item.key for item in items] == keys
    for item in items:
        record, peer = golden[item.key], peer_reads(path, f"{item.key}.npz", 36)
        order = np.argsort(-record.object_confs, kind="stable")
        (height, width), boxes = record.size, record.boxes[order]
        assert peer["features"].dtype == peer["norm_bb"].dtype == np.float16
        assert (np.diff(peer["conf"][:, 0].astype(np.float32)) <= 0).all()
        assert np.array_equal(peer["features"], record.features[order].astype(np.float16))
        expected = np.stack(
            [boxes[:, 0] / width, boxes[:, 1] / height, boxes[:, 2] / width, boxes[:, 3] / height,
             (boxes[:, 2] - boxes[:, 0]) / width, (boxes[:, 3] - boxes[:, 1]) / height], 1,
        )  # fmt: skip
        assert np.abs(peer["norm_bb"].astype(np.float32) - expected).max() <= 1 / 4096 + 1e-6
        back = item.record
        assert back is not None
        assert back.size == record.size
        assert np.array_equal(back.features, record.features[order].astype(np.float16))
        assert (np.abs(back.boxes - boxes) <= np.float32([width, height, width, height]) / 4096 + 1e-3).all()
        assert np.abs(back.object_confs - record.object_confs[order]).max() <= 1 / 4096


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    folder = tmp_path_factory.mktemp("fuzz")
    plain = made(folder / "all", {f"{n}.npz": dump(n, 2, 40) for n in range(20)})
    zipped = made(folder / "all_compressed", {f"{n}.npz": dump(n, 2, 40) for n in range(20)}, compressed)
    (folder / "sizes.csv").write_text("".join(f"{n},90,120\n" for n in range(20)))
    return folder, *((path / "data.mdb").read_bytes() for path in (plain, zipped))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from([1, 2]),
    changes=st.lists(st.tuples(st.integers(0, 2**24), st.binary(min_size=1, max_size=6)), max_size=12),
)
def test_no_change_of_the_file_makes_more_than_a_problem(
    small: tuple[Path, bytes, bytes], which: int, changes: list[tuple[int, bytes]]
) -> None:
    folder, whole = small[0], small[which]
    file = bytearray(whole)
    for place, change in changes:
        file[place % len(file) : place % len(file) + len(change)] = change
    (folder / "data.mdb").write_bytes(file[: len(whole)])
    with suppress(FeatxError):
        for item in read(folder, Options(sizes=str(folder / "sizes.csv"))):
            assert (item.record is None) == bool(item.problem)
    with suppress(FeatxError):
        FORM.survey(folder, Options())
