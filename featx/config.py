"""What a run is told to do: one YAML file, overridden by flags, frozen before work starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from featx.errors import UsageError


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
        if self.backend not in ("lmdb", "hdf5"):
            raise UsageError(f"backend {self.backend!r} is unknown", "choose lmdb or hdf5")
        for name in ("batch", "workers"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)!r}", f"give a whole number of 1 or more for {name}")


def load_config(path: str | None, overrides: Mapping[str, Any]) -> ExtractConfig:
    """The configuration of a YAML file (or the defaults), with overrides that are not None applied.

    Raises UsageError for a file that is absent or not a YAML mapping.
    """
    values = {**_read(path), **{k: v for k, v in overrides.items() if v is not None}}
    known = {f.name for f in fields(ExtractConfig)} - {"options"}
    settings = {k: v for k, v in values.items() if k in known}
    options = {k: v for k, v in values.items() if k not in known}
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
