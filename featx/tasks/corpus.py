"""The examples of a task: questions of one or more data sets, each with the key of its picture.

A specification is what :func:`featx.data.read_questions` takes, and three more keys: ``only`` and ``without`` name a
file with pictures (LXMERT's ``minival.json``, or one key per line) to keep or to leave out; ``repeat``, for training,
says how often questions of a type are in an epoch: ``{spatial: 3}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from featx.data import (
    AnswerSpace,
    Caption,
    Question,
    convert_answer,
    read_captions,
    read_pictures,
    read_questions,
    split_by_pictures,
)
from featx.data.phrases import Phrase, read_phrases
from featx.data.splits import OfPicture
from featx.data.vcr import VcrItem, read_vcr
from featx.errors import UsageError
from featx.settings import Count, fit
from featx.tasks.sentences import read_sentences

Example = TypeVar("Example", bound=OfPicture)


def questions(specs: Any, split: str) -> list[Question]:
    """The questions of all specifications, in their order. Raises UsageError."""
    return [q for spec in _list(specs, split) for q in _chosen(spec, split, read_questions)]


def captions(specs: Any, split: str) -> list[Caption]:
    """The captions of all specifications (see :func:`featx.data.read_captions`), in their order. Raises UsageError."""
    return [c for spec in _list(specs, split) for c in _chosen(spec, split, read_captions)]


def phrases(specs: Any, split: str) -> list[Phrase]:
    """The phrases of all specifications (see :func:`featx.data.phrases.read_phrases`), in their order."""
    return [p for spec in _list(specs, split) for p in _chosen(spec, split, read_phrases)]


def vcr(specs: Any, split: str) -> list[VcrItem]:
    """The items of VCR of all specifications (see :func:`featx.data.vcr.read_vcr`), in their order."""
    return [one for spec in _list(specs, split) for one in _chosen(spec, split, read_vcr)]


def sentences(specs: Any, split: str) -> list[Question]:
    """Questions and captions; a caption is a question that nobody answers.

    A specification may also be that of captions (with ``captions``, see :func:`featx.data.read_captions`) or of one of
    LXMERT's pre-training lists (with ``sentences``, see :func:`featx.tasks.sentences.read_sentences`).
    """
    found: list[Question] = []
    for spec in _list(specs, split):
        if "sentences" in spec:
            found += _chosen(spec, split, read_sentences)
        elif "captions" in spec:
            found += [Question(c.id, c.picture, c.text, None, language=c.language) for c in captions(spec, split)]
        else:
            found += _chosen(spec, split, read_questions)
    return found


def distinct(found: Iterable[Question]) -> list[Question]:
    """Every question once, where ``repeat`` or two data sets show it several times."""
    return list({(q.id, q.picture, q.text): q for q in found}.values())


def answered(found: Sequence[Question], split: str) -> Sequence[Question]:
    """The same questions. Raises UsageError when one of them has no answers to learn from or to be scored with."""
    bare = [q for q in found if q.scores is None]
    if bare:
        table = bare[0].metric == "labels"  # a table has its answers in it, as numbers
        where = "vocabulary, the answers that the classes of the table are counted in," if table else "annotations"
        raise UsageError(
            f"{len(bare)} of {len(found)} {split} questions are not annotated, the first is {bare[0].id!r}",
            f"give their {where} in data.{split}; `featx predict` answers questions without any",
        )
    return found


def answer_space(
    given: str | Mapping[str, Any] | None,
    found: Iterable[Question],
    make: Callable[[Iterable[Question], int], AnswerSpace] = AnswerSpace.from_questions,
) -> AnswerSpace | None:
    """The list of ``data.answers``, made of ``found`` where it is to be; None when it is not given.

    make: how, of the answers that so many questions settled on.
    """
    if given is None:
        return None
    if isinstance(given, str):
        return AnswerSpace.read(given)
    if not isinstance(given, Mapping) or set(given) != {"least"}:
        raise UsageError(f"data.answers is {given!r}", "give a file, or {least: N}")
    fit("data.answers.least", given["least"], Count)
    return make(found, given["least"])


def with_other_pictures(found: Sequence[Example]) -> list[Example]:
    """Every question (or whatever dataclass it is) with the picture half-way round the list of pictures.

    That is never its own where there are two.
    """
    pictures = sorted({q.picture for q in found})
    place = {picture: i for i, picture in enumerate(pictures)}
    half = max(1, len(pictures) // 2)
    return [replace(cast(Any, q), picture=pictures[(place[q.picture] + half) % len(pictures)]) for q in found]


def _list(specs: Any, split: str) -> list[Mapping[str, Any]]:
    found = [specs] if isinstance(specs, Mapping) else specs
    if not isinstance(found, list | tuple) or not all(isinstance(spec, Mapping) for spec in found):
        raise UsageError(
            f"data.{split} is {specs!r}", "give a mapping with `questions`, `captions` or `boxes`, or a list of such"
        )
    return list(found)


def _chosen(spec: Mapping[str, Any], split: str, reader: Any) -> list[Any]:
    for name, value in spec.items():
        if name not in ("repeat", "sets", "attributes"):
            fit(f"data.{split}.{name}", value, str | None)
    plain = {k: v for k, v in spec.items() if k not in ("only", "without", "repeat")}
    found = reader(plain)
    if spec.get("only"):
        found = split_by_pictures(found, read_pictures(spec["only"]))[1]
    if spec.get("without"):
        found = _left(found, read_pictures(spec["without"]), f"data.{split}.without")
    if not found:
        raise UsageError(f"a data set of data.{split} has no examples: {plain}", "check `only` and `without`")
    return _repeated(found, spec["repeat"], split) if "repeat" in spec else list(found)


def _left(found: Sequence[Any], pictures: frozenset[str], name: str) -> list[Any]:
    """What is about other pictures. None of these would mean that what is held out is trained on, under other names."""
    left, gone = split_by_pictures(found, pictures)
    if not gone:
        raise UsageError(
            f"{name} leaves nothing out: it names {_some(pictures)}, and the questions are about "
            f"{_some(q.picture for q in found)}",
            f"write the keys of both alike, for example by image_name; or leave {name} out",
        )
    return left


def _some(keys: Iterable[str]) -> str:
    """How many pictures these are, and the first of them."""
    found = sorted(set(keys))
    return f"{len(found):,} pictures ({', '.join(found[:2])}{', ...' if len(found) > 2 else ''})"


def _repeated(found: Iterable[Question], times: Any, split: str) -> list[Question]:
    """Every question as often as its type is to be in an epoch. Scores of a split would be wrong, so train only."""
    asked = list(found)
    types = {q.question_type for q in asked if isinstance(q, Question)}
    fits = isinstance(times, Mapping) and all(type(n) is int and n >= 1 for n in times.values())
    if split != "train" or not fits or set(times) - types:
        raise UsageError(
            f"data.{split} has repeat: {times!r}",
            f"give {{type: times}} in data.train only; the types are {', '.join(sorted(types)) or 'in annotations'}",
        )
    return [q for q in asked for _ in range(times.get(q.question_type, 1))]


def converted(found: Iterable[Question]) -> list[Question]:
    """The same questions with answers in the form of LXMERT's pre-training table; of two that become one the better."""
    return [q if q.scores is None else replace(q, scores=_convert(q.scores), answer="") for q in found]


def _convert(scores: Mapping[str, float]) -> dict[str, float]:
    better: dict[str, float] = {}
    for answer, score in scores.items():
        name = convert_answer(answer)
        better[name] = max(score, better.get(name, 0.0))
    return better
