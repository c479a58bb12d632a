"""The translating itself, and the writing of what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from featx.errors import UsageError
from featx.store import disk
from featx.translate import Translator
from featx.translation.job import FOLDER, Job, Part, read_parts, texts_of
from featx.translation.journal import Journal
from featx.translation.table import write_table

_MADE = "files.txt"  # beside the journals: names of files that were made here, and may be made again


class Named(Translator, Protocol):
    """A translator that says who it is: whatever decides how it translates."""

    def about(self, source: str, target: str) -> Mapping[str, Any]: ...


class Watch(Protocol):
    """Whoever is told how it goes."""

    def begin(self, total: int | None, done: int = 0) -> None:
        """So many texts over all languages, of which so many were translated before."""

    def tick(self, count: int) -> None:
        """So many more are translated."""


@dataclass(frozen=True)
class Done:
    """files: that were made. texts: different ones in all files. translated: in this run, over all languages. left:
    those, over all languages, that a model made nothing of, and that stay as they are.
    """

    files: Sequence[str]
    texts: int
    translated: int
    left: int


def translate(job: Job, translator: Named, watch: Watch) -> Done:
    """Translate, and write the files. The same job goes on where an earlier run stopped, and ends with the same bytes.

    Raises UsageError, before anything is translated, for a file that cannot be read, and for one that would be written
    over and was not made here; StoreError where another process is at it.
    """
    parts = read_parts(job)
    _check_free(job.out, [path for part in parts for path in part.made])
    texts = texts_of(parts)
    with ExitStack() as journals:
        kept = {t: journals.enter_context(_journal(job, translator, t)) for t in job.targets}
        pending = {target: [text for text in texts if text not in kept[target].known] for target in job.targets}
        left = sum(map(len, pending.values()))
        watch.begin(len(texts) * len(kept), len(texts) * len(kept) - left)
        for target, journal in kept.items():
            for begin in range(0, len(pending[target]), job.batch):
                batch = pending[target][begin : begin + job.batch]
                found = translator.translate(batch, job.source, target)
                journal.keep([(text, _one_line(said)) for text, said in zip(batch, found, strict=True)])
                watch.tick(len(batch))
        known = {target: {text: journal.known[text] for text in texts} for target, journal in kept.items()}
        _write(job, parts, known)
    empty = sum(not said for words in known.values() for said in words.values())
    return Done([str(path) for part in parts for path in part.made], len(texts), left, empty)


def _journal(job: Job, translator: Named, target: str) -> Journal:
    return Journal(job.out / FOLDER / f"{job.source}-{target}.jsonl", translator.about(job.source, target))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _write(job: Job, parts: Sequence[Part], known: Mapping[str, Mapping[str, str]]) -> None:
    """All files of all parts."""
    lookups: dict[str, Callable[[str], str]] = {job.source: str}
    lookups |= {language: _lookup(words) for language, words in known.items()}
    for part in parts:
        for path in part.made:
            _note(job.out, path)
        for language, path in part.files.items():
            part.source.write(path, lookups[language])
        if part.table is not None:
            write_table(part.table, part.rows, part.source.column, part.source.texts, lookups)


def _lookup(words: Mapping[str, str]) -> Callable[[str], str]:
    return lambda text: words[text] or text


def _check_free(out: Path, made: Sequence[Path]) -> None:
    """Raise UsageError when a file is in the way that was not made here."""
    listed = out / FOLDER / _MADE
    ours = set(listed.read_text(encoding="utf-8").splitlines()) if listed.exists() else set()
    other = next((path for path in made if path.exists() and path.name not in ours), None)
    if other is not None:
        raise UsageError(f"{other} is there already, and was not made here", "give another --out, or remove it")


def _note(out: Path, path: Path) -> None:
    """A file is about to be made."""
    listed = out / FOLDER / _MADE
    known = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    if path.name not in known:
        disk.append(listed, f"{path.name}\n".encode())
