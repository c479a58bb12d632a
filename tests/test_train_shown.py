"""What a run tells: the share of time it waited for data, the bar, the lines, JSON, TensorBoard."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from featx.train import Outcome, TrainConfig, train
from featx.train.display import Display
from featx.train.watch import Watch
from tests.toy_task import CONFIG, Toy, kinds, make_store, toy, trained


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("shown") / "store")


def test_tensorboard_has_the_figures_of_the_log(store: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trained(store, tmp_path / "run", tensorboard=True)
    board = accumulator.EventAccumulator(str(tmp_path / "run/tensorboard"))
    board.Reload()
    for name, kind, value in (
        ("train/loss", "train", "loss"),
        ("train/lr", "train", "lr"),
        ("train/norm", "train", "norm"),
    ):
        logged = [(event["step"], event[value]) for event in kinds(tmp_path / "run", kind)]
        shown = [(scalar.step, pytest.approx(scalar.value)) for scalar in board.Scalars(name)]
        assert logged == shown
    assert len(board.Scalars("evaluation/accuracy")) == 3


class Clock:
    """Time that passes only when somebody lets it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_share_of_time_in_data_is_the_waiting_of_the_loop(store: Path, tmp_path: Path) -> None:
    clock = Clock()

    class Timed(Toy):
        def prepare(self, examples: Any, records: Any, rngs: Any) -> dict[str, torch.Tensor]:
            clock.now += 3.0 if rngs is not None else 1000.0  # an evaluation does not count
            return super().prepare(examples, records, rngs)

        def loss(self, batch: Any) -> dict[str, torch.Tensor]:
            clock.now += 1.0
            return super().loss(batch)

    config = TrainConfig(**{**CONFIG, "workers": 0})
    outcome = train(toy(Timed), store, config, tmp_path / "run", clock=clock)
    assert (outcome.data, outcome.seconds) == (0.75, 72.0)
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["time"] for line in lines if line["event"] == "epoch"] == [{"seconds": 24.0, "data": 0.75}] * 3
    assert "75.0% of it waiting for data" in str(outcome)


@pytest.mark.parametrize(("prepare", "step", "least", "most"), [(0.2, 0.0, 0.3, 1.0), (0.0, 0.2, 0.0, 0.5)])
def test_a_stalled_feed_shows_and_a_quick_one_does_not(
    prepare: float, step: float, least: float, most: float, store: Path, tmp_path: Path
) -> None:
    """Bounds so wide that a machine with other work to do keeps them too."""

    class Slow(Toy):
        def loss(self, batch: Any) -> dict[str, torch.Tensor]:
            time.sleep(step)
            return super().loss(batch)

    assert least <= trained(store, tmp_path / "run", toy(Slow, slow=prepare), epochs=2).data <= most


def test_a_watch_adds_up() -> None:
    clock = Clock()
    watch = Watch(clock)
    assert watch.share == 0.0
    with watch.waiting():
        clock.now += 1
    with watch.working():
        clock.now += 3
    clock.now += 100
    assert (watch.seconds, watch.share) == (4, 0.25)
    assert (watch + watch).to_dict() == {"seconds": 8, "data": 0.25}


TRAIN = {"event": "train", "epoch": 1, "step": 30, "loss": 0.5, "lr": 0.001, "norm": 2.0, "time": {"data": 0.01}}
EVALUATION = {"event": "evaluation", "epoch": 1, "step": 30, "figures": {"f": 0.25, "g": None}, "best": True}


def test_away_from_a_terminal_a_plain_line_comes_now_and_then() -> None:
    clock, stream = Clock(), io.StringIO()
    display = Display(100, 10, stream=stream, clock=clock)
    for clock.now in (1.0, 10.0, 40.0, 41.0):
        display.show(TRAIN)
    display.show(EVALUATION)
    display.close()
    assert stream.getvalue().splitlines() == [
        "step 30/100, 0.5/s, ETA 0:02:20, loss 0.5, lr 0.001, data 1.0%", "epoch 1: f 0.25, g not finite (best)",
    ]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_with_rate_eta_loss_and_share() -> None:
    stream = Terminal()
    display = Display(100, 10, stream=stream)
    display.show(TRAIN)
    for _ in range(20):
        display.advance()
    display.show(EVALUATION)
    display.close()
    shown = stream.getvalue()
    assert "30/100" in shown
    assert "loss 0.5, lr 0.001, data 1.0%" in shown
    assert "epoch 1: f 0.25, g not finite (best)" in shown


def test_json_lines_are_the_events_and_quiet_is_quiet() -> None:
    stream = io.StringIO()
    Display(100, json=True, quiet=True, stream=stream).show(TRAIN)
    assert json.loads(stream.getvalue()) == TRAIN
    stream = Terminal()
    display = Display(100, quiet=True, stream=stream)
    for event in (TRAIN, EVALUATION):
        display.show(event)
    display.advance()
    display.close()
    assert stream.getvalue() == ""


def test_one_is_not_told_as_many() -> None:
    told = [str(Outcome("run", count, count, "epochs", {}, None, 3.0, 0.5)) for count in (1, 2)]
    assert [text.partition(";")[0] for text in told] == ["1 epoch, 1 step", "2 epochs, 2 steps"]
