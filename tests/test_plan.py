"""What a plan says is what a plain calculation says, its command lines make the store, and a store is only read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from featx import jobs, planning
from featx.cli import main
from featx.cli.plan import numbers
from featx.config import ExtractConfig
from featx.errors import UsageError
from featx.images import list_pictures
from featx.jobs import Job
from featx.planning import Sample, crew, spread, suitable
from tests.fake import Fake

TINY = str(Path(__file__).resolve().parent.parent / "configs" / "seeded_tiny.yaml")


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (120, 90)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(10):
        photo(tmp_path / "photos" / f"{number}.png", number)
    return tmp_path / "photos"


def sample(**changes: float) -> Sample:
    values = {"decode": 0.2, "network": 0.5, "write": 0.1, "cpu": 0.8} | changes
    return Sample(
        4, (), values["decode"], values["network"], values["write"], values["cpu"], 2, 2, 1, 10.0, 1000.0, 10**9
    )


@pytest.mark.parametrize(
    ("changes", "limit", "seconds"),
    [
        ({}, "network", 0.5),
        ({"decode": 1.2}, "decode", 0.6),  # two threads
        ({"write": 0.7}, "write", 0.7),
        ({"cpu": 1.4}, "cores", 0.7),  # two cores
    ],
)
def test_the_slowest_stage_sets_the_pace_of_a_worker(changes: dict[str, float], limit: str, seconds: float) -> None:
    assert sample(**changes).limit == limit
    assert sample(**changes).seconds == pytest.approx(seconds)


def test_a_crew_takes_whole_parts_in_rounds() -> None:
    # 100 pictures in 10 parts are 10 each, 5 s a part; 4 workers do them in 3 rounds, after 10 s of starting
    four = crew(sample(), 100, 10, 4, price=3.6)
    assert four.seconds == pytest.approx(10 + 3 * 5)
    assert four.rate == pytest.approx(4.0)
    assert four.cost == pytest.approx(3.6 * 4 * 25 / 3600)
    assert four.cores == 8


def test_workers_beyond_the_parts_are_paid_and_no_faster() -> None:
    ten, twenty = (crew(sample(), 100, 10, count, price=1.0) for count in (10, 20))
    assert twenty.seconds == ten.seconds == pytest.approx(15)
    assert twenty.cost == pytest.approx(2 * (ten.cost or 0))


def test_nothing_left_to_do_takes_no_time() -> None:
    assert crew(sample(), 0, 10, 4, 1.0).seconds == 0


@pytest.mark.parametrize(("pictures", "workers", "parts"), [(5, 1, 1), (33, 1, 2), (10**6, 8, 256), (10**6, 100, 800)])
def test_parts_suit_the_list_and_the_largest_crew(pictures: int, workers: int, parts: int) -> None:
    assert suitable(pictures, workers) == parts


def test_a_sample_is_spread_over_the_list(photos: Path) -> None:
    listing = list_pictures(str(photos))
    assert [source.key for source in spread(listing, 4)] == ["0", "2", "5", "7"]
    assert spread(listing, 99) == list(listing)


def fake_job(photos: Path, store: Path, extractor: Fake) -> Job:
    listing = list_pictures(str(photos))
    return Job(str(store), ExtractConfig(batch=3), extractor, listing, listing, (1, 1))


def test_the_time_is_given_to_the_stage_that_took_it(photos: Path, tmp_path: Path) -> None:
    extractor = Fake(slow=0.06)  # for each batch
    found = planning.measure(fake_job(photos, tmp_path / "s", extractor), 6, cores=2)
    assert found.network == pytest.approx(0.02, abs=0.01)
    assert found.limit == "network"
    assert extractor.batches == [1, 3, 3]  # the first warms up


def test_a_refused_picture_is_named_and_not_counted(photos: Path, tmp_path: Path) -> None:
    (photos / "4.png").write_bytes(b"no picture")
    found = planning.measure(fake_job(photos, tmp_path / "s", Fake()), 10, cores=2)
    assert found.pictures == 9
    assert len(found.refused) == 1
    assert "4.png" in found.refused[0]


def test_a_list_without_one_readable_picture_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="none of the 1 pictures that were tried can be used"):
        planning.measure(fake_job(tmp_path / "photos", tmp_path / "s", Fake()), 4, cores=1)


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["plan", *words])
    return code, capsys.readouterr().out


def test_a_plan_leaves_no_file(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, said = planned(capsys, str(photos), str(tmp_path / "s"), "--config", TINY, "--sample", "2", "--price", "2")
    assert code == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert "10 pictures" in said
    assert "cost" in said
    assert "limit: " in said


def test_bytes_are_those_of_the_store(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(photos), str(tmp_path / "s"), "--config", TINY]
    told = json.loads(planned(capsys, *words, "--sample", "10", "--json")[1])
    assert main(["extract", *words, "--quiet"]) == 0
    files = [path for path in (tmp_path / "s").rglob("*") if path.is_file() and path.suffix != ".json"]
    assert told["bytes"] == pytest.approx(sum(path.stat().st_size for path in files), rel=0.02)


def test_what_is_done_is_not_planned_again(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(photos), str(tmp_path / "s"), "--config", TINY]
    assert main(["extract", *words, "--part", "2/5", "--quiet"]) == 0
    told = json.loads(planned(capsys, *words, "--sample", "2", "--parts", "3", "--json")[1])
    assert (told["pictures"], told["done"], told["parts"]) == (10, 2, 5)  # a begun store keeps its parts


def test_the_shell_line_makes_the_store(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "a store"
    words = [str(photos), str(store), "--config", TINY, "--set", "attributes=false"]
    del words[-2:]
    told = json.loads(planned(capsys, *words, "--sample", "2", "--parts", "2", "--json")[1])
    line = next(text for name, text in told["commands"].items() if name.startswith("any shell"))
    script = f"featx() {{ printf '%s|' \"$@\"; echo; }}\n{line}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    expected = [["extract", str(photos), str(store), "--config", TINY, "--part", f"{k}/2"] for k in (1, 2)]
    assert [row.split("|")[:-1] for row in done.stdout.splitlines()] == expected
    for arguments in expected:
        assert main([*arguments, "--quiet"]) == 0
    assert jobs.open_store(store).manifest.complete


def test_settings_are_handed_on_to_every_command(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "--config",
        TINY,
        "--boxes",
        "10..20",
        "--batch",
        "2",
        "--salvage",
        "--key-rule",
        "stem",
        "--set",
        "dtype=float32",
    ]
    told = json.loads(planned(capsys, str(photos), str(tmp_path / "s"), *given, "--sample", "1", "--json")[1])
    for text in told["commands"].values():
        for words in ("--boxes 10..20", "--batch 2", "--salvage", "--key-rule stem", "--set dtype=float32"):
            assert words in text
    array = next(text for name, text in told["commands"].items() if name.startswith("Slurm"))
    assert "--array=1-1%1" in array
    assert "--part $SLURM_ARRAY_TASK_ID/1" in array


@pytest.mark.parametrize("text", ["", "0", "1,x", "1,,2", "-4"])
def test_numbers_of_workers_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not understood"):
        numbers(text)


@pytest.mark.parametrize("words", [["--sample", "0"], ["--cores", "0"], ["--parts", "0"], ["--price", "nan"]])
def test_flags_that_make_no_sense_end_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "nowhere", *words]) == 2
    assert words[0] in capsys.readouterr().err
