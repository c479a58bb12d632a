"""Frames: bytes written out by hand, everything that can be sent comes back, and no other bytes are believed."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.errors import StoreDamaged, StoreError
from featx.store.remote.framing import (
    DAMAGED,
    MISSING,
    RECORD,
    REFUSED,
    Frame,
    Place,
    framed,
    length_of,
    places,
    read_told,
    told,
)  # fmt: skip

# Three keys: a record of 5 bytes, a missing one, a record of 16 bytes.
JSON = b'{"key": "b", "message": "not there", "hint": "look"}'
BY_HAND = (
    b"\x01\0\0\0" b"\0\0\0\0" b"\x05\0\0\0\0\0\0\0" b"hello" + bytes(11)
    + b"\x02\0\0\0" b"\0\0\0\0" b"\x34\0\0\0\0\0\0\0" + JSON + bytes(12)
    + b"\x01\0\0\0" b"\0\0\0\0" b"\x10\0\0\0\0\0\0\0" b"0123456789abcdef"
    + b"\x0f\x0e\0\0" b"\0\0\0\0" b"\x08\0\0\0\0\0\0\0" b"\x03\0\0\0\0\0\0\0" + bytes(8)
)  # fmt: skip
FRAMES = [Frame(RECORD, b"hello"), told(MISSING, "b", "not there", "look"), Frame(RECORD, b"0123456789abcdef")]

contents = st.one_of(
    st.binary(max_size=100).map(lambda body: Frame(RECORD, body)),
    st.builds(told, st.sampled_from([MISSING, REFUSED, DAMAGED]), st.text(), st.text(), st.text()),
)


def body_of(frames: list[Frame]) -> bytes:
    return b"".join(framed(frames))


def test_a_body_is_the_bytes_that_the_format_says() -> None:
    assert len(JSON) == 0x34
    assert body_of(FRAMES) == BY_HAND
    assert length_of([5, len(JSON), 16]) == len(BY_HAND)


def test_the_bytes_are_found_where_they_are() -> None:
    found = places(BY_HAND, 3)
    assert found == [Place(RECORD, 16, 5), Place(MISSING, 48, 0x34), Place(RECORD, 128, 16)]
    assert tuple(read_told(BY_HAND, found[1])) == ("b", "not there", "look")


def test_no_key_has_a_body_of_an_end_alone() -> None:
    assert body_of([]) == BY_HAND[-32:-16] + bytes(16)
    assert places(body_of([]), 0) == []


def test_a_record_is_not_copied_on_its_way() -> None:
    record = memoryview(bytearray(100))
    assert any(piece is record for piece in framed([Frame(RECORD, record)]))


@given(st.lists(contents, max_size=8))
def test_whatever_is_sent_is_received(frames: list[Frame]) -> None:
    body = body_of(frames)
    found = places(memoryview(body), len(frames))
    assert len(body) == length_of(len(frame.body) for frame in frames)
    assert [(place.kind, body[place.offset :][: place.size]) for place in found] == frames
    assert all(place.offset % 16 == 0 for place in found)


@given(st.sampled_from([MISSING, REFUSED, DAMAGED]), st.text(max_size=50), st.text(), st.text())
def test_what_is_told_of_a_key_is_read_back(kind: int, key: str, message: str, hint: str) -> None:
    body = body_of([told(kind, key, message, hint)])
    assert tuple(read_told(body, places(body, 1)[0])) == (key, message, hint)


@pytest.mark.parametrize("text", ["x" * 10**6, "\U0001f600" * 10**5])
def test_a_text_that_is_too_long_is_cut(text: str) -> None:
    body = body_of([told(DAMAGED, text, text, text)])
    key, message, hint = read_told(body, places(body, 1)[0])
    assert len(body) < 1 << 17
    assert all(part and text.startswith(part) for part in (key, message, hint))


def test_a_body_that_is_cut_anywhere_is_damaged() -> None:
    for size in range(len(BY_HAND)):
        with pytest.raises(StoreDamaged, match="the answer of the server is damaged"):
            places(BY_HAND[:size], 3)


def test_bytes_behind_the_end_are_damage() -> None:
    for more in (b"\0", bytes(16), bytes(32), BY_HAND):
        with pytest.raises(StoreDamaged):
            places(BY_HAND + more, 3)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 10**9])
def test_another_number_of_frames_than_was_asked_for_is_damage(count: int) -> None:
    with pytest.raises(StoreDamaged):
        places(BY_HAND, count)


def test_a_flipped_bit_outside_the_contents_is_found() -> None:
    inside = {*range(16, 21), *range(48, 100), *range(128, 144)}
    for place in range(len(BY_HAND)):
        for bit in range(8):
            body = bytearray(BY_HAND)
            body[place] ^= 1 << bit
            if place in inside:  # what a frame holds is for others to check
                assert places(body, 3) == places(BY_HAND, 3)
            elif place in (0, 32, 112) and body[place] in (1, 2, 3, 4):
                assert places(body, 3) != places(BY_HAND, 3)  # another kind
            elif place in (8, 40) and 0 < body[place] - BY_HAND[place] < 12:
                assert places(body, 3) != places(BY_HAND, 3)  # zeros of the padding taken in
            else:
                with pytest.raises(StoreDamaged):
                    places(body, 3)


@pytest.mark.parametrize("size", [6, 2**31, 2**32, 2**63, 2**64 - 1])
def test_a_length_that_lies_allocates_nothing(size: int) -> None:
    body = bytearray(BY_HAND)
    struct.pack_into("<Q", body, 8 + 112, size)
    tracemalloc.start()
    try:
        with pytest.raises(StoreDamaged):
            places(body, 3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"3", b'"x"', b'{"key": 1, "message": "", "hint": ""}', b'{"key": "a"}', b"\xff\xfe",
     b'{"key": "a", "message": "b", "hint": null}', b"[" * 60_000],
)  # fmt: skip
def test_a_reason_that_is_none_is_damage(text: bytes) -> None:
    body = body_of([Frame(MISSING, text)])
    with pytest.raises(StoreDamaged):
        read_told(body, places(body, 1)[0])


@given(st.binary(max_size=400), st.integers(0, 5))
def test_no_bytes_do_more_than_be_refused(data: bytes, count: int) -> None:
    try:
        found = places(data, count)
    except StoreError:
        return
    assert len(found) == count


def test_damaged_and_spliced_bodies_are_refused_or_well_formed() -> None:
    rng = random.Random(6)
    for _ in range(20_000):
        frames = [
            Frame(RECORD, rng.randbytes(rng.randrange(70)))
            if rng.random() < 0.7
            else told(rng.choice((MISSING, REFUSED, DAMAGED)), "k", "m")
            for _ in range(rng.randrange(6))
        ]
        body = bytearray(body_of(frames))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(body))
            what = rng.randrange(4)
            if what == 0:
                body[at] = rng.randrange(256)
            elif what == 1:
                del body[at : at + rng.choice((1, 8, 16, 32))]
            elif what == 2:
                body[at:at] = rng.randbytes(rng.choice((1, 8, 16)))
            else:
                body[at : at + 8] = struct.pack("<Q", rng.getrandbits(rng.choice((3, 16, 64))))
            if not body:
                break
        try:
            found = places(body, len(frames))
        except StoreDamaged:
            continue
        assert len(found) == len(frames)
        for place in found:
            assert 0 <= place.offset <= place.offset + place.size <= len(body) - 32
            if place.kind != RECORD:
                try:
                    read_told(body, place)
                except StoreDamaged:
                    continue
