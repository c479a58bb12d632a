"""What a person sees of a run: a bar on a terminal, elsewhere a plain line now and then, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TextIO

from tqdm import tqdm

_BAR = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
_LINE_SECONDS = 30.0


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # tqdm's watching thread would not survive a fork


class Display:
    """Shows the events of a run of ``steps`` steps, of which ``done`` are from before.

    json: every event as a line on stdout. quiet: nothing (but ``json``, being asked for). clock: seconds, for tests.
    """

    def __init__(
        self,
        steps: int,
        done: int = 0,
        *,
        json: bool = False,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = (sys.stdout if json else sys.stderr) if stream is None else stream
        self._steps, self._json, self._quiet = steps, json, quiet and not json
        self._clock, self._begin, self._shown, self._first = clock, clock(), clock(), done
        self._bar: _Bar | None = None
        if not json and not quiet and self._stream.isatty():
            self._bar = _Bar(
                total=steps, initial=done, file=self._stream, unit=" steps", bar_format=_BAR, dynamic_ncols=True,
            )  # fmt: skip

    def advance(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            self._bar.update()

    def doing(self, what: str) -> None:
        """Name what goes on in front of the bar; '' for training."""
        if self._bar is not None:
            self._bar.set_description_str(what)

    def show(self, event: Mapping[str, Any]) -> None:
        """Tell an event of the journal, the way it is looked at."""
        if self._quiet:
            return
        if self._json:
            print(json.dumps(event, ensure_ascii=False), file=self._stream, flush=True)
        elif event["event"] == "train":
            self._losses(event)
        elif text := _text(event):
            self.say(text)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _losses(self, event: Mapping[str, Any]) -> None:
        figures = f"loss {_figure(event['loss'])}, lr {event['lr']:.2g}, data {event['time']['data']:.1%}"
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
        elif self._clock() - self._shown >= _LINE_SECONDS:
            self._shown = self._clock()
            rate = (event["step"] - self._first) / max(self._shown - self._begin, 1e-9)
            left = timedelta(seconds=round((self._steps - event["step"]) / rate)) if rate else "unknown"
            self.say(f"step {event['step']:,}/{self._steps:,}, {rate:.3g}/s, ETA {left}, {figures}")


def _text(event: Mapping[str, Any]) -> str:
    """A line for people; '' for what only the log needs."""
    if event["event"] == "resume":
        return f"going on after step {event['step']:,} of {event['steps']:,}"
    if event["event"] == "epoch":
        return (
            f"epoch {event['epoch']}: loss {_figure(event['loss'])}, {event['time']['seconds']:.1f} s, "
            f"{event['time']['data']:.1%} of it waiting for data"
        )
    if event["event"] == "evaluation":
        figures = ", ".join(f"{name} {_figure(value)}" for name, value in event["figures"].items())
        return f"epoch {event['epoch']}: {figures}{' (best)' if event['best'] else ''}"
    return ""


def _figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
