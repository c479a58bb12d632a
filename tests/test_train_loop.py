"""The loop as a whole: when it evaluates and ends, what it exports, and how it fails."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from featx.errors import FeatxError, Interrupted, MissingDependency, StoreDamaged, UsageError
from featx.task import Group, Split
from featx.train import Outcome, TrainConfig, train
from featx.train.contents import contents
from featx.wants import Wants
from tests.toy_task import CONFIG, Example, Toy, events, kinds, make_store, toy, trained


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("loop") / "store")


def test_a_toy_learns(store: Path, tmp_path: Path) -> None:
    outcome = trained(store, tmp_path / "run", epochs=12, batch=2, lr=0.03)
    losses = [event["loss"] for event in kinds(tmp_path / "run", "epoch")]
    assert losses[-1] < 0.3 * losses[0]
    assert outcome.figures["accuracy"] is not None
    assert outcome.figures["accuracy"] >= 0.9
    assert (outcome.steps, outcome.epochs, outcome.reason) == (300, 12, "epochs")


def test_pieces_change_nothing_but_rounding(store: Path, tmp_path: Path) -> None:
    for pieces in (1, 4):
        trained(store, tmp_path / str(pieces), toy(noise=0.0), accumulate=pieces)
    one, four = (load_file(tmp_path / name / "final/model.safetensors") for name in "14")
    for name in one:
        torch.testing.assert_close(four[name], one[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("workers", [0, 3])
def test_the_number_of_threads_that_make_batches_changes_nothing(workers: int, store: Path, tmp_path: Path) -> None:
    for name, threads in (("a", 1), ("b", workers)):
        trained(store, tmp_path / name, toy(noise=0.5, dropout=0.2), workers=threads)
    assert events(tmp_path / "a") == events(tmp_path / "b")
    a, b = ((tmp_path / name / "final/model.safetensors").read_bytes() for name in "ab")
    assert a == b


def test_the_same_seed_makes_the_same_run_and_another_seed_another(store: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trained(store, tmp_path / name, toy(dropout=0.2), seed=seed)
    assert events(tmp_path / "a") == events(tmp_path / "b")
    assert events(tmp_path / "a") != events(tmp_path / "c")


def test_every_example_is_evaluated_in_order_whatever_the_batch(store: Path, tmp_path: Path) -> None:
    class Watched(Toy):
        def metric(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
            seen.append(([e.number for e in examples], predictions))
            return super().metric(examples, predictions)

    seen: list[Any] = []
    for size in (1, 4, 100):
        trained(store, tmp_path / str(size), toy(Watched, val=9), epochs=1, eval_batch=size)
    assert seen[0][0] == list(range(50, 59))
    assert seen[0] == seen[1] == seen[2]
    assert all(isinstance(p, list) for p in seen[0][1]), "tuples go through JSON, as with several processes"


def test_evaluations_come_every_n_epochs_and_at_the_end(store: Path, tmp_path: Path) -> None:
    for every, expected in ((1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (None, [5])):
        trained(store, tmp_path / str(every), epochs=5, evaluate_every=every)
        assert [event["epoch"] for event in kinds(tmp_path / str(every), "evaluation")] == expected


def test_the_best_export_is_that_of_the_best_evaluation(store: Path, tmp_path: Path) -> None:
    class Kept(Toy):
        def metric(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
            weights.append({name: value.clone() for name, value in self.model.state_dict().items()})
            return super().metric(examples, predictions)

    weights: list[dict[str, torch.Tensor]] = []
    outcome = trained(store, tmp_path / "run", toy(Kept, scores=[0.2, 0.7, 0.7, 0.5]), epochs=4)
    best = load_file(tmp_path / "run/best/model.safetensors")
    assert all(torch.equal(best[name], value) for name, value in weights[1].items()), "the first of two equals"
    final = load_file(tmp_path / "run/final/model.safetensors")
    assert all(torch.equal(final[name], value) for name, value in weights[3].items())
    assert outcome.best == {
        "name": "given", "value": 0.7, "epoch": 2, "step": 12, "figures": {"given": 0.7, "other": 0.0},
    }  # fmt: skip
    assert [event["best"] for event in kinds(tmp_path / "run", "evaluation")] == [True, True, False, False]


def test_a_score_that_is_no_number_is_never_the_best_of_several(store: Path, tmp_path: Path) -> None:
    outcome = trained(store, tmp_path / "run", toy(scores=[float("nan"), 0.1, float("nan"), 0.05]), epochs=4)
    assert outcome.best is not None
    assert outcome.best["epoch"] == 2
    assert [event["figures"]["given"] for event in kinds(tmp_path / "run", "evaluation")] == [None, 0.1, None, 0.05]


def test_an_export_says_what_it_was_trained_on(store: Path, tmp_path: Path) -> None:
    trained(store, tmp_path / "run", toy(scores=[0.2, 0.7, 0.5]))
    said = json.loads((tmp_path / "run/best/featx.json").read_text())
    assert said["provenance"]["weights"] == {"sha256": "toy-weights"}
    assert said["labels"] == {"objects": ["thing"]}
    assert (said["dim"], said["epoch"], said["step"], said["figures"]["given"]) == (12, 2, 12, 0.7)
    assert json.loads((tmp_path / "run/final/featx.json").read_text())["epoch"] == 3


def test_a_run_without_progress_ends_early(store: Path, tmp_path: Path) -> None:
    scores = [0.1, 0.5, 0.4, 0.6, 0.6, 0.5, 0.9]
    outcome = trained(store, tmp_path / "run", toy(scores=scores), epochs=7, patience=2)
    assert (outcome.epochs, outcome.reason) == (6, "patience")
    assert outcome.best is not None
    assert outcome.best["epoch"] == 4


def test_max_steps_ends_within_an_epoch_with_an_evaluation(store: Path, tmp_path: Path) -> None:
    outcome = trained(store, tmp_path / "run", max_steps=8, schedule="linear", warmup=0)
    assert (outcome.steps, outcome.epochs, outcome.reason) == (8, 2, "max_steps")
    assert [event["step"] for event in kinds(tmp_path / "run", "evaluation")] == [6, 8]
    assert kinds(tmp_path / "run", "train")[-1]["lr"] == pytest.approx(0.02 / 8), "the schedule ends where the run does"
    assert trained(store, tmp_path / "more", max_steps=100).steps == 18


def test_without_val_examples_there_is_no_evaluation_and_no_best(store: Path, tmp_path: Path) -> None:
    outcome = trained(store, tmp_path / "run", toy(val=0))
    assert (outcome.best, dict(outcome.figures)) == (None, {})
    assert not (tmp_path / "run/best").exists()
    assert (tmp_path / "run/final/model.safetensors").exists()
    with pytest.raises(UsageError, match="there are no val examples"):
        trained(store, tmp_path / "other", toy(val=0), patience=1)


def test_a_finished_run_is_not_run_again(store: Path, tmp_path: Path) -> None:
    first = trained(store, tmp_path / "run")
    task, before = toy(), (tmp_path / "run/log.jsonl").read_bytes()
    assert trained(store, tmp_path / "run", task) == first
    assert task.calls == 0
    assert (tmp_path / "run/log.jsonl").read_bytes() == before


def test_a_run_goes_on_with_the_same_examples_only(store: Path, tmp_path: Path) -> None:
    class Turned(Toy):
        def examples(self, split: Split) -> Sequence[Example]:
            return list(super().examples(split))[::-1]

    trained(store, tmp_path / "run")
    with pytest.raises(UsageError, match="another configuration") as caught:
        trained(store, tmp_path / "run", toy(Turned))
    named = [line.partition(":")[0].strip() for line in caught.value.message.splitlines()[1:]]
    assert named == ["contents.train", "contents.val"]


def test_the_contents_of_examples_are_all_that_is_in_them() -> None:
    class Plain:
        def __init__(self, text: str) -> None:
            self.text = text

        def __repr__(self) -> str:
            return self.text

    @dataclass(frozen=True)
    class Boxed:
        name: str
        boxes: np.ndarray[Any, Any]

    boxes = np.arange(4000, dtype=np.float32)
    other = boxes.copy()
    other[2000] += 1e-4
    told = [
        contents(examples)
        for examples in (
            [], [Example("p", 1), Example("p", 2)], [Example("p", 2), Example("p", 1)], [Example("p", 12)],
            [Plain("a"), Plain("b")], [Plain("ab")], [Boxed("a", boxes)], [Boxed("a", other)], [Boxed("b", boxes)],
        )
    ]  # fmt: skip
    assert len(set(told)) == len(told)
    assert told[1] == contents((Example("p", 1), Example("p", 2)))
    assert told[6] == contents([Boxed("a", boxes.copy())])


def test_fresh_deletes_nothing_where_the_new_run_cannot_begin(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(store, tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency, match="tensorboard"):
        train(toy(), store, TrainConfig(**CONFIG, tensorboard=True), tmp_path / "run", fresh=True)
    monkeypatch.undo()

    class Unlearnable(Toy):
        def groups(self) -> list[Group]:
            raise UsageError("nothing to learn")

    with pytest.raises(UsageError, match="nothing to learn"):
        train(toy(Unlearnable), store, TrainConfig(**CONFIG), tmp_path / "run", fresh=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_of_another_model_is_a_sentence(store: Path, tmp_path: Path) -> None:
    class Wider(Toy):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.model["more"] = torch.nn.Linear(3, 3)

    with pytest.raises(FeatxError):
        trained(store, tmp_path / "run", toy(nan=9))
    with pytest.raises(StoreDamaged, match="is not one of this model and its optimiser"):
        trained(store, tmp_path / "run", toy(Wider))


def test_time_is_counted_over_all_processes_of_a_run(store: Path, tmp_path: Path) -> None:
    """Three seconds waiting and one working a step, as a clock has it that the task moves; killed and gone on with."""
    now = [0.0]

    class Timed(Toy):
        def prepare(self, examples: Any, records: Any, rngs: Any) -> dict[str, torch.Tensor]:
            now[0] += 3.0
            return super().prepare(examples, records, rngs)

        def loss(self, batch: Any) -> dict[str, torch.Tensor]:
            now[0] += 1.0
            return super().loss(batch)

    def go(**options: Any) -> Outcome:
        config = TrainConfig(**{**CONFIG, "workers": 0})
        return train(toy(Timed, **options), store, config, tmp_path / "run", clock=lambda: now[0])

    with pytest.raises(FeatxError, match="at step 9"):
        go(nan=9)
    outcome = go()
    assert (outcome.steps, outcome.seconds, outcome.data) == (18, 72.0, 0.75)


def test_settings_that_do_not_bind_may_change_and_others_not(store: Path, tmp_path: Path) -> None:
    trained(store, tmp_path / "run")
    trained(store, tmp_path / "run", workers=3, log_every=1, keep=1, checkpoint_every=5)
    with pytest.raises(UsageError, match=r"train\.epochs: begun with 3, now 4"):
        trained(store, tmp_path / "run", epochs=4)


def test_a_loss_that_is_no_number_stops_the_run_at_its_step(store: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatxError) as caught:
        trained(store, tmp_path / "run", toy(nan=9))
    assert caught.value.exit_code == 1
    assert caught.value.message == "the loss became nan at step 9"
    assert "step-000000006-epoch-0001" in caught.value.hint
    assert "train.lr" in caught.value.hint
    kept = [path.name for path in (tmp_path / "run/checkpoints").glob("step-*")]
    assert kept == ["step-000000006-epoch-0001"], "nothing behind the step was kept"
    assert all(torch.isfinite(value).all() for value in load_file(tmp_path / "run/best/model.safetensors").values())


def test_a_checkpoint_is_not_written_behind_a_bad_loss(store: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatxError, match="at step 9"):
        trained(store, tmp_path / "run", toy(nan=9), checkpoint_every=3, log_every=1000, keep=9)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").glob("step-*"))
    assert kept == ["step-000000003-epoch-0000", "step-000000006-epoch-0001"]


def test_an_error_of_a_task_is_raised_and_the_run_can_go_on(store: Path, tmp_path: Path) -> None:
    class Broken(Toy):
        def prepare(self, examples: Any, records: Any, rngs: Any) -> dict[str, torch.Tensor]:
            if self.calls > 9:
                raise RuntimeError("no more")
            return super().prepare(examples, records, rngs)

    with pytest.raises(RuntimeError, match="no more"):
        trained(store, tmp_path / "run", toy(Broken, dropout=0.5))
    trained(store, tmp_path / "run", toy(dropout=0.5))
    trained(store, tmp_path / "whole", toy(dropout=0.5))
    assert events(tmp_path / "run") == events(tmp_path / "whole")


def test_a_signal_within_an_evaluation_is_heard_and_the_evaluation_done_again(store: Path, tmp_path: Path) -> None:
    class Called(Toy):
        predicted = 0

        def predict(self, batch: Any) -> list[Any]:
            self.predicted += 1
            if self.predicted == 7:  # 5 batches an evaluation: the second batch of the second
                os.kill(os.getpid(), signal.SIGTERM)
            return super().predict(batch)

    task = toy(Called, dropout=0.5)
    with pytest.raises(Interrupted, match="stopped after step 12 of 18") as caught:
        trained(store, tmp_path / "run", task, eval_batch=2)
    assert caught.value.exit_code == 130
    assert task.predicted == 7
    assert len(kinds(tmp_path / "run", "evaluation")) == 1
    trained(store, tmp_path / "run", toy(dropout=0.5), eval_batch=2)
    trained(store, tmp_path / "whole", toy(dropout=0.5), eval_batch=2)
    assert events(tmp_path / "run") == events(tmp_path / "whole")


def test_what_prepare_draws_is_its_own_at_every_place_and_the_same_again(store: Path, tmp_path: Path) -> None:
    class Drawing(Toy):
        def prepare(self, examples: Any, records: Any, rngs: Any) -> dict[str, torch.Tensor]:
            drawn.extend(rng.random() for rng in rngs or ())
            return super().prepare(examples, records, rngs)

    drawn: list[float] = []
    for name, seed, pieces in (("a", 1, 1), ("b", 1, 2), ("c", 2, 2)):
        trained(store, tmp_path / name, toy(Drawing), seed=seed, accumulate=pieces, workers=0)
    count = 3 * 6 * 8  # an evaluation is given nothing to draw from
    assert drawn[:count] == drawn[count : 2 * count], "the same in pieces"
    assert len(set(drawn)) == 2 * count
    assert len(drawn) == 3 * count


@pytest.mark.parametrize(("made", "message"), [
    (lambda task, batch: [1], "made 2 predictions for 10 examples"),
    (lambda task, batch: [torch.ones(1)] * len(batch["x"]), "a prediction of task toy is not JSON"),
])  # fmt: skip
def test_predictions_that_cannot_be_used_are_refused(made: Any, message: str, store: Path, tmp_path: Path) -> None:
    class Odd(Toy):
        predict = made

    with pytest.raises(FeatxError, match=message):
        trained(store, tmp_path / "run", toy(Odd))


def test_a_metric_without_a_score_is_refused(store: Path, tmp_path: Path) -> None:
    class Silent(Toy):
        def metric(self, examples: Any, predictions: Any) -> dict[str, float]:
            return {}

    with pytest.raises(FeatxError, match="returned no score"):
        trained(store, tmp_path / "run", toy(Silent))


class Storeless(Toy):
    """A task with data of its own."""

    def wants(self) -> Wants | None:  # type: ignore[override]
        return None

    def prepare(self, examples: Sequence[Example], records: Any, rngs: Any) -> dict[str, torch.Tensor]:
        assert records is None
        x = torch.tensor([[float((e.number * k) % 7 - 3) for k in range(1, 13)] for e in examples])
        return {"x": x, "y": (x.sum(1) > 0).float()}


def test_a_task_without_a_store_is_given_none(store: Path, tmp_path: Path) -> None:
    trained(None, tmp_path / "run", toy(Storeless))
    notes: list[str] = []
    train(toy(Storeless), store, TrainConfig(**CONFIG), tmp_path / "other", on_note=notes.append)
    assert notes == ["task toy reads no store; the one that was given is not used"]
    assert json.loads((tmp_path / "run/final/featx.json").read_text())["store"] is None


def test_examples_are_asked_for_once(store: Path, tmp_path: Path) -> None:
    class Counted(Toy):
        asked: Mapping[str, int] = {}

        def examples(self, split: Split) -> Sequence[Example]:
            self.asked = {**self.asked, split: self.asked.get(split, 0) + 1}
            return super().examples(split)

    task = toy(Counted)
    trained(store, tmp_path / "run", task)
    assert task.asked == {"train": 1, "val": 1}
