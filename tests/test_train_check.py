"""A store that is not what the task wants is refused before the first step, and every difference is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.errors import UsageError
from featx.train import TrainConfig, train
from featx.train.check import missing_keys
from tests.toy_task import PROVENANCE, Toy, events, make_store

CONFIG = TrainConfig(epochs=1, batch=8, workers=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("check") / "store")


def refusal(task: Toy, store: Any, out: Path, **more: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        train(task, store, CONFIG, out, **more)
    assert task.calls == 0, "a step was taken"
    assert not out.exists(), "something was written"
    return caught.value


def allowed(task: Toy, store: Any, out: Path) -> list[str]:
    """The notes of a run with the override, which must be said, logged and kept alike."""
    said: list[str] = []
    train(task, store, CONFIG, out, allow_mismatch=True, on_note=said.append)
    logged = json.loads((out / "log.jsonl").read_text().splitlines()[0])
    kept = json.loads((out / "config.json").read_text())
    assert said == logged["notes"] == kept["mismatch"]
    assert task.calls == kept["examples"]["train"] // 8
    return said


@pytest.mark.parametrize(("wants", "named"), [
    ({"profile": "other"}, "profile: found toy-profile, expected other"),
    ({"weights": "0123abcd"}, "weights: found toy-weights, expected 0123abcd"),
])  # fmt: skip
def test_a_store_of_another_make_is_refused_and_the_override_is_logged(
    wants: dict[str, Any], named: str, store: Path, tmp_path: Path
) -> None:
    error = refusal(Toy(wants=wants), store, tmp_path / "run")
    assert f"train: {named}" in error.message
    assert f"val: {named}" in error.message
    assert error.hint.endswith("--allow-mismatch")
    notes = allowed(Toy(wants=wants), store, tmp_path / "run")
    assert [note.partition(" (")[0] for note in notes] == [f"train: {named}", f"val: {named}"]


def test_a_difference_may_be_allowed_where_there_are_no_val_examples(store: Path, tmp_path: Path) -> None:
    notes = allowed(Toy(val=0, wants={"weights": "other"}), store, tmp_path / "run")
    assert any("weights" in note for note in notes)


@pytest.mark.parametrize(("wants", "named"), [
    ({"dim": 14}, "dim: found 12, expected 14"),
    ({"fields": ("features", "attribute_ids")},
     "fields: found features, boxes, object_ids, object_confs, expected attribute_ids"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_whatever_is_allowed(
    wants: dict[str, Any], named: str, store: Path, tmp_path: Path
) -> None:
    for allow in (False, True):
        error = refusal(Toy(wants={**wants, "profile": "other"}), store, tmp_path / "run", allow_mismatch=allow)
        assert f"train: {named}" in error.message
        assert "train: profile: found toy-profile" in error.message
        assert error.hint == "extract the store again as expected"


def test_a_real_model_is_not_trained_on_features_it_cannot_read(tmp_path: Path) -> None:
    from featx.tasks.vqa import LxmertVqa
    from tests import lxmert_toys as toys

    wide = {f"p{i}": replace(toys.record(i), features=np.ones((toys.ROWS, 20), np.float32)) for i in range(8)}
    where = {"train": toys.make_store(tmp_path / "a"), "val": toys.make_store(tmp_path / "b", wide)}
    task = LxmertVqa.from_options(toys.options(toys.write_questions(tmp_path / "q.json")))
    with pytest.raises(UsageError, match="val: dim: found 20, expected 16"):
        train(task, where, CONFIG, tmp_path / "run", allow_mismatch=True)


def test_the_stores_of_a_model_that_knows_of_none_must_be_alike(store: Path, tmp_path: Path) -> None:
    fresh = {"dim": None, "profile": None, "weights": None}
    other = make_store(tmp_path / "other", dim=14, provenance={"profile": {"hash": "b"}, "weights": {"sha256": "c"}})
    message = refusal(Toy(wants=fresh), {"train": store, "val": other}, tmp_path / "run").message
    assert [line.strip().partition(" (")[0] for line in message.splitlines()[1:]] == [
        "val: dim: found 14, expected 12", "val: profile: found b, expected toy-profile",
        "val: weights: found c, expected toy-weights",
    ]  # fmt: skip
    train(Toy(wants=fresh), {"train": other, "val": other}, CONFIG, tmp_path / "run")


def test_a_split_that_would_lose_all_its_examples_is_refused(tmp_path: Path) -> None:
    short = make_store(tmp_path / "short", 40)
    error = refusal(Toy(train=40, val=9, pictures=60), short, tmp_path / "run", allow_mismatch=True)
    assert "val: pictures: found no record for 9 of 9 pictures" in error.message


def test_a_store_that_says_nothing_of_its_make_is_not_trusted(tmp_path: Path) -> None:
    silent = make_store(tmp_path / "silent", provenance={"extractor": "someone"})
    error = refusal(Toy(), silent, tmp_path / "run")
    assert "profile: found nothing stated, expected toy-profile" in error.message
    assert "weights: found nothing stated, expected toy-weights" in error.message
    train(Toy(wants={"profile": None, "weights": None}), silent, CONFIG, tmp_path / "run")


def test_missing_pictures_are_counted_and_the_first_named(tmp_path: Path) -> None:
    short = make_store(tmp_path / "short", 41)
    error = refusal(Toy(train=100, pictures=50), short, tmp_path / "run")
    assert (
        "train: pictures: found no record for 9 of 50 pictures, of 18 of 100 examples: p41, p42, p43, p44, p45, ..., "
        "expected a record for each"
    ) in error.message
    assert "val" not in error.message


def test_examples_without_a_record_are_dropped_under_the_override(tmp_path: Path) -> None:
    short, out = make_store(tmp_path / "short", 41), tmp_path / "run"
    task = Toy(train=70, val=25, pictures=50)
    notes = allowed(task, short, out)
    assert len(notes) == 2
    assert json.loads((out / "config.json").read_text())["examples"] == {"train": 61, "val": 21}
    assert events(out)[0]["step"] == 7, "61 examples make 7 batches"


def test_all_differences_are_told_at_once(tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", 41, dim=14, provenance={"profile": {"hash": "x"}, "weights": None})
    message = refusal(Toy(wants={"fields": ["masks"]}), other, tmp_path / "run").message
    lines = [line.strip().removeprefix("train: ") for line in message.splitlines() if "train: " in line]
    assert [line.partition(":")[0] for line in lines] == ["fields", "dim", "profile", "weights", "pictures"]


def test_each_split_is_compared_with_its_own_store(store: Path, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", provenance={**PROVENANCE, "weights": {"sha256": "y"}})
    message = refusal(Toy(), {"train": store, "val": other}, tmp_path / "run").message
    assert "val: weights: found y" in message
    assert "train:" not in message


@pytest.mark.parametrize(("stores", "split"), [(None, "train"), ("train", "val")])
def test_a_task_that_reads_a_store_must_be_given_one(stores: Any, split: str, store: Path, tmp_path: Path) -> None:
    error = refusal(Toy(), None if stores is None else {"train": store}, tmp_path / "run")
    assert f"none was given for its {split} examples" in error.message


def test_a_run_is_not_gone_on_with_on_another_store(store: Path, tmp_path: Path) -> None:
    train(Toy(), store, CONFIG, tmp_path / "run")
    with pytest.raises(UsageError, match=r"stores\.train\.records: begun with 60, now 61"):
        train(Toy(), make_store(tmp_path / "more", 61), CONFIG, tmp_path / "run")


def test_keys_are_listed_once_and_only_those_that_seem_missing_looked_up() -> None:
    class Listed:
        looked: list[object] = []  # noqa: RUF012

        def keys(self) -> Iterator[str]:
            return (f"picture {n}" for n in range(400_000))

        def __contains__(self, key: object) -> bool:
            self.looked.append(key)
            return key == "found under another spelling"

    store: Any = Listed()
    wanted = [f"picture {n}" for n in range(0, 400_000, 7)]
    assert missing_keys([*wanted, "found under another spelling", "nowhere"], store) == {"nowhere": None}
    assert store.looked == ["found under another spelling", "nowhere"]


def test_a_key_may_be_spelt_as_the_store_would_not(tmp_path: Path) -> None:
    from featx.store import open_store

    with open_store(make_store(tmp_path / "s", 2)) as store:
        assert missing_keys(["p0", "p1", "p2"], store) == {"p2": None}
