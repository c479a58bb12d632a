"""Processes that die in the middle of a part, by SIGKILL: suspects, poison, and what is left of it all."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from featx.decode import decode
from featx.errors import FeatxError
from featx.images import list_pictures
from featx.runner import trying
from featx.runner.watch import Watch
from featx.store import open_store, verify
from featx.store.deaths import read_deaths
from featx.store.flight import Flight, left_behind
from tests.deadly import run
from tests.fake import expected

NOTES = {"flight", "deaths.jsonl"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty tiny pictures, p00 to p39."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(1)
    for i in range(40):
        cv2.imwrite(str(folder / f"p{i:02}.png"), random.integers(0, 255, (8, 9, 3), np.uint8))
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def notes_in(path: Path) -> set[str]:
    return {file.name for file in path.glob("parts/*/*")} & NOTES


def folder_of(path: Path) -> Path:
    (folder,) = path.glob("parts/*")
    return folder


def check(photos: Path, path: Path, refused: dict[str, str]) -> None:
    """The store is finished, holds the right record of every picture but those refused, and no note."""
    with open_store(path) as store:
        assert {one.key: one.reason for one in store.failures()} == refused
        for source in list_pictures(str(photos)):
            if source.key not in refused:
                assert store[source.key] == expected(decode(source.read()))
        assert len(store) == 40 - len(refused)
    assert verify(path).ok
    assert not notes_in(path)


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
@pytest.mark.parametrize("stage", ["decode", "network"])
def test_a_picture_that_kills_is_alone_after_two_deaths_and_refused_when_it_kills_alone_again(
    photos: Path, path: Path, backend: str, stage: str
) -> None:
    assert run(photos, path, backend, ["p17"], stage) == (-9, [])
    code, said = run(photos, path, backend, ["p17"], stage)
    assert code == -9
    assert "was killed with" in said[0]
    assert "one at a time" in said[1]
    code, said = run(photos, path, backend, ["p17"], stage)
    assert code == -9
    assert "was killed with 1 picture under way" in said[0]
    assert "p17 was the only picture in hand when a process died: it comes last" in said
    with open_store(path, partial=True) as store:
        assert len(store) == 39, "nothing waits for it any more"
    code, said = run(photos, path, backend, ["p17"], stage)
    assert code == 0
    assert said[1:] == ["p17 is refused: 2 processes died with nothing but this picture in hand"]
    check(photos, path, {"p17": "killed-worker"})
    with open_store(path) as store:
        (refusal,) = store.failures()
    assert refusal.message == "2 processes died with nothing but this picture in hand"


def test_a_picture_that_was_alone_in_hand_when_something_else_killed_is_kept(photos: Path, path: Path) -> None:
    assert run(photos, path, "lmdb", ["p17"], "network")[0] == -9
    assert run(photos, path, "lmdb", ["p17"], "network")[0] == -9
    assert run(photos, path, "lmdb")[0] == 0
    check(photos, path, {})


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_picture_that_only_kills_beside_others_is_done_alone(
    photos: Path, path: Path, backend: str, batch: int
) -> None:
    assert run(photos, path, backend, ["p17"], "crowd", batch=batch)[0] == -9
    held = left_behind(folder_of(path))
    assert held is not None
    assert 17 in held.ordinals
    assert len(held.ordinals) > 1
    assert run(photos, path, backend, ["p17"], "crowd", batch=batch)[0] == 0
    check(photos, path, {})


def test_two_that_kill_side_by_side_are_both_found(photos: Path, path: Path) -> None:
    bad = ["p17", "p18"]
    assert [run(photos, path, "lmdb", bad, "network", batch=4)[0] for _ in range(6)] == [-9] * 5 + [0]
    check(photos, path, dict.fromkeys(bad, "killed-worker"))


def test_where_every_picture_kills_none_is_refused(photos: Path, path: Path) -> None:
    assert {run(photos, path, "lmdb", ["*"])[0] for _ in range(12)} == {-9}
    with open_store(path, partial=True) as store:
        assert not list(store.failures())
    assert run(photos, path, "lmdb")[0] == 0, "the machine is in order again"
    check(photos, path, {})


def test_a_part_of_poison_alone_is_finished(tmp_path: Path, photos: Path, path: Path) -> None:
    for photo in photos.iterdir():
        if photo.stem != "p17":
            photo.unlink()
    assert [run(photos, path, "lmdb", ["p17"])[0] for _ in range(3)] == [-9, -9, 0]
    with open_store(path) as store:
        assert [one.reason for one in store.failures()] == ["killed-worker"]


def test_retrying_the_refused_tries_poison_again(photos: Path, path: Path) -> None:
    bad = ["p17", "p18"]
    assert [run(photos, path, "lmdb", bad, "network", batch=4)[0] for _ in range(5)] == [-9] * 5
    with open_store(path, partial=True) as store:
        assert [one.key for one in store.failures()] == ["p17"]
    assert run(photos, path, "lmdb", ["p17"], "network", retry=True)[0] == -9, "its count began anew"
    assert run(photos, path, "lmdb")[0] == 0
    with open_store(path) as store:
        assert {one.key for one in store.failures()} == {"p18"}, "it had killed twice by then"
    assert run(photos, path, "lmdb", [], retry=True)[0] == 0
    check(photos, path, {})


def test_an_unexpected_error_is_a_death_too_and_its_words_reach_the_ledger(photos: Path, path: Path) -> None:
    assert run(photos, path, "lmdb", ["p17"], "network", raises=True)[0] == 1
    assert notes_in(path) == {"deaths.jsonl"}
    assert run(photos, path, "lmdb", ["p17"], "network", raises=True)[0] == 1
    assert run(photos, path, "lmdb", ["p17"], "network", raises=True)[0] == 1
    first, second, third = read_deaths(folder_of(path))
    assert "p17" in first.pictures
    assert second.pictures == third.pictures == ["p17"]
    assert second.error == "RuntimeError: the device gave up"
    assert run(photos, path, "lmdb", ["p17"], "network", raises=True)[0] == 0
    check(photos, path, {"p17": "killed-worker"})
    with open_store(path) as store:
        assert [one.message.endswith(": RuntimeError: the device gave up") for one in store.failures()] == [True]


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_an_unfinished_store_with_notes_is_read_and_verified_like_any(photos: Path, path: Path, backend: str) -> None:
    for _ in range(2):
        run(photos, path, backend, ["p17"])
    assert notes_in(path) == NOTES
    assert verify(path).ok
    with open_store(path, partial=True) as store:
        assert all(store[key] == expected(decode((photos / f"{key}.png").read_bytes())) for key in store)
        assert len(store) >= 8


def test_a_note_that_a_power_cut_spoiled_stops_nobody(photos: Path, path: Path) -> None:
    run(photos, path, "lmdb", ["p17"])
    (folder_of(path) / "flight").write_bytes(bytes(300) + b"\xff\xfe\n12\n" + b"%15d\n" % 999)
    assert run(photos, path, "lmdb")[0] == 0
    check(photos, path, {})


def test_a_death_that_was_noted_but_whose_note_was_left_counts_once(photos: Path, path: Path) -> None:
    run(photos, path, "lmdb", ["p17"])
    sources, folder, said = list(list_pictures(str(photos))), folder_of(path), list[str]()
    note = (folder / "flight").read_bytes()
    Watch(folder, sources, said.append)
    (folder / "flight").write_bytes(note)
    Watch(folder, sources, said.append)
    assert len(read_deaths(folder)) == 1
    assert not (folder / "flight").exists()


def test_the_note_names_what_is_in_hand_in_lines_of_one_length(tmp_path: Path) -> None:
    flight = Flight(tmp_path)
    assert not (tmp_path / "flight").exists()
    for ordinal in (7, 123456, 9):
        flight.take(ordinal)
    flight.land([123456, 5])
    flight.take(8)
    flight.take(10)
    flight.land([7])
    head, *lines = (tmp_path / "flight").read_text().split("\n")
    assert json.loads(head) == {"host": socket.gethostname(), "pid": os.getpid(), "begun": flight.begun}
    assert lines == [" " * 15, f"{8:15}", f"{9:15}", f"{10:15}", ""]
    left = left_behind(tmp_path)
    assert left is not None
    assert left.ordinals == flight.ordinals == {8, 9, 10}
    flight.remove()
    assert left_behind(tmp_path) is None
    assert not [*tmp_path.iterdir()]


def test_a_disk_that_takes_no_note_stops_nobody(tmp_path: Path) -> None:
    flight = Flight(tmp_path / "absent")
    flight.take(1)
    flight.land([1])
    flight.remove()
    assert flight.ordinals == set()


def test_an_interrupted_run_leaves_the_history_but_no_note(photos: Path, path: Path) -> None:
    run(photos, path, "lmdb", ["p17"])
    assert run(photos, path, "lmdb", ["p35"], "interrupt")[0] == 1
    assert notes_in(path) == {"deaths.jsonl"}
    assert len(read_deaths(folder_of(path))) == 1
    assert run(photos, path, "lmdb")[0] == 0
    check(photos, path, {})


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_the_content_is_the_same_as_if_nobody_had_died(photos: Path, path: Path, backend: str) -> None:
    run(photos, path.with_name("whole"), backend)
    for victim in ("p05", "p20", "p33"):
        assert run(photos, path, backend, [victim], "network", batch=3)[0] == -9
    assert run(photos, path, backend, batch=3)[0] == 0
    with open_store(path) as store, open_store(path.with_name("whole")) as whole:
        assert store.manifest.totals == whole.manifest.totals


@pytest.mark.parametrize("raises", [False, True])
def test_a_death_while_the_extractor_is_measured_is_not_repeated(photos: Path, path: Path, raises: bool) -> None:
    assert run(photos, path, "lmdb", ["p00"], "measure", raises=raises)[0] == (1 if raises else -9)
    left = left_behind(folder_of(path))
    assert left is not None
    assert left.ordinals == {0, 1, 2}
    assert run(photos, path, "lmdb", ["p00"], "measure", raises=raises)[0] == 0
    check(photos, path, {})
    with open_store(path) as store:
        assert "looked at" not in store.parts[0].about


def test_what_is_tried_before_a_run_leaves_a_note_only_if_it_is_as_good_as_killed(photos: Path, tmp_path: Path) -> None:
    sources = list(list_pictures(str(photos)))[:2]

    def attempt(error: BaseException | None) -> bool | None:
        with suppress(KeyboardInterrupt, FeatxError, RuntimeError), trying(tmp_path, sources) as harmless:
            if harmless:
                left = left_behind(tmp_path)
                assert left is not None
                assert left.ordinals == {0, 1}
            if error is not None:
                raise error
            return harmless
        return None

    assert attempt(None) is True
    for error in (KeyboardInterrupt(), FeatxError("fp16 is too small")):
        attempt(error)
        assert left_behind(tmp_path) is None
    attempt(RuntimeError("the device gave up"))
    assert left_behind(tmp_path) is not None
    assert attempt(None) is False
