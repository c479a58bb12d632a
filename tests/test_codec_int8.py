"""int8 fields: a code of 0 to 255 for each value, and a scale and zero point for each row."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featx.codec import decode, encode, layout, unpack
from featx.errors import RecordError, StoreDamaged
from featx.record import Record
from featx.schema import Array, Field, Schema, region_schema
from featx.store import create_store, open_part, open_store, verify

KEY = b"42"
LARGEST = float(np.finfo(np.float32).max)


def schema_of(dim: int) -> Schema:
    return Schema((Field("features", "int8", (dim,)), Field("boxes", "float32", (4,))))


def record_of(features: Any) -> Record:
    values = np.array(features, np.float32)
    return Record(values, np.zeros((len(values), 4), np.float32), (480, 640))


def stored(features: Any) -> tuple[Array, Array]:
    """Scales and codes of a record with these features."""
    values = np.array(features, np.float32)
    scales, codes, _ = unpack(
        encode(record_of(values), schema_of(values.shape[1]), KEY, 0), schema_of(values.shape[1]), KEY
    )[1]
    return scales, codes


def through(features: Any) -> Array:
    """What a record with these features reads back as."""
    schema = schema_of(np.shape(features)[1])
    return decode(encode(record_of(features), schema, KEY, 0), schema, KEY).features


# 0.2 has no end in binary; its first 16 bits, rounded up, are 52429 / 2^18.
GOLDEN = [
    ([0, -27.5, 100], 0.5, 55, [55, 0, 255], [0, -27.5, 100]),
    ([51, 25.6, 0.1], 52429 / 2**18, 0, [255, 128, 0], [255 * 52429 / 2**18, 128 * 52429 / 2**18, 0]),
    ([-510, -3, 0], 2, 255, [0, 253, 255], [-510, -4, 0]),  # -1.5 steps: to the even one
    ([0, 0, 0], 0, 0, [0, 0, 0], [0, 0, 0]),
]


def test_an_int8_record_has_exactly_the_bytes_of_the_specification() -> None:
    front = b"FXRC" + struct.pack("<HHIIIIQ8x", 1, 0, 4, 4, 480, 640, 12345)
    payload = struct.pack("<8f", 0.5, 55, 52429 / 2**18, 0, 2, 255, 0, 0)  # 32 bytes
    payload += bytes([55, 0, 255, 255, 128, 0, 0, 253, 255, 0, 0, 0]) + bytes(4)
    payload += bytes(64)  # boxes
    checksum = xxhash.xxh3_64_intdigest(front + payload, xxhash.xxh3_64_intdigest(KEY))
    expected = front + struct.pack("<Q", checksum) + payload
    assert encode(record_of([row[0] for row in GOLDEN]), schema_of(3), KEY, 12345) == expected
    assert decode(expected, schema_of(3), KEY).features.tolist() == [row[4] for row in GOLDEN]


@pytest.mark.parametrize(("values", "scale", "zero", "codes", "read"), GOLDEN)
def test_a_row_has_its_own_scale_and_zero_point(
    values: list[float], scale: float, zero: int, codes: list[int], read: list[float]
) -> None:
    scales, found = stored([values])
    assert (scales.tolist(), found.tolist()) == ([[scale, zero]], [codes])
    assert through([values]).tolist() == [read]


def test_all_256_whole_numbers_of_a_byte_are_exact() -> None:
    assert through([np.arange(256)]).tolist() == [list(range(256))]
    assert through([np.arange(-128, 128)]).tolist() == [list(range(-128, 128))]


def test_features_read_as_float32_that_cannot_be_changed() -> None:
    schema = schema_of(3)
    features = decode(encode(record_of([[1, 2, 3]]), schema, KEY, 0), schema, KEY).features
    assert features.dtype == np.float32
    assert not features.flags.writeable


def error_bound_holds(values: Array) -> None:
    """Every value within half a scale of the original, in exact arithmetic; zeros exactly zero."""
    scales, codes = stored(values)
    read = through(values)
    for row, (scale, zero), found, quantised in zip(values, scales, read, codes, strict=True):
        step = Fraction(float(scale))
        assert 0 <= zero <= 255
        assert float(zero).is_integer()
        for x, y, q in zip(row.tolist(), found.tolist(), quantised.tolist(), strict=True):
            assert Fraction(y) == step * (q - int(zero))  # the product is exact in float32
            assert abs(Fraction(x) - Fraction(y)) <= step / 2
            assert x != 0 or y == 0
        span = Fraction(max(0.0, *map(float, row))) - Fraction(min(0.0, *map(float, row)))
        # No more than the range needs: 16 bits rounded up, or the 254 steps of a row stored before.
        assert step <= span / 254 or step == Fraction(2) ** -126


floats = st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(0, 20, width=32) | st.integers(-300, 300).map(float)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 9)), elements=floats))
def test_no_value_moves_by_more_than_half_a_scale(values: Array) -> None:
    if len(values):
        error_bound_holds(values)


@pytest.mark.parametrize(
    "row",
    [
        [7.3] * 5,
        [-7.3] * 5,
        [0.0] * 5,
        [-0.0, 0.0],
        [1e-45, 3e-45],  # the smallest there is
        [-1e-40, 5e-39],
        [2.0**-120, 0.1],
        [LARGEST / 2, -LARGEST / 2],
        [LARGEST, -LARGEST],
        [3e38, 1e-38, -1e-38],
        [1.0],
        [-1.0, 1.0],
        [254.0, -0.5],
    ],
)
def test_no_value_moves_by_more_than_half_a_scale_in_odd_rows(row: list[float]) -> None:
    error_bound_holds(np.array([row], np.float32))


@given(hnp.arrays(np.float32, st.tuples(st.just(3), st.integers(1, 40)), elements=floats))
def test_what_was_read_is_stored_again_without_moving(values: Array) -> None:
    once = through(values)
    assert np.array_equal(through(once), once)


def test_what_was_read_is_stored_again_without_moving_on_normal_numbers() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(20000, 24)) * np.exp(random.normal(size=(20000, 1)) * 8)
    once = through(values)
    codes = stored(values)[1]
    assert (codes.max(1) < 255).any()  # both ends rounded inwards: the case that would drift
    assert np.array_equal(through(once), once)


def test_a_minus_zero_is_stored_as_zero() -> None:
    assert encode(record_of([[-0.0, 1]]), schema_of(2), KEY, 0) == encode(record_of([[0, 1]]), schema_of(2), KEY, 0)
    assert stored([[-0.0, 1]])[0].tobytes() == struct.pack("<2f", 0x8081 / 2**23, 0)  # 1/255, 16 bits, rounded up


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(RecordError, match="'features' holds NaN or infinity"):
        encode(record_of([[0, 1], [bad, 1]]), schema_of(2), KEY, 0)


def test_a_value_that_would_read_back_as_infinity_is_refused() -> None:
    with pytest.raises(RecordError, match="range of int8"):
        encode(record_of([[LARGEST, 0]]), schema_of(2), KEY, 0)


def test_a_record_takes_one_byte_a_value_and_eight_a_row() -> None:
    schema = Schema((Field("features", "int8", (2048,)), Field("boxes", "float32", (4,))), rows=36)
    slots, length = layout(schema, 36)
    assert [(s.name, s.offset, s.size, s.shape, s.dtype) for s in slots] == [
        ("features_scale", 48, 288, (36, 2), np.float32),
        ("features", 336, 73728, (36, 2048), np.uint8),
        ("boxes", 74064, 576, (36, 4), np.float32),
    ]
    assert length == 74640


def test_a_record_of_another_length_is_damaged() -> None:
    buffer = encode(record_of([[0, 1]]), schema_of(2), KEY, 0)
    with pytest.raises(StoreDamaged, match="its 1 rows make 96"):
        decode(buffer + b"\0", schema_of(2), KEY)


def test_no_rows_and_no_dimensions_are_no_problem() -> None:
    assert through(np.empty((0, 5))).shape == (0, 5)
    assert through(np.empty((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("name", ["boxes", "regressed_boxes"])
def test_boxes_are_never_coarser_than_float32(name: str, dtype: str) -> None:
    with pytest.raises(RecordError, match=f"field '{name}' has dtype '{dtype}'") as caught:
        Field(name, dtype, (4,))
    assert "float32" in caught.value.hint


@pytest.mark.parametrize(("shape", "per"), [((), "region"), ((2, 3), "region"), ((3,), "picture")])
def test_only_vectors_of_regions_can_be_int8(shape: tuple[int, ...], per: Any) -> None:
    with pytest.raises(RecordError, match=r"expected \[D\] per region"):
        Field("x", "int8", shape, per)


def test_no_field_takes_the_name_of_the_scales() -> None:
    fields = (Field("features", "int8", (3,)), Field("boxes", "float32", (4,)), Field("features_scale", "float32"))
    with pytest.raises(RecordError, match="features_scale"):
        Schema(fields)
    Schema((Field("features", "float16", (3,)), *fields[1:]))


@pytest.fixture(params=["lmdb", "hdf5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of three records, the second with padding rows."""
    schema = region_schema(5, "int8", attributes=False, rows=4)
    create_store(tmp_path / "store", request.param, schema, {"extractor": "none"})
    with open_part(tmp_path / "store") as writer:
        for place in range(3):
            values = np.arange(20, dtype=np.float32).reshape(4, 5) * (place + 1)
            values[3 if place == 1 else 4 :] = 0
            ids = {"object_ids": np.zeros(4, np.int32), "object_confs": np.zeros(4, np.float32)}
            writer.put(
                f"{place}", Record(values, np.zeros((4, 4), np.float32), (9, 9), 3 if place == 1 else 4, ids), place
            )
        writer.finish()
    return tmp_path / "store"


def test_a_store_gives_back_what_was_quantised(path: Path) -> None:
    store = open_store(path)
    for place in range(3):
        features = store[str(place)].features
        assert features.dtype == np.float32
        real = 3 if place == 1 else 4
        for row in range(4):
            expected = np.arange(5 * row, 5 * row + 5) * (place + 1) * (row < real)
            assert np.abs(features[row] - expected).max() <= expected.max() / 255 / 1.99
    assert (store["1"].features[3] == 0).all()
    assert verify(path).problems == []


def test_a_batch_of_an_int8_store_is_float32(path: Path) -> None:
    torch = pytest.importorskip("torch")
    store = open_store(path)
    batch = store.get_batch(["2", "0"])
    assert batch.features.dtype == torch.float32
    assert np.array_equal(batch.features.numpy(), np.stack([store[key].features for key in ("2", "0")]))


def test_anybody_with_h5py_can_read_an_int8_file(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    schema = schema_of(3)
    create_store(tmp_path / "s", "hdf5", schema, {"extractor": "none"})
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of([row[0] for row in GOLDEN]), 0)
        writer.finish()
    (sealed,) = (tmp_path / "s").rglob("*.h5")
    with h5py.File(sealed) as file:
        scale, zero = file["features_scale"][:, :1], file["features_scale"][:, 1:]
        assert file["features"].dtype == np.uint8
        assert file["features"].attrs["dtype"] == "int8"
        assert (scale * (file["features"][:] - zero)).tolist() == [row[4] for row in GOLDEN]
        assert "scale * (q - zero)" in file.attrs["readme"]
