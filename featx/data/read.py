"""Data sets by specification: which files, in which layout, and how their pictures are called in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from featx.data import captions, gqa, lxmert, multilingual, vizwiz, vqa
from featx.data.document import Document, load_document
from featx.data.question import Caption, Question
from featx.data.tsv import SUFFIXES
from featx.errors import UsageError
from featx.settings import known_instead

Reader = Callable[..., Iterable[Question]]
# layout -> who reads it, and how a file of it is recognised
FORMATS: dict[str, tuple[Reader, Callable[[Any], bool]]] = {
    "vqa": (vqa.read, vqa.fits),
    "gqa": (gqa.read_gqa, gqa.fits_gqa),
    "vg-qa": (gqa.read_visual_genome, gqa.fits_visual_genome),
    "vizwiz": (vizwiz.read, vizwiz.fits),
    "lxmert": (lxmert.read, lxmert.fits),
}
_COMMON = {"format", "questions", "image_name", "language"}


def read_questions(spec: Mapping[str, Any]) -> list[Question]:
    """The questions of one data set, in the order of its file.

    spec: ``questions``: path of a .json, .json.gz or .zip file (``archive.zip:member.json`` for one of several);
    ``annotations``: path, VQAv2 only, absent for test sets; ``format``: a name in ``FORMATS``, by default what the file
    looks like, or ``tsv`` for a table, by default a file named .tsv or .tsv.gz; ``vocabulary``: path of the answers
    that the classes of a table are counted in (see :mod:`featx.data.multilingual`); ``image_name``: template of store
    keys with ``{image_id}`` (what the file calls the picture) and ``{split}``; ``language``: code of the language,
    default ``en``.
    Raises UsageError, naming file and entry, for another layout, empty text, or a question id that comes twice.
    """
    _check(spec, _COMMON | {"annotations", "vocabulary"}, "questions")
    if spec.get("format") == "tsv" or (not spec.get("format") and str(spec["questions"]).endswith(SUFFIXES)):
        return _table(spec)
    if spec.get("vocabulary"):
        raise UsageError(f"{spec['questions']} has a vocabulary, and is no table", "leave vocabulary out")
    questions = load_document(spec["questions"])
    annotations = load_document(spec["annotations"]) if spec.get("annotations") else None
    chosen = spec.get("format") or recognise(questions)
    if chosen not in FORMATS:
        raise UsageError(f"there is no format {chosen!r}", f"known are {', '.join(FORMATS)} and tsv")
    return parse_questions(chosen, questions, annotations, spec.get("image_name"), spec.get("language") or "en")


def _table(spec: Mapping[str, Any]) -> list[Question]:
    if spec.get("annotations"):
        raise UsageError(
            f"{spec['annotations']}: a table of questions has no annotations file",
            "its answers are in it: leave it out",
        )
    path, language = str(spec["questions"]), spec.get("language") or "en"
    return list(multilingual.read_table(path, spec.get("vocabulary"), spec.get("image_name"), language))


def parse_questions(
    name: str, questions: Document, annotations: Document | None, image_name: str | None, language: str = "en"
) -> list[Question]:
    """:func:`read_questions` on files that are parsed already."""
    reader, _ = FORMATS[name]
    files = (questions, annotations) if annotations else (questions,)
    if annotations and name != "vqa":
        raise UsageError(f"{annotations.name}: a data set of the format {name} has no annotations file", "leave it out")
    found = list(reader(*files, image_name=image_name, language=language))
    unique(questions, found)
    return found


def read_captions(spec: Mapping[str, Any]) -> list[Caption]:
    """The captions of one file, in its order.

    spec: ``captions``: path, as for :func:`read_questions`, or of a table (.tsv, .tsv.gz) with the columns image_file,
    caption, and perhaps lang_id; ``format``: ``coco`` or ``tsv``, by default by the name of the file; ``image_name``;
    ``language``, where the file does not say it.
    """
    _check(spec, {"format", "captions", "image_name", "language"}, "captions")
    path, image_name, language = spec["captions"], spec.get("image_name"), spec.get("language") or "en"
    chosen = spec.get("format") or ("tsv" if str(path).endswith(SUFFIXES) else "coco")
    if chosen not in ("coco", "tsv"):
        raise UsageError(f"there is no format {chosen!r} of captions", "known are coco and tsv")
    if chosen == "tsv":
        return list(captions.read_table(path, image_name, language))
    file = load_document(path)
    found = list(captions.read(file, image_name, language))
    unique(file, found)
    return found


def recognise(file: Document) -> str:
    """The format of a questions file. Raises UsageError when it is none that is known."""
    for name, (_, fits) in FORMATS.items():
        if fits(file.content):
            return name
    return file.refuse("it is of no known layout", f"known are the question files of {', '.join(FORMATS)}")


def _check(spec: Mapping[str, Any], known: set[str], needed: str) -> None:
    unknown = sorted(set(spec) - known)
    if unknown or not spec.get(needed):
        found = f"unknown setting {unknown[0]!r}" if unknown else f"no {needed!r}"
        hint = known_instead(unknown[0] if unknown else needed, sorted(known))
        raise UsageError(f"the specification of a data set has {found}", hint)


def unique(file: Document, found: Iterable[Question | Caption]) -> None:
    """Raise UsageError, naming the file, when two entries have the same id."""
    seen: set[int | str] = set()
    for entry in found:
        if entry.id in seen:
            file.refuse(f"the id {entry.id!r} comes twice", "expected every id once")
        seen.add(entry.id)
