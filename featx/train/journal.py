"""What a run says of itself: one JSON object per line in log.jsonl, and TensorBoard for who wants it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.errors import MissingDependency, UsageError
from featx.registry import INSTALL_HINTS

Event = Mapping[str, Any]


class Journal:
    """Appends events to ``log.jsonl``. Of each event, all but the entry ``time`` is the same in every run alike.

    at: bytes of the log to keep: a resumed run cuts the log to where its checkpoint was taken and writes on, so that
    no line is there twice. tensorboard: a folder, or None.
    """

    def __init__(self, path: Path, at: int, tensorboard: Path | None = None, step: int = 0) -> None:
        size = path.stat().st_size if path.exists() else 0
        if size < at:
            raise UsageError(
                f"{path} has {size} bytes, fewer than the {at} it had at the checkpoint: somebody cut it",
                "restore the file, or begin anew with --fresh",
            )
        self._file = path.open("ab")
        self._file.truncate(at)
        self._board = summary_writer()(str(tensorboard), purge_step=step + 1) if tensorboard else None

    def write(self, event: Event) -> None:
        """Append one event; scalars of it go to TensorBoard too."""
        self._file.write(json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()
        if self._board is not None:
            for name, value in _scalars(event):
                self._board.add_scalar(name, value, event["step"])

    def sync(self) -> int:
        """Make everything written durable; returns the length of the log in bytes."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Let go of the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def last_event(path: Path, kind: str) -> dict[str, Any]:
    """The last event of a kind in a log. Raises UsageError when there is none."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:  # cut by whatever
            continue
        if isinstance(event, dict) and event.get("event") == kind:
            return event
    raise UsageError(f"{path} has no event {kind!r}", "restore the file, or begin anew with --fresh")


def plain(value: Any) -> Any:
    """JSON-able as the standard has it: what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scalars(event: Event) -> list[tuple[str, float]]:
    """The figures of a training or evaluation event, by name."""
    if event["event"] not in ("train", "evaluation"):
        return []
    names = {name: event.get(name) for name in ("loss", "lr", "norm")} | dict(event.get("parts", {}))
    names |= dict(event.get("figures", {}))
    return [(f"{event['event']}/{name}", value) for name, value in names.items() if value is not None]


def summary_writer() -> Any:
    """TensorBoard's writer. Raises MissingDependency where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        hint = INSTALL_HINTS["tensorboard"]
        raise MissingDependency("train.tensorboard needs the package tensorboard, which is absent", hint) from None
    return SummaryWriter
