"""How a run is doing: pictures per second, time left, refusals, and where the time goes.

On a terminal this is a bar; elsewhere a plain line now and then; with ``json`` one JSON object per line on
stdout. No colours, so NO_COLOR holds. Every method may be called from any thread.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
_COUNT = "{n_fmt} [{elapsed}, {rate_noinv_fmt}{postfix}]"  # where nobody knows how many there are
_LINE_SECONDS = 30.0  # between plain lines: a log of a night stays readable
_JSON_SECONDS = 1.0
_BAR_SECONDS = 0.1
Tick = Callable[[int], object]  # is told that so much more is done, or, before it begins, how much there is


@dataclass(frozen=True)
class Summary:
    """What a run did. pictures: records made by this run; refused: lines it added to the ledger; seconds: wall
    time; rate: pictures, made or refused, per second; shares: busy time of each stage over that of all; limit: the
    stage that the others waited for, None where stages do not work side by side."""

    pictures: int
    refused: int
    seconds: float
    rate: float
    shares: Mapping[str, float]
    limit: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def __str__(self) -> str:
        pictures = f"{self.pictures:,} picture{'' if self.pictures == 1 else 's'}"
        text = f"{pictures} in {_duration(self.seconds)} ({self.rate:.3g}/s), {self.refused:,} refused"
        text += f"; {percentages(self.shares)}" if self.shares else ""
        return f"{text}; limit: {self.limit}" if self.limit else text


def percentages(shares: Mapping[str, float]) -> str:
    """``decode 3% network 95% write 2%``."""
    return " ".join(f"{stage} {share:.0%}" for stage, share in shares.items())


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # tqdm's watching thread would not survive a fork


class Progress:
    """Counts pictures and busy time of one run.

    total: pictures of this part, None where only reading can tell; done_before: those that an earlier run finished,
    which count as done but not for the rate. unit: what is counted; "B" are bytes, told in kB, MB and so on.
    ``time("decode")`` measures a stage; stages run in several threads at once, so the shares are of busy time: the
    seconds all threads spent in a stage, over the seconds they spent in any.
    quiet: show nothing (but ``json``, being asked for, is still written). clock: seconds, for tests.
    """

    def __init__(
        self,
        total: int | None,
        done_before: int = 0,
        stream: TextIO | None = None,
        json: bool = False,
        quiet: bool = False,
        *,
        unit: str = "pictures",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._before, self._unit = total, done_before, unit
        self._stream = (sys.stdout if json else sys.stderr) if stream is None else stream
        self._clock = clock
        self._lock = threading.RLock()
        self._busy: dict[str, float] = {}
        self._lanes: dict[str, int] = {}
        self._finished = self._refused = 0
        self._begin = self._shown = clock()
        self._summary: Summary | None = None
        self._bar: _Bar | None = None
        self._show: Callable[[], None] = lambda: None
        self._every = _LINE_SECONDS
        if quiet and not json:
            return
        if json:
            self._show, self._every = self._show_json, _JSON_SECONDS
        elif self._stream.isatty():
            self._bar = _Bar(
                total=total, initial=done_before, file=self._stream, unit=unit if unit == "B" else f" {unit}",
                unit_scale=unit == "B", bar_format=_COUNT if total is None else _BAR, dynamic_ncols=True,
                mininterval=_BAR_SECONDS,
            )  # fmt: skip
            self._show, self._every = self._show_bar, _BAR_SECONDS
        else:
            self._show = self._show_line

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Measure the body as busy time of ``stage``, also when it raises."""
        begin = self._clock()
        try:
            yield
        finally:
            self.add(stage, self._clock() - begin)

    def add(self, stage: str, seconds: float) -> None:
        """Add busy time measured elsewhere."""
        with self._lock:
            self._busy[stage] = self._busy.get(stage, 0.0) + seconds

    def lanes(self, **threads: int) -> None:
        """Stages that work side by side with bounded queues between them, and how many threads each of them has.

        The fullest of them, busy time over threads, is what limits the run: the others wait for it.
        """
        with self._lock:
            self._lanes = threads

    def _limit(self) -> str | None:
        full = {stage: self._busy[stage] / threads for stage, threads in self._lanes.items() if stage in self._busy}
        return max(full, key=full.__getitem__, default=None)

    def advance(self, n: int = 1, refused: int = 0) -> None:
        """``n`` more pictures are finished, ``refused`` of them because they were refused."""
        with self._lock:
            self._finished += n
            self._refused += refused
            if self._bar is not None:
                self._bar.n += n
            if self._clock() - self._shown >= self._every:
                self._shown = self._clock()
                self._show()

    def summary(self) -> Summary:
        """How it stands now."""
        with self._lock:
            seconds, busy = self._clock() - self._begin, sum(self._busy.values())
            shares = {stage: spent / busy for stage, spent in sorted(self._busy.items())} if busy else {}
            rate = self._finished / seconds if seconds else 0.0
            return Summary(self._finished - self._refused, self._refused, seconds, rate, shares, self._limit())

    def close(self) -> Summary:
        """Show the last state and stop. Calling it again returns the same summary."""
        with self._lock:
            if self._summary is None:
                self._summary = self.summary()
                self._show()
                if self._bar is not None:
                    self._bar.close()
            return self._summary

    def _seconds_left(self, rate: float) -> float | None:
        if self._total is None or not rate:
            return None
        return (self._total - self._before - self._finished) / rate

    def _show_bar(self) -> None:
        assert self._bar is not None
        summary = self.summary()
        refused = f"{summary.refused:,} refused, " if summary.refused else ""
        self._bar.set_postfix_str(refused + percentages(summary.shares), refresh=False)
        self._bar.refresh()

    def _show_line(self) -> None:
        if self._summary is not None and not self._finished:
            return  # nothing was to do, and a rate of nothing says nothing
        summary = self._summary or self.summary()
        left = self._seconds_left(summary.rate)
        eta = "unknown" if left is None else _duration(left)
        refused = f", {summary.refused:,} refused" if summary.refused else ""
        shares = f"; {percentages(summary.shares)}" if summary.shares else ""
        done, total, rate = self._before + self._finished, self._total, summary.rate
        if self._unit == "B":
            amount = f"{_size(done)} of {'?' if total is None else _size(total)}, {_size(rate)}/s"
        else:
            amount = f"{done:,}/{'?' if total is None else format(total, ',')} {self._unit}, {rate:.3g}/s"
        print(
            f"{amount}, ETA {eta}{refused}{shares}",
            file=self._stream,
            flush=True,
        )

    def _show_json(self) -> None:
        summary = self._summary or self.summary()
        state = {
            "event": "progress" if self._summary is None else "summary",
            "done": self._before + self._finished,
            "total": self._total,
            "seconds_left": self._seconds_left(summary.rate),
            **summary.to_dict(),
        }
        print(json.dumps(state), file=self._stream, flush=True)


def _size(count: float) -> str:
    return f"{tqdm.format_sizeof(count)}B"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
