"""What a worker is given, and what it gives back: plain data that goes to another process, or to another machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featx import errors
from featx.config import ExtractConfig
from featx.errors import FeatxError
from featx.images import Source
from featx.progress import Summary


@dataclass(frozen=True)
class Build:
    """What a worker makes once, before its first part: the extractor of ``config``. folder: where paths begin;
    device: the one of this worker, None: that of the configuration."""

    config: ExtractConfig
    folder: str
    device: str | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the extractor."""
        return self.config.options if self.device is None else {**self.config.options, "device": self.device}


@dataclass(frozen=True)
class Task:
    """Part ``part`` (from 0) of ``parts``: its ``sources``, and the facts of the whole list."""

    build: Build
    store: str
    part: int
    parts: int
    sources: Sequence[Source]
    facts: Mapping[str, Any]
    retry_refused: bool = False
    publish: str | None = None


@dataclass(frozen=True)
class Failure:
    """An error as data. kind: its class in ``featx.errors``, "" for one that nobody foresaw; trace: where that was."""

    kind: str
    message: str
    hint: str = ""
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException, trace: str) -> Failure:
        """That of an error."""
        if isinstance(error, FeatxError):
            return cls(type(error).__name__, error.message, error.hint)
        return cls("", f"{type(error).__name__}: {error}".rstrip(": "), trace=trace)

    def error(self) -> FeatxError:
        """The error to be raised here."""
        kind = getattr(errors, self.kind, FeatxError)
        return kind(self.message, self.hint) if issubclass(kind, FeatxError) else FeatxError(self.message, self.hint)


@dataclass(frozen=True)
class Outcome:
    """How a worker ended a call: a summary where a part was finished, or a failure; and its notes for people."""

    notes: Sequence[str] = ()
    summary: Summary | None = None
    failure: Failure | None = None
