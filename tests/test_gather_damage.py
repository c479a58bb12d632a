"""What must not be read is refused by the compiled reader exactly where it is by the codec, and nothing crashes."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from featx.codec import Header, encode, layout, peek, unpack
from featx.errors import FeatxError, KeyNotFound, StoreDamaged, StoreError, UsageError
from featx.schema import Field, Schema
from featx.store import open_store
from featx.store.base import Shard
from featx.store.gather import Gather, gatherable
from featx.store.native import reader
from featx.store.reader import Checksums
from tests.conftest import absent
from tests.store_oracle import FIXED as FIXED_ROWS
from tests.store_oracle import KINDS, SCHEMA, make_store, record_of
from tests.test_gather import assert_same, plain, schema_of
from tests.test_store_damage import data_file, fill, survives

SMALL = Schema((Field("features", "float16", (3,)), Field("boxes", "float32", (4,)), Field("ids", "int32")))
FIXED = Schema(SMALL.fields, rows=4)
KEY = b"a picture"


@pytest.fixture(autouse=True)
def compiled() -> None:
    if reader().module is None:
        absent(f"no compiled reader of stores: {reader().reason}", "FEATX_REQUIRE_NATIVE")


@pytest.mark.parametrize("level", ["plain", "avx2", "avx512"])
def test_the_hash_is_xxh3_64_for_every_length_seed_and_cut(level: str) -> None:
    module, rng, before = reader().module, random.Random(3), reader().level
    try:
        module.level(level)
    except ValueError as error:
        pytest.skip(str(error))
    try:
        for size in (*range(1100), *range(2040, 2060), 4096, 65537, 147_456):
            data, seed = rng.randbytes(size), rng.choice((0, 1, rng.getrandbits(64)))
            cuts = sorted(rng.randrange(size + 1) for _ in range(rng.randrange(6)))
            pieces = tuple(data[a:b] for a, b in zip([0, *cuts], [*cuts, size], strict=True))
            right = xxhash.xxh3_64_intdigest(data, seed)
            assert module.xxh3_64((data,), seed) == module.xxh3_64(pieces, seed) == right, (size, cuts)
    finally:
        module.level(before)


class Held(Shard):
    """Records in memory, handed out whatever their bytes are."""

    def __init__(self, records: Mapping[bytes, bytes]) -> None:
        self.path, self.frame, self.records = Path("memory"), "", records

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, key: object) -> bool:
        return key in self.records

    def get(self, key: bytes) -> bytes | None:
        return self.records.get(key)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.records)

    def headers(self) -> Iterator[tuple[bytes, Header]]:
        return ((key, peek(record, key)) for key, record in self.records.items())

    def close(self) -> None: ...


def refusal(record: bytes, schema: Schema, checksums: Checksums) -> str | None:
    """The message with which the compiled reader refuses a record, None when it reads it."""
    gather = Gather(schema, [Held({KEY: record})], checksums)
    try:
        batch = gather.batch([KEY.decode()], None, "float32", "pixels", None, lambda key: KeyNotFound(key))
    except FeatxError as error:
        return error.message
    head, arrays = unpack(record, schema, KEY, verify=False)
    np.testing.assert_array_equal(batch.features[0].numpy().view("u4"), arrays[0].astype("f4").view("u4"))
    np.testing.assert_array_equal(batch.boxes[0].numpy().view("u4"), arrays[1].view("u4"))
    assert batch.mask[0].tolist() == [row < head.count for row in range(head.rows)]
    return None


def right_refusal(record: bytes, schema: Schema, checksums: Checksums) -> str | None:
    try:
        unpack(record, schema, KEY, verify=checksums == "always")
    except FeatxError as error:
        return error.message
    return None


def sound(schema: Schema, rows: int) -> bytes:
    return encode(record_of(KEY.decode(), schema, rows), schema, KEY, 7)


FIELDS = st.sampled_from([(0, "4s"), (4, "<H"), (6, "<H"), (8, "<I"), (12, "<I"), (16, "<I"), (24, "<Q"), (40, "<Q")])


@given(st.data())
def test_any_bytes_are_refused_exactly_when_the_codec_refuses_them(data: st.DataObject) -> None:
    schema = data.draw(st.sampled_from([SMALL, FIXED]))
    record = bytearray(sound(schema, schema.rows or data.draw(st.integers(0, 9))))
    for _ in range(data.draw(st.integers(0, 2))):
        place, form = data.draw(FIELDS)
        if form == "4s":
            struct.pack_into(form, record, place, data.draw(st.binary(min_size=4, max_size=4)))
        else:
            most = 2 ** (8 * struct.calcsize(form)) - 1
            struct.pack_into(form, record, place, data.draw(st.one_of(st.integers(0, 12), st.integers(0, most))))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(record) - 1))
        record[place] ^= 1 << data.draw(st.integers(0, 7))
    length = data.draw(st.one_of(st.just(len(record)), st.integers(0, len(record) + 40)))
    changed = bytes(record[:length]).ljust(length, b"\0")
    for checksums in ("always", "once", "never"):
        said = refusal(changed, schema, checksums)
        right = right_refusal(changed, schema, "never" if checksums == "never" else "always")
        assert (said is None) == (right is None)
        assert said is None or right in said


@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    for front in (b"", b"FXRC\1\0\0\0"):
        said, right = (ask(front + noise, SMALL, "never") for ask in (refusal, right_refusal))
        assert (said is None) == (right is None)


def test_rows_that_no_memory_could_hold_are_refused_before_any_is_asked_for() -> None:
    wide = Schema((Field("features", "float32", (2**30,)), Field("boxes", "float32", (4,))))
    for rows in (1, 2**20, 2**32 - 1):
        record = bytearray(sound(SMALL, 3))
        struct.pack_into("<II", record, 8, rows, 0)
        assert "rows make" in str(refusal(bytes(record), wide, "never"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_by_always_the_first_time_by_once_and_not_by_never(tmp_path: Path, kind: str) -> None:
    backend, schema = KINDS[kind]
    path = make_store(tmp_path / "s", backend, 20, schema=schema)
    keys = list(open_store(path))
    key, other = keys[4], keys[5]
    file = data_file(path)
    features = record_of(key, schema).features.tobytes()
    place = file.read_bytes().index(features) + 33

    def flip() -> None:
        with file.open("r+b") as handle:  # in place: the same file stays mapped
            handle.seek(place)
            byte = handle.read(1)[0]
            handle.seek(place)
            handle.write(bytes([byte ^ 1]))

    stores = {policy: open_store(path, checksums=policy) for policy in ("always", "once", "never")}  # type: ignore[arg-type]
    fresh = open_store(path)
    stores["once"].get_batch([key])
    flip()
    with pytest.raises(StoreDamaged, match=key):
        stores["always"].get_batch([other, key])
    with pytest.raises(StoreDamaged, match=key):
        fresh.get_batch([key])
    with pytest.raises(StoreDamaged, match=key):  # a refusal is not remembered as a success
        fresh.get_batch([key])
    for policy in ("once", "never"):
        assert not np.array_equal(stores[policy].get_batch([key]).features[0], record_of(key, schema).features)
    assert not np.array_equal(stores["never"][key].features, record_of(key, schema).features)
    with pytest.raises(StoreDamaged, match=key):
        stores["once"][key]  # a single record is always checked
    flip()
    assert_same(fresh.get_batch(keys), plain(fresh, keys))
    with pytest.raises(UsageError, match="often"):
        open_store(path, checksums="often")  # type: ignore[arg-type]


@pytest.mark.parametrize(("backend", "rows"), [("lmdb", None), ("hdf5", None), ("hdf5", 16)])
def test_flipped_bits_anywhere_never_give_a_wrong_batch_nor_a_dead_process(
    tmp_path: Path, backend: str, rows: int | None
) -> None:
    schema = schema_of("int8", rows, 30)
    path = fill(tmp_path / "s", backend, schema, 16)
    file, rng = data_file(path), random.Random(8)
    whole, keys = file.read_bytes(), list(open_store(path))
    right = open_store(path).get_batch(keys)

    def check() -> None:
        refused = 0
        for _ in range(200):
            damaged = bytearray(whole)
            for _ in range(rng.choice((1, 1, 5))):
                damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            for policy in ("once", "never"):
                try:
                    store = open_store(path, checksums=policy)  # type: ignore[arg-type]
                    batch = store.get_batch(keys)
                except (StoreError, KeyNotFound):
                    refused += 1
                else:
                    if policy == "once":
                        assert_same(batch, right)
        assert refused > 40

    survives(check)


@pytest.mark.parametrize("schema", [SCHEMA, FIXED_ROWS], ids=["arrays", "in place"])
def test_wrong_numbers_in_an_hdf5_index_never_give_a_wrong_batch(tmp_path: Path, schema: Schema) -> None:
    h5py = pytest.importorskip("h5py")
    path = fill(tmp_path / "s", "hdf5", schema, 12)
    file, keys = data_file(path), list(open_store(path))
    whole, right = file.read_bytes(), open_store(path).get_batch(keys)

    def check() -> None:
        for name in ("offset" if schema.rows else "start", "count", "size", "ordinal", "checksum"):
            for value in (0, 7, 9999, 2**31, 2**32 - 1, 2**60, -5):
                with h5py.File(file, "r+") as handle:
                    handle[name][3] = np.int64(value).astype(handle[name].dtype)
                for policy in ("always", "never"):
                    try:
                        batch = open_store(path, checksums=policy).get_batch(keys)  # type: ignore[arg-type]
                    except StoreError:
                        continue
                    if policy == "always":
                        assert_same(batch, right)
                file.write_bytes(whole)

    survives(check)


@pytest.mark.parametrize(
    "fields",
    [
        (Field("features", "float16", (2**40,)), Field("boxes", "float32", (4,))),
        (Field("features", "float16", (3,)), Field("boxes", "float32", (4,)), Field("x", "int64", (2**20, 2**20))),
    ],
    ids=str,
)
def test_a_schema_of_no_possible_record_is_not_gathered(fields: tuple[Field, ...]) -> None:
    assert not gatherable(Schema(fields))
    assert gatherable(SMALL)
    assert layout(SMALL, 1)[1] % 16 == 0


@pytest.mark.parametrize("kind", KINDS)
def test_opening_reads_no_keys_and_that_one_is_missing_is_said_only_of_sound_ones(tmp_path: Path, kind: str) -> None:
    backend, schema = KINDS[kind]
    path = fill(tmp_path / "s", backend, schema, 40)
    file, keys = data_file(path), list(open_store(path))
    whole, last = bytearray(file.read_bytes()), keys[-1].encode()
    place = whole.rindex(last)  # in the tree, or among the keys
    whole[place + len(last) - 1] ^= 4
    file.write_bytes(whole)
    store = open_store(path)
    assert len(store) == 40
    assert_same(store.get_batch(keys[:5]), plain(store, keys[:5]))
    for ask in (
        lambda: store.get_batch([keys[0], keys[-1]]),
        lambda: store.row_counts(["nobody"]),
        lambda: "nobody" in store,
        lambda: store.find(b"nobody"),
        lambda: list(store),
        lambda: list(store.keys("source")),
    ):
        with pytest.raises(StoreDamaged, match=file.name):
            ask()
    assert store[keys[3]] == record_of(keys[3], schema)
