"""LXMERT's pre-training lists (``data/lxmert/*.json``): all sentences about a picture, by data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from featx.data import Question
from featx.data.document import Row, load_document
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
    return [q for row in file.rows(file.content, "pictures") for q in _of_picture(row, sets)]


def _of_picture(row: Row, sets: list[str] | None) -> Iterator[Question]:
    picture, texts, labels = str(row.identifier("img_id")), row.fields.get("sentf"), row.fields.get("labelf", {})
    if not isinstance(texts, dict) or not isinstance(labels, dict):
        row.refuse("sentf" if not isinstance(texts, dict) else "labelf", "expected an object with a list for each set")
    for name, sentences in texts.items():
        if sets is not None and name not in sets:
            continue
        known = labels.get(name, [None] * len(sentences))
        if len(known) != len(sentences) or not all(isinstance(s, str) and s.strip() for s in sentences):
            row.refuse("sentf", f"expected sentences in {name}, as many as it has labels")
        for i, (sentence, label) in enumerate(zip(sentences, known, strict=True)):
            yield Question(f"{picture}_{name}_{i:03d}", picture, sentence.strip(), label)
