"""What is to be translated, and which files are made of which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.data import AnswerSpace
from featx.errors import UsageError
from featx.translation.sources import Source, read_source
from featx.translation.table import Row

FOLDER = "translations"  # within the folder of the files: the journals
UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Job:
    """What is to be translated, and into what.

    files: questions of VQAv2, captions of COCO, or tables of either, in the language ``source``. targets: the languages
    to translate into. out: folder of the files that are made: of JSON ``NAME_LANGUAGE.json``, the source language among
    them, and with ``tsv``, or of a table, ``NAME_LANGUAGES.tsv``, which has all languages. Answers are classes in it
    where ``annotations`` (of each file, in their order) and a ``vocabulary`` with ``<unk>`` are given. image_name:
    template of the pictures' names in it. batch: texts at a time.
    """

    files: Sequence[str]
    out: Path
    targets: Sequence[str]
    source: str = "en"
    tsv: bool = False
    annotations: Sequence[str] = ()
    vocabulary: str | None = None
    image_name: str | None = None
    batch: int = 64

    def __post_init__(self) -> None:
        if not self.targets or len({self.source, *self.targets}) <= len(self.targets):
            raise UsageError(
                f"from {self.source} to {', '.join(self.targets) or 'nothing'}", "name other languages, each once"
            )
        if self.annotations and len(self.annotations) != len(self.files):
            raise UsageError(
                f"{len(self.files)} files and {len(self.annotations)} of annotations", "give one for each, in order"
            )
        if bool(self.annotations) != bool(self.vocabulary) or (self.annotations and not self.tsv):
            raise UsageError(
                "answers are written into the table, as classes of a vocabulary",
                "give --tsv, --annotations and --vocabulary, or leave the last two out: annotations of VQAv2 fit the "
                "questions in every language",
            )
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}", "give a whole number of 1 or more")

    @property
    def languages(self) -> list[str]:
        """All of them, the source first."""
        return [self.source, *self.targets]


@dataclass(frozen=True)
class Part:
    """One file: its texts, the JSON files that are made of it by language, and the table with what stands in it."""

    source: Source
    files: dict[str, Path]
    table: Path | None
    rows: Sequence[Row]

    @property
    def made(self) -> list[Path]:
        return [*self.files.values(), *([self.table] if self.table else [])]


def read_parts(job: Job) -> list[Part]:
    """Read all files. Raises UsageError for one that cannot be read, and for two of which the same would be made."""
    label = _classes(job.vocabulary)
    parts = [
        _part(job, read_source(path, job.source), job.annotations[i] if job.annotations else None, label)
        for i, path in enumerate(job.files)
    ]
    made = [path for part in parts for path in part.made]
    twice = next((path for path in made if made.count(path) > 1), None)
    if twice:
        raise UsageError(f"{twice} would be made of two of the files", "translate them into different folders")
    return parts


def _part(job: Job, source: Source, annotations: str | None, label: Callable[[str], int] | None) -> Part:
    stem = source.stem(job.source)
    files = {} if source.is_table else {language: job.out / f"{stem}_{language}.json" for language in job.languages}
    same = files.get(job.source)
    if same is not None and same.exists() and same.samefile(source.path.partition(".zip:")[0]):
        del files[job.source]  # it is there already
    if not (job.tsv or source.is_table):
        return Part(source, files, None, ())
    rows = source.rows(annotations, job.image_name, label)
    return Part(source, files, job.out / f"{stem}_{'-'.join(job.languages)}.tsv", rows)


def _classes(vocabulary: str | None) -> Callable[[str], int] | None:
    """An answer as written -> its class; that of ``<unk>`` for what is not in the list, as published."""
    if vocabulary is None:
        return None
    answers = AnswerSpace.read(vocabulary)
    unknown = answers.index(UNKNOWN)
    if unknown is None:
        raise UsageError(f"{vocabulary} has no {UNKNOWN}", "expected a vocabulary with an entry for all other answers")
    known = {answer: i for i, answer in enumerate(answers)}
    return lambda answer: known.get(answer, unknown)


def texts_of(parts: Iterable[Part]) -> list[str]:
    """Every text once, the longest first, so that a batch has texts of one length, and too long ones fail at once."""
    return sorted({text for part in parts for text in part.source.texts}, key=lambda text: (-len(text), text))
