"""The folder of drawn scenes: what it was asked to hold, where its pictures are, how a file gets there whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from featx.errors import UsageError
from featx.scenes.languages import LANGUAGES
from featx.scenes.world import FIRST_ID, SPLITS, Split
from featx.store.disk import Lock, rename, settle, sync, temporary, write

DRAWING = 1  # goes up when the same seed gives other pictures or questions
PLAN = "scenes.json"
PLACES = (*SPLITS, "annotations", "vqa", "captions", "gqa", "lxmert")  # folders of the folder
VIZWIZ = "vizwiz"  # one more, where it is asked for
CARD = "README.md"  # written last: a folder that has it is whole
_END_OF_JPEG = b"\xff\xd9"
MOST_PICTURES = FIRST_ID["val"] - FIRST_ID["train"]  # of a split; more would give two pictures one id


@dataclass(frozen=True, slots=True)
class Plan:
    """What a folder of scenes holds. Raises UsageError for numbers that make no sense."""

    train: int
    val: int
    seed: int
    languages: tuple[str, ...] = tuple(LANGUAGES)
    drawing: int = DRAWING

    def __post_init__(self) -> None:
        for name, count in (("train", self.train), ("val", self.val)):
            if not 0 <= count <= MOST_PICTURES:
                raise UsageError(f"{name} is {count} pictures", f"give a whole number from 0 to {MOST_PICTURES}")
        if not self.train + self.val:
            raise UsageError("no pictures: train and val are both 0", "ask for at least one")
        if self.seed < 0:
            raise UsageError(f"the seed is {self.seed}", "give a whole number of 0 or more")
        unknown = [name for name in self.languages if name not in LANGUAGES]
        if unknown or not self.languages or len(set(self.languages)) < len(self.languages):
            found = f"unknown language {unknown[0]!r}" if unknown else f"languages {','.join(self.languages)!r}"
            raise UsageError(found, f"give some of {','.join(LANGUAGES)}, each once, separated by commas")

    def count(self, split: Split) -> int:
        """Pictures of a split."""
        return self.train if split == "train" else self.val

    def pictures(self, folder: Path, split: Split) -> list[Path]:
        """Where the pictures of a split are, in order."""
        return [picture_path(folder, FIRST_ID[split] + index) for index in range(self.count(split))]


@contextmanager
def claimed(folder: Path, plan: Plan) -> Iterator[None]:
    """Make the folder one of this plan, or check that it is, and keep other writers out of it meanwhile.

    What a killed run left half-written is removed. Raises UsageError for a folder of another plan, naming every
    difference, or of something else; StoreError while another process draws into it.
    """
    file = folder / PLAN
    if folder.exists() and not file.is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and does not hold scenes: it has no {PLAN}", "give an empty or a new folder")
    if file.is_file():
        _compare(file, plan)
    folder.mkdir(parents=True, exist_ok=True)
    deliver(file, (json.dumps(asdict(plan)) + "\n").encode())
    with Lock(folder / ".lock", str(folder)):
        for place in (
            "",
            *PLACES,
            VIZWIZ,
            *(f"{VIZWIZ}/{split}" for split in SPLITS),
        ):  # and not in a store that somebody keeps there
            for draft in (folder / place).glob(".*.tmp"):
                draft.unlink()
        yield


def _compare(file: Path, plan: Plan) -> None:
    try:
        found = json.loads(file.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
    except ValueError as error:
        raise UsageError(f"{file} cannot be understood: {error}", "remove the folder and draw it again") from None
    wanted = json.loads(json.dumps(asdict(plan)))
    different = [
        f"{name} {found.get(name)} (asked for: {value})" for name, value in wanted.items() if found.get(name) != value
    ]
    if different:
        raise UsageError(
            f"{file.parent} holds other scenes: {', '.join(different)}", "give another folder, or remove this one"
        )


def picture_path(folder: Path, picture: int) -> Path:
    """Where the picture of an id is."""
    split = SPLITS[picture >= FIRST_ID["val"]]
    return folder / split / f"scene_{picture:012d}.jpg"


def is_finished(path: Path) -> bool:
    """Whether a file is there to its end, which is a mark in a picture and a line feed in a text."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_END_OF_JPEG)))
        return file.read().endswith(_END_OF_JPEG if path.suffix == ".jpg" else b"\n")


def deliver(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, then give it its own: it is there whole or not at all.

    The temporary name is this process's: the helpers of a killed run may still be writing the same picture.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write(draft, data)
    rename(draft, path)
    sync(path.parent)


def also_named(path: Path, name: Path) -> None:
    """Give a file a second name, or a copy where the disk knows no second names."""
    draft = temporary(name)
    draft.unlink(missing_ok=True)
    try:
        draft.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, draft)
    settle(name)
