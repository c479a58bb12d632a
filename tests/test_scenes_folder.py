"""Drawing a folder: the same bytes however it was drawn, whole after any end, nobody else's folder touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import cv2
import pytest

from featx.errors import StoreError, UsageError
from featx.scenes import write_scenes
from tests.scenes_drawn import SEED, TRAIN, VAL, draw_folder, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("drawn") / "scenes")


def digests(folder: Path) -> dict[str, str]:
    """File -> hash of its bytes; what only locks is left out."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in files}


def test_one_process_writes_the_same_bytes_as_two(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "alone", TRAIN, VAL, SEED, workers=1)
    assert digests(tmp_path / "alone") == digests(folder)


def test_a_picture_does_not_depend_on_how_many_others_there_are(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "few", 2, 1, SEED, ["de"], workers=1)
    for name in ("train/scene_000000000002.jpg", "val/scene_000000100001.jpg"):
        assert (tmp_path / "few" / name).read_bytes() == (folder / name).read_bytes()
    few, many = (load(f / "vqa/questions_train_de.json")["questions"] for f in (tmp_path / "few", folder))
    assert few == many[: len(few)]


def test_another_seed_draws_other_pictures(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "other", 1, 1, SEED + 1, workers=1)
    name = "train/scene_000000000001.jpg"
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_a_killed_run_is_completed_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    code = f"from featx.scenes import write_scenes; write_scenes({str(out)!r}, {TRAIN}, {VAL}, {SEED}, workers=2)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob("train/*.jpg"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (out / "train" / ".scene_000000000019.jpg.77.tmp").write_bytes(b"half of it")
    drawn = {path: path.stat().st_mtime_ns for path in out.glob("train/*.jpg")}
    assert 5 <= len(drawn) < TRAIN
    assert not (out / "README.md").exists()
    write_scenes(out, TRAIN, VAL, SEED, workers=2)
    assert digests(out) == digests(folder)
    assert all(path.stat().st_mtime_ns == before for path, before in drawn.items()), "finished pictures are kept"


def test_a_whole_folder_is_left_as_it_is_and_a_lost_file_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    write_scenes(out, 2, 1, SEED, ["en"], workers=1)
    before, times = digests(out), {p: p.stat().st_mtime_ns for p in out.rglob("*.jpg")}
    write_scenes(out, 2, 1, SEED, ["en"], workers=1)
    (out / "train/scene_000000000002.jpg").unlink()
    (out / "gqa/val_balanced_questions.json").unlink()
    write_scenes(out, 2, 1, SEED, ["en"], workers=1)
    assert digests(out) == before
    kept = out / "train/scene_000000000001.jpg"
    assert kept.stat().st_mtime_ns == times[kept]


def test_a_folder_of_other_scenes_is_refused_and_every_difference_named(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"train 16 \(asked for: 17\), seed 11 \(asked for: 12\)"):
        write_scenes(folder, TRAIN + 1, VAL, SEED + 1)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"does not hold scenes"):
        write_scenes(tmp_path, 1, 1, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_plan_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scenes.json").write_text("{")
    with pytest.raises(UsageError, match=r"scenes\.json cannot be understood"):
        write_scenes(tmp_path, 1, 1, 0)


def test_two_runs_do_not_draw_into_one_folder_at_a_time(tmp_path: Path) -> None:
    from featx.scenes.plan import Plan, claimed

    with claimed(tmp_path / "s", Plan(1, 1, 0)), pytest.raises(StoreError, match="is being written by process"):
        write_scenes(tmp_path / "s", 1, 1, 0)


@pytest.mark.parametrize(
    ("train", "val", "seed", "languages", "workers", "message"),
    [
        (-1, 1, 0, ["en"], 1, "train is -1 pictures"),
        (1, 100_001, 0, ["en"], 1, "val is 100001 pictures"),
        (0, 0, 0, ["en"], 1, "no pictures"),
        (1, 1, -3, ["en"], 1, "the seed is -3"),
        (1, 1, 0, ["en", "it"], 1, "unknown language 'it'"),
        (1, 1, 0, ["en", "en"], 1, "languages 'en,en'"),
        (1, 1, 0, [], 1, "languages ''"),
        (1, 1, 0, ["en"], 0, "0 workers"),
    ],
)  # fmt: skip
def test_wrong_numbers_are_refused_before_anything_is_written(
    tmp_path: Path, train: int, val: int, seed: int, languages: list[str], workers: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_scenes(tmp_path / "out", train, val, seed, languages, workers=workers)
    assert not (tmp_path / "out").exists()


def test_no_half_written_file_stays(folder: Path) -> None:
    assert not list(folder.rglob("*.tmp"))


def test_what_is_damaged_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    write_scenes(out, 3, 0, SEED, ["en"], workers=1)
    before = digests(out)
    first, second, _ = sorted(out.glob("train/*.jpg"))
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:-100])
    (out / "lxmert/train.json").write_bytes(b"")
    write_scenes(out, 3, 0, SEED, ["en"], workers=1)
    assert digests(out) == before


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[str] = set()
    named: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def syncing(handle: int) -> None:
        fsync(handle)
        synced.add(str(Path(f"/proc/self/fd/{handle}").readlink()))

    def naming(path: Path, target: Path) -> Path:
        assert str(path) in synced, f"{path} could be empty after a power cut"
        named.append(target.name)
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", naming)
    write_scenes(tmp_path / "s", 1, 0, 0, ["en", "fr"], workers=1)
    assert len(named) == len(digests(tmp_path / "s"))


def test_opencv_has_as_many_threads_afterwards_as_before(tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        write_scenes(tmp_path / "s", 1, 0, 0, ["en"], workers=1)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_a_store_in_the_folder_is_nobodys_draft(tmp_path: Path) -> None:
    write_scenes(tmp_path / "s", 1, 0, 0, ["en"], workers=1)
    theirs = tmp_path / "s/train.featx/.manifest.json.tmp"
    theirs.parent.mkdir()
    theirs.write_text("being written")
    write_scenes(tmp_path / "s", 1, 0, 0, ["en"], workers=1)
    assert theirs.exists()
