"""A pickle of a few bytes that would be billions of values to whoever looks at it is refused when it is read."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from featx.formats.values.pickle_write import dumps
from featx.formats.values.pickles import PickleRefused, loads


def doubled(levels: int, opening: bytes = b"](", ending: bytes = b"e") -> bytes:
    """A list of a list twice, of a list twice, ...: two to the ``levels`` empty lists."""
    steps = (
        b"0" + opening + b"h" + bytes([n]) + b"h" + bytes([n]) + ending + b"q" + bytes([n + 1]) for n in range(levels)
    )
    return b"\x80\x02]q\x00" + b"".join(steps) + b"."


def listed(place: bytes, times: int, what: bytes) -> bytes:
    """A list of ``what`` so many times."""
    return b"\x80\x02" + what + b"q\x00" + place + b"(" + b"h\x00" * times + b"e."


@pytest.mark.parametrize("levels", [25, 60])
@pytest.mark.parametrize("kind", [(b"](", b"e"), (b"(", b"t")])
def test_lists_and_tuples_that_double_are_refused(levels: int, kind: tuple[bytes, bytes]) -> None:
    with pytest.raises(PickleRefused, match="again and again"):
        loads(doubled(levels, *kind))


def test_a_few_of_them_are_read() -> None:
    found = loads(doubled(10))
    for _ in range(10):
        assert len(found) == 2
        found = found[0]
    assert found == []


def test_a_long_text_or_array_in_many_places_is_refused() -> None:
    text = b"X" + (1 << 16).to_bytes(4, "little") + b"x" * (1 << 16)
    with pytest.raises(PickleRefused, match="again and again"):
        loads(listed(b"]", 2000, text))
    array = pickle.dumps(np.zeros(1 << 14), protocol=2)[2:-1]
    end = 2 + len(array)
    with pytest.raises(PickleRefused, match="again and again"):
        loads(b"\x80\x02" + array + b"q\xf0](" + b"h\xf0" * (end // 2) + b"e.")


@pytest.mark.parametrize("deep", [100, 100_000])
def test_containers_that_nest_beyond_use_are_refused(deep: int) -> None:
    with pytest.raises(PickleRefused, match="deep"):
        loads(b"\x80\x02" + b"]" * deep + b"a" * (deep - 1) + b".")


def test_levels_are_counted_however_they_are_come_by() -> None:
    """A list of lists, each of the one before: none is deep where it is first met."""
    chain = b"](" + b"]q\x00" + b"".join(b"]h" + bytes([n]) + b"aq" + bytes([n + 1]) for n in range(200)) + b"e."
    with pytest.raises(PickleRefused, match="deep"):
        loads(b"\x80\x02" + chain)


def test_a_list_that_holds_itself_is_refused() -> None:
    with pytest.raises(PickleRefused, match="deep"):
        loads(b"\x80\x02]q\x00h\x00a.")


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, "x", None], "b": (b"y", {"c": [[], {}]})},
        [f"COCO_val2014_{n:012d}".encode() for n in range(30_000)],
        [{"image_id": n, "num_boxes": 36, "features": "x" * 40} for n in range(5000)],
        {n: n for n in range(30_000)},
    ],
)
def test_what_peers_write_is_read(value: Any) -> None:
    for protocol in (0, 2, 4):
        assert loads(pickle.dumps(value, protocol)) == value


def test_arrays_are_read_by_their_own_length() -> None:
    value = {"features": np.zeros((100, 2048), np.float32), "objects": np.arange(100)}
    back = loads(dumps(value))
    assert np.array_equal(back["features"], value["features"])
