"""A sample of a store: which records, what is found, and what that tells of the others."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest

from featx.care.sample import check_sample, choose, rate_bound, sample_size
from featx.cli import main
from featx.errors import UsageError
from featx.store import open_store
from tests.store_oracle import make_store
from tests.test_care_repair import data_files, harm, stored_names


@pytest.mark.parametrize(
    ("text", "records", "size"),
    [("5", 100, 5), ("500", 100, 100), ("2%", 100, 2), ("0.1%", 100, 1), ("100%", 7, 7), ("12.5 %", 16, 2)],
)
def test_a_size_is_a_number_or_a_share(text: str, records: int, size: int) -> None:
    assert sample_size(text, records) == size


@pytest.mark.parametrize("text", ["0", "-3", "2.5", "101%", "half", "%", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="sample"):
        sample_size(text, 100)


@pytest.mark.parametrize(("records", "checked", "damaged"), [(8, 3, 0), (8, 3, 1), (9, 5, 0), (9, 5, 2), (6, 6, 1)])
def test_the_bound_is_that_of_counting_all_samples(records: int, checked: int, damaged: int) -> None:
    def surely_seen(bad: int) -> bool:
        """Whether at most ``damaged`` of ``bad`` show in no more than one of twenty samples."""
        samples = list(combinations(range(records), checked))
        quiet = sum(sum(place < bad for place in sample) <= damaged for sample in samples)
        return Fraction(quiet, len(samples)) <= Fraction(1, 20)

    possible = [bad for bad in range(damaged, records - checked + damaged + 1) if not surely_seen(bad)]
    assert rate_bound(records, checked, damaged) == pytest.approx(max(possible, default=damaged) / records)


def test_a_thousand_sound_records_exclude_three_in_a_thousand() -> None:
    assert rate_bound(1_000_000, 1000, 0) == pytest.approx(0.003, abs=1e-4)  # the rule of three
    assert rate_bound(1000, 1000, 0) == 0.0


def test_a_seed_takes_the_same_records_and_another_others(tmp_path: Path) -> None:
    with open_store(make_store(tmp_path / "s", "lmdb", 60)) as store:
        first = choose(store, 10, 1)
        assert first == choose(store, 10, 1)
        assert len(set(first)) == 10
        assert set(first) != set(choose(store, 10, 2))
        assert choose(store, 100, 1) == list(store)
        drawn = [key for seed in range(300) for key in choose(store, 5, seed)]
        assert all(5 < drawn.count(key) < 65 for key in store)  # 29 expected of each


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_whole_sample_finds_the_damaged_record(tmp_path: Path, backend: str) -> None:
    store = make_store(tmp_path / "s", backend, 20, parts=2)
    assert check_sample(store, "100%").ok
    harm(store, stored_names()[5])
    found = check_sample(store, "100%")
    assert [problem.key for problem in found.problems] == [stored_names()[5]]
    assert (found.checked, found.damaged) == (18, 1)


def test_a_file_that_ends_early_is_told_without_reading_records(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", "lmdb", 20)
    file = data_files(store)[0]
    file.write_bytes(file.read_bytes()[:-1])
    assert not check_sample(store, "1").ok


def test_the_command_says_what_the_sample_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tmp_path / "s", "lmdb", 60)
    assert main(["verify", str(store), "--sample", "20", "--quiet"]) == 0
    assert "20 of 52 records checked, 0 damaged: a damage rate above" in capsys.readouterr().out
    assert main(["verify", str(store), "--sample", "50%", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["checked"], facts["damaged"], facts["ok"]) == (26, 0, True)
    assert main(["verify", str(store), "--sample", "x%"]) == 2
