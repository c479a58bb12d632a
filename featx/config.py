"""What a run is told to do: one YAML file, overridden by flags, frozen before work starts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from featx.errors import UsageError


def _number(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least  # a bool is an int to isinstance


def _optional(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


# setting -> what its values have in common, and that in words
_EXPECTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "extractor": (_text, "the name of an extractor, see `featx plugins`,"),
    "backend": (lambda value: value in ("lmdb", "hdf5"), "lmdb or hdf5"),
    "batch": (_number(1), "a whole number of 1 or more"),
    "workers": (_number(1), "a whole number of 1 or more"),
    "key_rule": (_text, "the name of a rule, such as path or stem,"),
    "root": (_optional(lambda value: isinstance(value, os.PathLike) or _text(value)), "a folder, or nothing,"),
    "image_name": (_optional(_text), "a template of file names, or nothing,"),
    "salvage": (lambda value: isinstance(value, bool), "true or false"),
    "max_pixels": (_optional(_number(1)), "a whole number of 1 or more, or nothing,"),
    "max_refused": (_optional(_number(0)), "a whole number of 0 or more, or nothing,"),
}


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of ``featx extract``. Keys of the YAML file that are not fields here go to the extractor as options.

    extractor: entry point name. backend: lmdb or hdf5. batch: pictures per network call (only equal input sizes share
    one). workers: decoding threads. key_rule, root, image_name: how pictures are found and named. max_refused: more
    refused pictures than this make the run end with exit code 3 (None: any number is fine).
    """

    extractor: str = "frcnn"
    backend: str = "lmdb"
    batch: int = 1
    workers: int = 2
    key_rule: str = "path"
    root: str | None = None
    image_name: str | None = None
    salvage: bool = False
    max_pixels: int | None = None
    max_refused: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (fits, expected) in _EXPECTED.items():
            if not fits(getattr(self, name)):
                raise UsageError(f"{name} is {getattr(self, name)!r}", f"give {expected} for {name}")


def load_config(path: str | None, overrides: Mapping[str, Any]) -> ExtractConfig:
    """The configuration of a YAML file (or the defaults), with overrides that are not None applied.

    Raises UsageError for a file that is absent or not a YAML mapping, a setting of the wrong type, and a key that is
    a setting but for a slip: the extractor, to which it would go, does not know the settings.
    """
    values = {**_read(path), **{k: v for k, v in overrides.items() if v is not None}}
    known = {f.name for f in fields(ExtractConfig)} - {"options"}
    settings = {k: v for k, v in values.items() if k in known}
    options = {k: v for k, v in values.items() if k not in known}
    for name in options:
        if close := get_close_matches(name, known, 1, cutoff=0.8):
            raise UsageError(
                f"{name} is not a setting; did you mean {close[0]}?",
                f"the settings are {', '.join(sorted(known))}; all other keys are options of the extractor",
            )
    return replace(ExtractConfig(**settings), options=options)


def _read(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration {path} cannot be read: {error}", "see configs/ for examples") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}", "see configs/ for examples") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds {type(data).__name__}, expected a mapping of settings", "see configs/")
    return {str(k): v for k, v in data.items()}


def parse_part(text: str) -> tuple[int, int]:
    """``"3/16"`` -> (3, 16), counted from 1. Raises UsageError for anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--part {text!r} is not a part", "write --part 3/16 for the third of sixteen")
    return int(match[1]), int(match[2])
