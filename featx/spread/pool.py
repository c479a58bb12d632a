"""The run of all parts: workers are started, given parts, watched and replaced, until nothing is left to be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass

from featx.errors import FeatxError, Interrupted, StoreBusy, StoreDamaged, StoreError
from featx.runner.stopper import Stopper
from featx.spread.crew import Crew, Worker
from featx.spread.parts import Parts
from featx.spread.tally import Tally
from featx.spread.task import Build, Failure, Outcome, Task

TICK = 0.5  # seconds between two looks at parts under way
LAST = 20.0  # seconds that workers have when they are to stop at once


@dataclass
class Seat:
    """A worker and what it is at: a part, or None while it starts or has nothing to do. before: how the part stood."""

    worker: Worker
    future: Future[Outcome] | None
    part: int | None = None
    before: tuple[int, int] = (0, 0)


class Pool:
    """Does the parts in ``todo`` with the workers of a crew; ``task`` is what a worker is given for a part."""

    def __init__(
        self, crew: Crew, build: Build, todo: Parts, tally: Tally, task: Callable[[int], Task],
        on_note: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.crew, self.build, self.todo, self.tally, self.task = crew, build, todo, tally, task
        self._seats: list[Seat] = []
        self._error: FeatxError | None = None
        self._said: set[str] = set()
        self._stopped = False
        self._tell = on_note

    def run(self, resume_hint: str) -> None:
        """Do all of it. Raises Interrupted, what a part cannot be done without, and StoreError for parts left over."""
        with Stopper(self._note) as stopper:
            try:
                self._work(stopper)
            except BaseException:
                self._leave_at_once()
                raise
            for seat in self._seats:
                seat.worker.end(now=seat.future is not None)
        if self._error is not None:
            raise self._error
        if stopper.asked:
            raise Interrupted("stopped; everything computed so far is committed", resume_hint)
        self._check()

    def _work(self, stopper: Stopper) -> None:
        while True:
            stopping = stopper.asked or self._error is not None
            if stopping and not self._stopped:
                self._stop()
            if not stopping:
                self._hand_out()
            under_way = [seat for seat in self._seats if seat.future is not None]
            if not any(seat.part is not None for seat in under_way) and (stopping or not len(self.todo)):
                return  # some may still be starting, or wait for a node that will never be there again
            if under_way:
                futures = [seat.future for seat in under_way if seat.future is not None]
                wait(futures, TICK, FIRST_COMPLETED)
            else:
                time.sleep(TICK)  # what is left lies with others
            for seat in under_way:
                if seat.future is not None and seat.future.done():
                    self._collect(seat, seat.future)
            self.tally.look(seat.part for seat in self._seats if seat.part is not None)

    def _stop(self) -> None:
        """Let every worker finish its batch."""
        self._stopped = True
        for seat in list(self._seats):
            seat.worker.stop()
            if seat.part is None:
                self._remove(seat, now=True)

    def _leave_at_once(self) -> None:
        """The second Ctrl-C, or an error of this process."""
        if not self._stopped:
            self._stop()
            time.sleep(0.1)  # two signals at the same time would be one
        for seat in self._seats:
            seat.worker.stop()
        wait([seat.future for seat in self._seats if seat.future is not None and seat.part is not None], LAST)
        for seat in self._seats:
            with suppress(Exception):
                seat.worker.end(now=True)

    def _hand_out(self) -> None:
        now = time.monotonic()
        idle = [seat for seat in self._seats if seat.future is None]
        starting = sum(seat.future is not None and seat.part is None for seat in self._seats)
        wanted = self.todo.waiting(now) - len(idle) - starting
        for _ in range(min(wanted, self.crew.size - len(self._seats))):
            worker = self.crew.hire(self.build)
            self._seats.append(Seat(worker, worker.ready))
        for seat in idle:
            part = self.todo.take(now)
            if part is None:
                return
            self._begin(seat, part)

    def _begin(self, seat: Seat, part: int) -> None:
        seat.part, seat.before = part, self.tally.of(part)
        try:
            seat.future = seat.worker.do(self.task(part))
        except Exception as error:  # it ended while it had nothing to do
            self._died(seat, self.crew.why(error))

    def _collect(self, seat: Seat, future: Future[Outcome]) -> None:
        """A worker has answered, or has died."""
        seat.future = None
        error = future.exception()
        if error is not None:
            self._died(seat, self.crew.why(error))
            return
        outcome = future.result()
        for note in outcome.notes:
            self._note(note)
        if outcome.failure is not None:
            self._failed(seat, outcome.failure)
        elif seat.part is not None and outcome.summary is not None:
            self.todo.finished()
            self.tally.add(outcome.summary)
            self._free(seat)

    def _free(self, seat: Seat) -> None:
        if seat.part is not None:
            self.tally.look([seat.part])
        seat.part = None

    def _failed(self, seat: Seat, failure: Failure) -> None:
        error, part = failure.error(), seat.part
        if not failure.kind:  # a process in which something unforeseen happened is as good as dead
            self._died(seat, failure.message)
        elif part is None or not isinstance(error, Interrupted | StoreBusy | StoreDamaged):
            self._error = self._error or error
            self._free(seat)
        else:
            moved = self._moved(seat)
            if isinstance(error, StoreBusy):
                self.todo.busy(part, moved, error.message, time.monotonic())
            elif isinstance(error, StoreDamaged):
                self.todo.give_up(part, error.message)
            else:
                self.todo.back(part)
            self._free(seat)

    def _moved(self, seat: Seat) -> bool:
        assert seat.part is not None
        self.tally.look([seat.part])
        return self.tally.of(seat.part) != seat.before

    def _died(self, seat: Seat, why: str) -> None:
        """The worker is gone: what it was at goes to another one."""
        part = seat.part
        if part is None:
            self.todo.dropped_out()
            self._note(f"a worker ended before it had begun: {why}")
        else:
            name = self.tally.name(part)
            again = self.todo.died(part, self._moved(seat), why)
            self._tell(
                f"the worker of part {name} ended ({why}); " + ("another goes on" if again else "it is given up")
            )
        self._remove(seat, now=True)
        if self.todo.hopeless and self._error is None:
            self._error = StoreError(
                f"one worker after the other ended, and nothing more was done; the last one: {why}",
                "start one part by itself to see what is wrong: featx extract ... --part 1/n --debug",
            )

    def _remove(self, seat: Seat, *, now: bool) -> None:
        self._seats.remove(seat)
        seat.worker.end(now=now)

    def _check(self) -> None:
        """Raise StoreError for parts that were given up."""
        failed: Mapping[int, str] = self.todo.failed
        if failed:
            first = min(failed)
            count = f"{len(failed)} of {self.tally.parts} parts {'is' if len(failed) == 1 else 'are'} not finished"
            raise StoreError(
                f"{count}; part {self.tally.name(first)}: {failed[first]}",
                "all others are; `featx status` shows them, and the same command tries the rest again",
            )

    def _note(self, text: str) -> None:
        """Tell something; what all workers say is told once."""
        if text not in self._said:
            self._said.add(text)
            self._tell(text)
