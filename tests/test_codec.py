"""featx.codec: the bytes of FORMAT.md, and what happens to bytes that are not."""

from __future__ import annotations

import struct
import tracemalloc
import unicodedata
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featx.codec import checksum, decode, encode, layout, peek, store_key
from featx.errors import RecordError, StoreDamaged, StoreError, UsageError
from featx.record import Record
from featx.schema import Field, Schema
from tests.store_oracle import SCHEMA, record_of

KEY = b"COCO_val2014_000000000042"


def tiny_schema(dtype: str) -> Schema:
    fields = (
        Field("features", dtype, (3,)),
        Field("boxes", "float32", (4,)),
        Field("object_ids", "int32"),
        Field("tag", "uint8", (5,), "picture"),
    )
    return Schema(fields)


def tiny_record(dtype: str) -> Record:
    return Record(
        np.array([[0, 1, -2.5], [1.5, 65504, 0.25]], "float16" if dtype == "float16" else "float32"),
        np.array([[0, 1, 2, 3], [10.5, 20, 30, 40]], np.float32),
        (480, 640),
        1,
        {"object_ids": np.array([7, -1], np.int32), "tag": np.frombuffer(b"hello", np.uint8)},
    )


# The features, six numbers, as they stand in the file. 65504 is 0x7BFF in float16; bfloat16 rounds it to 65536.
FEATURES = {
    "float16": (struct.pack("<6e", 0, 1, -2.5, 1.5, 65504, 0.25), 4),
    "float32": (struct.pack("<6f", 0, 1, -2.5, 1.5, 65504, 0.25), 8),
    "bfloat16": (struct.pack("<6H", 0x0000, 0x3F80, 0xC020, 0x3FC0, 0x4780, 0x3E80), 4),
}
CHECKSUMS = {"float16": 0x791BE36F84C2E19C, "float32": 0x87EA488ADFCA2288, "bfloat16": 0xD064CD0961DBF7A1}


def golden(dtype: str) -> bytes:
    """The record above, byte by byte as FORMAT.md says."""
    front = b"FXRC" + struct.pack("<HH", 1, 0)  # magic, version, flags
    front += struct.pack("<IIII", 2, 1, 480, 640)  # rows, count, height, width
    front += struct.pack("<Q", 12345) + bytes(8)  # ordinal, zeros
    features, padding = FEATURES[dtype]
    payload = features + bytes(padding)
    payload += struct.pack("<8f", 0, 1, 2, 3, 10.5, 20, 30, 40)  # boxes, 32 bytes
    payload += struct.pack("<2i", 7, -1) + bytes(8)  # object_ids
    payload += b"hello" + bytes(11)  # tag
    seed = xxhash.xxh3_64_intdigest(KEY)
    return front + struct.pack("<Q", xxhash.xxh3_64_intdigest(front + payload, seed)) + payload


@pytest.mark.parametrize("dtype", FEATURES)
def test_a_record_has_exactly_the_bytes_of_the_specification(dtype: str) -> None:
    assert encode(tiny_record(dtype), tiny_schema(dtype), KEY, 12345) == golden(dtype)


@pytest.mark.parametrize("dtype", FEATURES)
def test_the_checksum_of_a_known_record_never_changes(dtype: str) -> None:
    assert peek(golden(dtype)).checksum == CHECKSUMS[dtype]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_golden_bytes_read_back_as_the_record(dtype: str) -> None:
    assert decode(golden(dtype), tiny_schema(dtype), KEY) == tiny_record(dtype)


def test_bfloat16_reads_back_as_float32_rounded() -> None:
    features = decode(golden("bfloat16"), tiny_schema("bfloat16"), KEY).features
    assert features.dtype == np.float32
    assert features.tolist() == [[0, 1, -2.5], [1.5, 65536, 0.25]]


def test_the_header_can_be_read_alone() -> None:
    head = peek(golden("float16"))
    assert (head.rows, head.count, head.height, head.width, head.ordinal) == (2, 1, 480, 640, 12345)


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (1 + 2**-8, 0x3F80),  # halfway: to the even one below
        (1 + 3 * 2**-8, 0x3F82),  # halfway: to the even one above
        (1 + 2**-8 + 2**-20, 0x3F81),
        (-(1 + 2**-8), 0xBF80),
        (2.0**-149, 0x0000),
        (-0.0, 0x8000),
        (3.3895313892515355e38, 0x7F7F),  # the largest
    ],
)
def test_bfloat16_rounds_to_nearest_even(value: float, bits: int) -> None:
    schema = Schema((Field("features", "bfloat16", (1,)), Field("boxes", "float32", (4,))))
    record = Record(np.array([[value]], np.float32), np.zeros((1, 4), np.float32), (1, 1))
    assert encode(record, schema, b"k", 0)[48:50] == struct.pack("<H", bits)


def test_bfloat16_rounding_agrees_with_torch_on_random_bits() -> None:
    torch = pytest.importorskip("torch")
    bits = np.random.default_rng(0).integers(0, 2**32, 20000, np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 3.38e38)].reshape(-1, 1)
    schema = Schema((Field("features", "bfloat16", (1,)), Field("boxes", "float32", (4,))))
    record = Record(values, np.zeros((len(values), 4), np.float32), (1, 1))
    read = decode(encode(record, schema, b"k", 0), schema, b"k").features
    assert np.array_equal(read, torch.from_numpy(values).to(torch.bfloat16).to(torch.float32).numpy())


def test_a_value_that_bfloat16_cannot_hold_is_refused() -> None:
    schema = Schema((Field("features", "bfloat16", (1,)), Field("boxes", "float32", (4,))))
    record = Record(np.full((1, 1), 3.4e38, np.float32), np.zeros((1, 4), np.float32), (1, 1))
    with pytest.raises(RecordError, match="range of bfloat16"):
        encode(record, schema, b"k", 0)


@pytest.mark.parametrize(("size", "ordinal"), [((-1, 5), 0), ((5, 2**32), 0), ((5, 5), -1)])
def test_numbers_that_do_not_fit_the_header_are_refused(size: tuple[int, int], ordinal: int) -> None:
    record = Record(
        np.zeros((1, 96), np.float16), np.zeros((1, 4), np.float32), size, extra=record_of("x", rows=1).extra
    )
    with pytest.raises(RecordError, match="does not fit"):
        encode(record, SCHEMA, b"k", ordinal)


@st.composite
def records(draw: st.DrawFn) -> tuple[Schema, Record]:
    dtype, dim = draw(st.sampled_from(["float16", "float32"])), draw(st.integers(1, 9))
    extra = draw(st.lists(st.sampled_from(["float32", "int32", "int64", "uint8"]), max_size=3))
    fields = [Field("features", dtype, (dim,)), Field("boxes", "float32", (4,))]
    for place, kind in enumerate(extra):
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
        fields.append(Field(f"extra{place}", kind, shape, draw(st.sampled_from(["region", "picture"]))))
    rows = draw(st.integers(0, 6))
    arrays: dict[str, Any] = {f.name: draw(hnp.arrays(f.memory_dtype, f.shape_for(rows))) for f in fields}
    record = Record(
        arrays.pop("features"),
        arrays.pop("boxes"),
        (draw(st.integers(0, 2**32 - 1)), 7),
        draw(st.integers(0, rows)),
        arrays,
    )
    return Schema(tuple(fields)), record


@given(records(), st.binary(min_size=1, max_size=40), st.integers(0, 2**64 - 1))
def test_every_record_reads_back_to_the_bit(made: tuple[Schema, Record], key: bytes, ordinal: int) -> None:
    schema, record = made
    buffer = encode(record, schema, key, ordinal)
    read = decode(buffer, schema, key)
    assert peek(buffer).ordinal == ordinal
    assert (read.size, read.count) == (record.size, record.count)
    for field in schema.fields:
        before, after = record.array(field.name), read.array(field.name)
        assert (before.dtype, before.shape, before.tobytes()) == (after.dtype, after.shape, after.tobytes())


@given(records())
def test_every_array_starts_at_a_multiple_of_16_and_the_length_is_known(made: tuple[Schema, Record]) -> None:
    schema, record = made
    slots, length = layout(schema, len(record.features))
    assert all(slot.offset % 16 == 0 for slot in slots)
    assert length == len(encode(record, schema, b"k", 0))
    assert length % 16 == 0


def test_arrays_are_read_only_views() -> None:
    buffer = bytearray(golden("float32"))
    record = decode(buffer, tiny_schema("float32"), KEY)
    assert np.shares_memory(record.features, np.frombuffer(buffer, np.uint8))
    assert not record.features.flags.writeable


def test_a_record_cut_anywhere_is_damaged() -> None:
    for length in range(128):
        with pytest.raises(StoreDamaged, match="COCO_val2014_000000000042"):
            decode(golden("float16")[:length], tiny_schema("float16"), KEY)


def test_a_longer_record_is_damaged() -> None:
    with pytest.raises(StoreDamaged, match="129 bytes long, its 2 rows make 128"):
        decode(golden("float16") + b"\0", tiny_schema("float16"), KEY)


def test_any_flipped_bit_is_found_and_named() -> None:
    good = golden("float16")
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreError, match="COCO_val2014_000000000042"):
            decode(bad, tiny_schema("float16"), KEY)


def test_a_record_under_the_wrong_key_is_damaged() -> None:
    with pytest.raises(StoreDamaged, match=r"'other'.*checksum"):
        decode(golden("float16"), tiny_schema("float16"), b"other")


def test_without_verification_the_structure_is_still_checked() -> None:
    bad = bytearray(golden("float16"))
    bad[-20] ^= 1
    assert decode(bad, tiny_schema("float16"), KEY, verify=False).size == (480, 640)
    with pytest.raises(StoreDamaged):
        decode(bad[:-1], tiny_schema("float16"), KEY, verify=False)


def signed(buffer: bytearray) -> bytearray:
    """Hostile bytes with a checksum that fits."""
    buffer[40:48] = struct.pack("<Q", checksum(buffer, KEY))
    return buffer


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (8, 2**32 - 1, "4294967295 rows make"),
        (8, 1, "its 1 rows make"),
        (12, 3, "counts 3 regions in 2 rows"),
        (12, 2**32 - 1, "counts 4294967295"),
    ],
)
def test_lying_counts_are_found_even_with_a_fitting_checksum(offset: int, value: int, said: str) -> None:
    bad = bytearray(golden("float16"))
    struct.pack_into("<I", bad, offset, value)
    tracemalloc.start()
    with pytest.raises(StoreDamaged, match=said):
        decode(signed(bad), tiny_schema("float16"), KEY)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_record_of_another_row_count_than_the_schema_fixes_is_damaged() -> None:
    schema = Schema(tiny_schema("float16").fields, rows=36)
    with pytest.raises(StoreDamaged, match="2 rows, the schema fixes 36"):
        decode(golden("float16"), schema, KEY)


def test_a_newer_record_asks_for_an_upgrade() -> None:
    bad = bytearray(golden("float16"))
    bad[4] = 2
    with pytest.raises(StoreError, match="format 2, this featx reads up to 1") as caught:
        decode(signed(bad), tiny_schema("float16"), KEY)
    assert "upgrade" in caught.value.hint


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(junk: bytes) -> None:
    with pytest.raises(StoreError):
        decode(junk, tiny_schema("float16"), KEY)


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_mutated_records_raise_or_decode_within_their_length(changes: list[tuple[int, int]], sign: bool) -> None:
    bad = bytearray(golden("float16"))
    for place, value in changes:
        bad[place] = value
    try:
        read = decode(signed(bad) if sign else bad, tiny_schema("float16"), KEY)
    except StoreError:
        return
    assert read.features.shape == (2, 3)
    assert read.count <= 2


def test_a_key_is_the_utf8_of_its_nfc_form() -> None:
    composed, decomposed = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
    assert composed != decomposed
    assert store_key(composed) == store_key(decomposed) == b"caf\xc3\xa9"


@pytest.mark.parametrize("key", ["", "a\0b", "a\nb", "a\tb", "\x7f", "a\u2028b", "\ud800"])
def test_empty_keys_and_control_characters_are_refused(key: str) -> None:
    with pytest.raises(UsageError, match="without control characters"):
        store_key(key)


@pytest.mark.parametrize("key", ["../../etc/passwd", "a b", "/absolute", "ключ", "~"])
def test_any_other_text_is_a_key_and_stays_what_it_is(key: str) -> None:
    assert store_key(key) == key.encode()


def test_long_keys_are_shortened_reproducibly_and_apart() -> None:
    keys = [store_key("p" * 399 + "é" * 50 + tail) for tail in ("a", "b")]
    assert keys[0] != keys[1]
    for key in keys:
        assert 400 < len(key) <= 511  # longer than any key that is kept as it is, short enough for LMDB
        key.decode()  # cut between characters
    assert keys[0].endswith(b"~" + sha256(("p" * 399 + "é" * 50 + "a").encode()).hexdigest().encode())


def test_a_shortened_key_is_not_the_key_of_its_own_text() -> None:
    short = store_key("p" * 600)
    assert store_key(short.decode()) != short


@given(st.text(min_size=1))
def test_keys_are_idempotent_up_to_the_limit(key: str) -> None:
    try:
        stored = store_key(key)
    except UsageError:
        return
    if len(stored) <= 400:
        assert store_key(stored.decode()) == stored
