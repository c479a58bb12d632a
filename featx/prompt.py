"""What a language model is told of a picture that it cannot see: a caption, the question, and a model's answers.

After the demonstration of iflytek/VLE, which shows a caption, a question, and answers with scores go into a language
model, and a sentence come out; the words of its own prompt are not published, these are ours::

    You answer a question about a picture that you cannot see. Two other models have looked at it.

    Caption of the picture: a cat sits on a bench
    Question: What is it doing?
    Possible answers, each with a confidence from 0 to 1, the surest first:
    - sitting (0.73)
    - sleeping (0.19)

    The caption may be incomplete and the answers may be wrong. ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from featx.errors import UsageError

Candidate = Mapping[str, Any] | tuple[str, float]  # {"answer": ..., "score": ...} of a Predictor, or a pair

TEMPLATE = """\
You answer a question about a picture that you cannot see. Two other models have looked at it.

Caption of the picture: {caption}
Question: {question}
Possible answers, each with a confidence from 0 to 1, the surest first:
{candidates}

The caption may be incomplete and the answers may be wrong. Prefer the surest answer unless it does not fit the
question or the caption. Answer the question in one short sentence, in the language of the question. Write nothing else,
and do not mention the caption, the candidates or their confidence.
"""


def build_prompt(caption: str, question: str, candidates: Sequence[Candidate]) -> str:
    """The prompt: ``TEMPLATE`` with every text on one line, and a line ``- answer (0.73)`` for each candidate.

    candidates: answers of :class:`featx.Predictor`, or pairs of answer and score, a softmax or sigmoid; they are put in
    the order of their scores, and equal ones stay as they are. The same input gives the same prompt. Raises UsageError
    for an empty caption or question, for no candidate, and for a score that is not from 0 to 1.
    """
    pairs = sorted((_pair(one) for one in candidates), key=lambda pair: -pair[1])
    if not pairs:
        raise UsageError("there is no candidate", "give one answer or more")
    lines = "\n".join(f"- {answer or '(nothing)'} ({score:.2f})" for answer, score in pairs)
    return TEMPLATE.format(caption=_said(caption, "caption"), question=_said(question, "question"), candidates=lines)


def answer(caption: str, question: str, candidates: Sequence[Candidate], llm: Callable[[str], str]) -> str:
    """The sentence of a language model, any function of a prompt such as :class:`featx.llm.Endpoint`."""
    return llm(build_prompt(caption, question, candidates)).strip()


def _pair(candidate: Candidate) -> tuple[str, float]:
    answer, score = (candidate["answer"], candidate["score"]) if isinstance(candidate, Mapping) else candidate
    if not isinstance(answer, str) or isinstance(score, bool) or not isinstance(score, int | float):
        raise UsageError(f"a candidate is {candidate!r}", "give answers with their scores")
    if not (math.isfinite(score) and 0 <= score <= 1):
        raise UsageError(f"the score of {answer!r} is {score}", "give a softmax or sigmoid, from 0 to 1")
    return _line(answer), float(score)


def _said(text: Any, name: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"the {name} is {text!r}", "give words")
    return _line(text)


def _line(text: str) -> str:
    return " ".join(text.split())
