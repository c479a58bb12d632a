"""Lists and scores of answers as VLE, after ViLT, was trained with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from featx.data import AnswerSpace, Question
from featx.data.answers import settled_answer
from featx.errors import UsageError
from featx.metrics.normalise import strip_punctuation, strip_words

LEAST = 9  # how many questions of VQAv2 must settle on an answer: 3129 do
_SCORES = {1: 0.3, 2: 0.6, 3: 0.9}  # by how many of ten annotators; from four on, 1


def first_seen(found: Iterable[Question], least: int = LEAST) -> AnswerSpace:
    """The answers that ``least`` questions settled on, in the order in which they first come (ViLT's ``write_vqa.py``).

    Normalised as the challenge does, and then without any comma. Raises UsageError when there are none.
    """
    counts: Counter[str] = Counter()
    for question in found:
        answer = normalised(question.answer) if question.answer else settled_answer(question)
        if answer is not None:
            counts[answer] += 1
    kept = [answer for answer, count in counts.items() if count >= least]
    if not kept:
        raise UsageError(f"no answer occurs {least} times", "lower the threshold, or give annotated questions")
    return AnswerSpace(kept)


def normalised(answer: str) -> str:
    """An answer as it stands in ViLT's list."""
    return strip_words(strip_punctuation(answer)).replace(",", "")


def scores(question: Question, space: AnswerSpace, raw: bool) -> dict[str, float]:
    """answer -> score in (0, 1], of those in the list.

    raw: what the annotators wrote is looked up as it is, though the list is normalised, so that "Yes" is no answer; as
    published. Questions without single annotators have the scores of their data set.
    """
    if raw and len(question.answers) > 1:
        return {a: _SCORES.get(count, 1.0) for a, count in Counter(question.answers).items() if a in space}
    return {answer: score for answer, score in (question.scores or {}).items() if answer in space and score > 0}
