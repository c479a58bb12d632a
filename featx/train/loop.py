"""The one training loop: any task, from a store or none, until it is done or stopped; and on from there, exactly."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from featx.errors import Interrupted
from featx.loading.feed import Feed
from featx.task import Task
from featx.train.check import check
from featx.train.checkpoint import State
from featx.train.config import TrainConfig
from featx.train.display import Display
from featx.train.distributed import World, join
from featx.train.evaluation import evaluate
from featx.train.journal import Journal, last_event, plain, summary_writer
from featx.train.keeper import Keeper
from featx.train.learner import Learner
from featx.train.meter import Meter
from featx.train.outcome import Outcome
from featx.train.run import Run
from featx.train.sources import Sources, opened
from featx.train.stop import Stop
from featx.train.supply import Made, Place, Supply
from featx.train.teller import Teller
from featx.train.watch import Watch

Note = Callable[[str], None]


def train(
    task: Task,
    stores: Sources,
    config: TrainConfig,
    out: str | os.PathLike[str],
    *,
    options: Mapping[str, Any] | None = None,
    allow_mismatch: bool = False,
    fresh: bool = False,
    quiet: bool = True,
    json_lines: bool = False,
    on_note: Note = lambda text: None,
    resume_hint: str = "run the same command again to go on",
    clock: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """Train ``task`` into the folder ``out``; go on where a former run with the same configuration was stopped.

    stores: one path (or StoreReader), or one for each of ``train`` and ``val``; None for a task that reads none.
    options: what the task was built from, to be compared when a run goes on. allow_mismatch: train on a store that is
    not what the task wants. fresh: delete a former run in ``out``. quiet, json_lines: what is shown meanwhile. on_note:
    takes sentences that a person should read.

    Started by ``torchrun``, every process calls this with a task of its own; ``out`` must be a folder that all see.
    Raises UsageError for settings, a store or a folder that do not fit; FeatxError for a loss that is not finite;
    Interrupted after Ctrl-C or SIGTERM, once a checkpoint is written.
    """
    with ExitStack() as stack:
        world = stack.enter_context(join(config.device))
        readers = stack.enter_context(opened(stores))
        checked = check(task, readers, {s: task.examples(s) for s in ("train", "val")}, allow=allow_mismatch)
        supply = Supply.of(task, config, world, readers, checked.examples)
        begin_with = supply.describe(options or {}, checked.notes)
        run = Run(Path(out), config.keep)
        loop = _Loop(supply, run, resume_hint, clock)  # what cannot be built fails before a former run is deleted
        stack.callback(loop.learner.close)
        world.by_first(lambda: _take(stack, run, fresh=fresh))
        notes = [*task.notes, *checked.notes, *run.enter(begin_with, world)]
        if run.finished:
            return _ended(run, Display(0, json=json_lines, quiet=quiet or not world.first), world)
        notes += loop.restore(begin_with)
        world.by_first(lambda: _speak(stack, loop, notes, on_note, json_lines=json_lines, quiet=quiet))
        loop.greet(notes)
        with Stop() as stop:
            return loop.go(stop)


class _Loop:
    """A run in this process: its state, and all that works on it."""

    def __init__(self, supply: Supply, run: Run, hint: str, clock: Callable[[], float]) -> None:
        config = supply.config
        self.supply, self.config, self.run, self.world, self.task = supply, config, run, supply.world, supply.task
        self.steps = min(config.epochs * supply.steps, config.max_steps or config.epochs * supply.steps)
        self.state = State()
        self.learner = Learner(self.task, config, self.steps, self.world)
        meter = Meter(self.world, lenient=config.precision == "float16", advice=self._advice)
        self.keeper = Keeper(run.checkpoints, self.learner, meter, config, self.world)
        self.meter, self.teller = meter, Teller()
        self.watch, self.past = Watch(clock), Watch(clock)  # of this epoch, and of all before it
        if config.tensorboard:
            summary_writer()
        self._hint = hint

    def restore(self, config: dict[str, Any]) -> list[str]:
        """Go back to the last checkpoint, if there is one. Returns what a person should know of it."""
        self.state, notes = self.keeper.restore()
        self.state.config = config
        self.past = self.past.anew(self.state.data, self.state.work)
        return notes

    def greet(self, notes: Sequence[str]) -> None:
        """Say in the log that a process begins here, or goes on."""
        self._tell("resume" if self.state.step else "start", steps=self.steps, notes=list(notes))

    def go(self, stop: Stop) -> Outcome:
        """From where the state is to the end. Raises Interrupted when it was asked to stop."""
        state = self.state
        with self.supply.training(state.epoch, state.position) as feed:
            while not self._reason():
                while self._within_epoch():
                    self._step(feed)
                    if self.world.any(stop.asked):
                        self._interrupt()
                    if self.config.checkpoint_every and state.step % self.config.checkpoint_every == 0:
                        self._save()
                if self._evaluation_due() and not self._evaluate(stop):
                    self._interrupt()
                state.epoch, state.position = state.epoch + 1, 0
                self._save()
        return self._finish()

    @property
    def _epoch(self) -> int:
        """The epoch that is open, counted from 1; between two, the one that is done."""
        return self.state.epoch + (self.state.position > 0)

    def _within_epoch(self) -> bool:
        return self.state.position < self.supply.steps and self.state.step < self.steps

    def _reason(self) -> str:
        """Why the run is over; '' while it is not, and while an epoch is open."""
        if self.state.position:
            return ""
        if self.config.patience is not None and self.state.stale >= self.config.patience:
            return "patience"
        if self.state.epoch == self.config.epochs:
            return "epochs"
        return "max_steps" if self.state.step == self.steps else ""

    def _step(self, feed: Feed[Place, Made]) -> None:
        """One step: wait for its pieces, learn from them, tell of it when it is time."""
        state = self.state
        with self.watch.waiting():
            pieces = [next(feed) for _ in range(self.config.accumulate)]
        with self.watch.working():
            scalars = self.learner.step([self.supply.place(piece) for piece in pieces], state.step)
            for piece in pieces:
                piece.release()
            state.step, state.position = state.step + 1, state.position + 1
            self.meter.add(state.step, scalars)
            due = state.step % self.config.log_every == 0 or not self._within_epoch()
            line = self.meter.line() if due else None
        if line is not None:
            self._tell("train", **line, lr=self.learner.rate(state.step - 1), time=self._longest(self.watch).to_dict())
        self.teller.advance()
        if not self._within_epoch():
            self._tell("epoch", loss=self.meter.epoch(), time=self._longest(self.watch).to_dict())
            self.past, self.watch = self.past + self.watch, self.watch.anew()

    def _longest(self, watch: Watch) -> Watch:
        """Of the process that waited longest for data: meanwhile the others waited for it, which they take for work."""
        return watch.anew(*max(self.world.gather([watch.data, watch.work])))

    def _evaluation_due(self) -> bool:
        every, last = self.config.evaluate_every, self.state.step == self.steps
        due = last or (every is not None and (self.state.epoch + 1) % every == 0)
        return due and len(self.supply.examples["val"]) > 0

    def _evaluate(self, stop: Stop) -> bool:
        """Score the val examples, export the model if it is the best so far. False when it was asked to stop."""
        state = self.state
        with self.supply.evaluation() as feed, self.teller.doing("evaluation "):
            examples = self.supply.examples["val"]
            figures = evaluate(self.task, examples, feed, self.world, self._predict, lambda: stop.asked)
        if figures is None:
            return False
        state.figures, name = figures, next(iter(figures))
        best = state.best is None or math.isnan(state.best["value"]) or figures[name] > state.best["value"]
        state.stale = 0 if best else state.stale + 1
        self._tell("evaluation", figures=figures, best=best)
        if best:
            where = {"epoch": self._epoch, "step": state.step}
            state.best = {"name": name, "value": figures[name], **where, "figures": figures}
            self._export(self.run.best)
        return True

    def _predict(self, made: Made) -> list[Any]:
        with self.learner.autocast():
            found = self.task.predict(self.supply.place(made))
        made.release()
        return found

    def _export(self, target: Path) -> None:
        where = {"epoch": self._epoch, "step": self.state.step, "figures": self.state.figures}
        trained_on = {**self.supply.provenance(), **where}
        self.world.by_first(lambda: self.run.export(target, lambda folder: self.task.export(folder, trained_on)))

    def _finish(self) -> Outcome:
        state, spent = self.state, self._longest(self.past + self.watch).to_dict()
        end = {"reason": self._reason(), "figures": state.figures, "best": state.best, "time": spent}
        event = self._tell("end", **end)
        if self.world.first:
            self.teller.sync()
        self._export(self.run.final)
        return Outcome.of(event, str(self.run.folder))

    def _save(self) -> None:
        spent = self._longest(self.past + self.watch)
        self.state.data, self.state.work = spent.data, spent.work
        self.keeper.save(self.state, self.teller)

    def _interrupt(self) -> NoReturn:
        self._save()
        raise Interrupted(f"stopped after step {self.state.step} of {self.steps}; a checkpoint is kept", self._hint)

    def _tell(self, kind: str, **content: Any) -> dict[str, Any]:
        event: dict[str, Any] = plain({"event": kind, "epoch": self._epoch, "step": self.state.step, **content})
        self.teller.tell(event)
        return event

    def _advice(self) -> str:
        kept = self.keeper.checkpoints.latest()
        where = f"the last checkpoint before it is {kept}" if kept else "there was no checkpoint before it"
        return (
            f"{where}; try a lower train.lr, a longer train.warmup, train.clip, or train.precision float32, "
            "and begin anew with --fresh"
        )


def _ended(run: Run, display: Display, world: World) -> Outcome:
    """The outcome of a run that came to its end before."""
    event = world.by_first(lambda: last_event(run.log, "end"))
    display.show(event)
    return Outcome.of(event, str(run.folder))


def _take(stack: ExitStack, run: Run, *, fresh: bool) -> None:
    """Hold the folder of the run, made ready, until ``stack`` ends."""
    stack.enter_context(run.lock())
    run.prepare(fresh=fresh)


def _speak(
    stack: ExitStack, loop: _Loop, notes: Sequence[str], on_note: Note, *, json_lines: bool, quiet: bool
) -> None:
    """Say ``notes``; until ``stack`` ends there are a display and the log, cut to where the state is."""
    for text in notes:
        on_note(text)
    run, state = loop.run, loop.state
    board = run.tensorboard if loop.config.tensorboard else None
    display = Display(loop.steps, state.step, json=json_lines, quiet=quiet)
    loop.teller = stack.enter_context(Teller(Journal(run.log, state.log, board, state.step), display))
