"""The folder of a run: what it was begun with, where its files are, and exports that appear whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.store import disk
from featx.train.checkpoint import Checkpoints, room
from featx.train.config import FREE, LATER
from featx.train.distributed import World

_FREE = tuple(f"train.{name}" for name in FREE)
PARTS = ("task", "options", "train", "stores", "examples", "threads")  # of every config.json
BINDING = (*PARTS[:-1], "contents")  # must not change in a run


class Run:
    """``OUT/``: config.json, log.jsonl, tensorboard/, checkpoints/ (the last ``keep``), best/ and final/."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.config, self.log, self.tensorboard = folder / "config.json", folder / "log.jsonl", folder / "tensorboard"
        self.checkpoints = Checkpoints(folder / "checkpoints", keep)
        self.best, self.final = folder / "best", folder / "final"

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.final.is_dir()

    def lock(self) -> disk.Lock:
        """The right to write here; makes the folder.

        Raises UsageError, having written nothing, for a folder of something else; StoreError when another process has
        the run.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder} is a file, not the folder of a run", "choose another --out")
        with disk.room(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            strange = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
            if strange and not self._is_one():
                raise UsageError(
                    f"{self.folder} is not empty and not the folder of a run: it holds {strange[0]}",
                    "choose another folder for --out",
                )
            return disk.Lock(self.folder / ".lock", f"the run {self.folder}")

    def _is_one(self) -> bool:
        """Whether this is the folder of a run, be its config.json damaged; what is none must not be emptied."""
        begun = (self.checkpoints.folder / "latest.json").exists() and self.log.exists()
        return begun or self._begun_with() is not None

    def prepare(self, *, fresh: bool) -> None:
        """Mend what a process that died left half done; ``fresh``: delete the former run."""
        with disk.room(self.folder):
            if fresh:
                self._empty()
            self._heal()
            self.checkpoints.clean()

    def enter(self, now: dict[str, Any], world: World) -> list[str]:
        """Begin a run with the configuration ``now``, or go on with one that was begun with the same.

        Returns what a person should know about a difference that is allowed. Every process must call this. Raises
        UsageError, naming each difference, for a run that was begun with another configuration.
        """
        begun = world.by_first(lambda: self._begin(now))
        pairs = [("threads", begun["threads"], now["threads"])]
        pairs += [("train.device", begun["train"]["device"], now["train"]["device"])]
        return [
            f"{name} was {then} when this run was begun and is {this}: the result may differ in its last bits"
            for name, then, this in pairs
            if then != this
        ]

    def _begin(self, now: dict[str, Any]) -> dict[str, Any]:
        """What the run was begun with: ``now``, where it begins."""
        if self.config.exists():
            begun = self._begun_with()
            if begun is None:
                raise UsageError(f"{self.config} is not that of a run any more", "restore it, or begin with --fresh")
            begun["train"] = {n: v for n, v in LATER.items() if n in now["train"]} | begun["train"]
            check_same(begun, now, self.folder)
            return begun
        with disk.room(self.folder):
            disk.publish(self.config, json.dumps(now, indent=1, ensure_ascii=False).encode())
        return now

    def _begun_with(self) -> dict[str, Any] | None:
        """What config.json says, None unless that is of a run: models have a file of that name, too."""
        try:
            begun = json.loads(self.config.read_bytes())
        except (OSError, ValueError):
            return None
        return begun if isinstance(begun, dict) and set(PARTS) <= set(begun) else None

    def export(self, target: Path, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill an empty folder that then takes the place of ``target``."""
        draft, old = disk.temporary(target), target.with_name(f".{target.name}.old")
        with room(self.folder):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            write(draft)
            for path in sorted(draft.rglob("*"), reverse=True):
                disk.sync(path)
            disk.sync(draft)
            shutil.rmtree(old, ignore_errors=True)
            if target.exists():
                disk.rename(target, old)
            disk.rename(draft, target)
            disk.sync(self.folder)
            shutil.rmtree(old, ignore_errors=True)

    def _heal(self) -> None:
        """Undo an export that a dying process left half done."""
        for target in (self.best, self.final):
            shutil.rmtree(disk.temporary(target), ignore_errors=True)
            old = target.with_name(f".{target.name}.old")
            if old.exists() and not target.exists():
                disk.rename(old, target)

    def _empty(self) -> None:
        for folder in (self.final, self.best, self.checkpoints.folder, self.tensorboard):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(folder.with_name(f".{folder.name}.old"), ignore_errors=True)
        disk.remove(self.log)
        disk.remove(self.config)


def check_same(begun: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raise UsageError, naming each difference, unless a run begun with one configuration may go on with the other."""
    lines = [
        f"{name}: begun with {left}, now {right}"
        for part in BINDING
        if part in begun  # contents are not in that of an early version
        for name, left, right in differences(begun.get(part), now.get(part), part)
        if name not in _FREE
    ]
    if lines:
        raise UsageError(
            f"{folder} holds a run with another configuration:\n  " + "\n  ".join(lines),
            "give its settings to go on with it, another --out to begin beside it, or --fresh to delete it and begin",
        )


def differences(mine: Any, theirs: Any, name: str) -> Iterator[tuple[str, str, str]]:
    """(dotted name, mine, theirs) of each leaf of nested JSON that differs."""
    left, right = dict(_leaves(mine, name)), dict(_leaves(theirs, name))
    for leaf in dict.fromkeys([*left, *right]):
        found, given = (json.dumps(side[leaf]) if leaf in side else "nothing" for side in (left, right))
        if found != given:
            yield leaf, found, given


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    if not items:
        yield name, value
    for key, inner in items:
        yield from _leaves(inner, f"{name}.{key}")
