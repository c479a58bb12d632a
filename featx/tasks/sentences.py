"""LXMERT's pre-training lists (``data/lxmert/*.json``): all sentences about a picture, by data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from featx.data import Question
from featx.data.document import Row, load_document
from featx.data.lxmert import soft_scores
from featx.data.read import unique
from featx.errors import UsageError

_KNOWN = {"sentences", "sets"}


def read_sentences(spec: Mapping[str, Any]) -> list[Question]:
    """The sentences of one list, as questions; those of a set without labels have no scores.

    spec: ``sentences``: path of a list of objects with ``img_id``, ``sentf`` (set -> sentences) and ``labelf`` (set ->
    answers with scores of each sentence, for some sets); ``sets``: which of its sets (mscoco, vg, vqa, gqa, ...), by
    default all. Raises UsageError, naming the entry.
    """
    unknown = sorted(set(spec) - _KNOWN)
    if unknown:
        raise UsageError(f"a list of sentences has the setting {unknown[0]!r}", "known are sentences and sets")
    file, sets = load_document(spec["sentences"]), spec.get("sets")
    if not isinstance(sets, list | None):
        raise UsageError(f"sets is {sets!r}", "give a list of names, such as [mscoco, vqa]")
    found = [q for row in file.rows(file.content, "pictures") for q in _of_picture(row, sets)]
    unique(file, found)
    return found


def _of_picture(row: Row, sets: list[str] | None) -> Iterator[Question]:
    picture, labels = str(row.identifier("img_id")), _lists(row, "labelf") if "labelf" in row.fields else {}
    for name, texts in _lists(row, "sentf").items():
        if sets is not None and name not in sets:
            continue
        known = [soft_scores(row, "labelf", one) for one in labels[name]] if name in labels else [None] * len(texts)
        if len(known) != len(texts) or not all(isinstance(s, str) and s.strip() for s in texts):
            row.refuse("sentf", f"expected sentences in {name}, as many as it has labels")
        for i, (sentence, label) in enumerate(zip(texts, known, strict=True)):
            yield Question(f"{picture}_{name}_{i:03d}", picture, sentence.strip(), label)


def _lists(row: Row, field: str) -> dict[str, list[Any]]:
    found = row.fields.get(field)
    if not isinstance(found, dict) or not all(isinstance(value, list) for value in found.values()):
        row.refuse(field, "expected an object with a list for each set")
    return dict(found)
