"""Which one of a question's ten answers a model is to learn, and the list of answers that follows from it.

VizWiz settles on none of its ten answers, and its models were trained with different ones (Deuser et al. 2022,
arXiv 2206.05281, and its re-implementations). How many answers there are follows from policy and split: 5726 in the
paper, 5860 by sure annotators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from featx.data.answers import AnswerSpace
from featx.data.question import Question
from featx.errors import UsageError

Policy = Literal["paper", "confident"]


class Selector:
    """Chooses by a policy; what is frequent is so in ``questions``, those that are trained on.

    ``paper``: the most common of the ten; of several, the one that most annotators of all questions gave; of several,
    the one with the smallest sum of Levenshtein distances to the others; then by the alphabet.
    ``confident``: the most common among answers with ``answer_confidence`` yes, of several the one that was given
    first; None where nobody was sure.
    """

    def __init__(self, questions: Iterable[Question], policy: Policy = "paper") -> None:
        if policy not in get_args(Policy):
            raise UsageError(f"there is no policy {policy!r} of answers", f"known are {', '.join(get_args(Policy))}")
        self.policy = policy
        self._frequent = Counter(answer for q in questions for answer in q.answers) if policy == "paper" else Counter()

    def __call__(self, question: Question) -> str | None:
        """The answer, as written; None without answers to choose from. Raises UsageError where confidences are needed
        and not known.
        """
        if self.policy == "confident":
            return _sure(question)
        tied = _most_common(question.answers)
        if len(tied) > 1:
            most = max(self._frequent[answer] for answer in tied)
            tied = [answer for answer in tied if self._frequent[answer] == most]
        if len(tied) > 1:
            return min(tied, key=lambda answer: (sum(distance(answer, other) for other in tied), answer))
        return tied[0] if tied else None

    def space(self, questions: Iterable[Question], least: int = 1) -> AnswerSpace:
        """What is chosen for at least ``least`` questions, the most frequent first, then by the alphabet.

        Raises UsageError when that is nothing.
        """
        counts = Counter(answer for q in questions if (answer := self(q)) is not None)
        kept = sorted((a for a, n in counts.items() if n >= least), key=lambda a: (-counts[a], a))
        if not kept:
            raise UsageError(
                f"no answer is chosen for {least} questions", "lower the threshold, or give annotated questions"
            )
        return AnswerSpace(kept)


def distance(a: str, b: str) -> int:
    """Levenshtein distance: the fewest letters to insert, delete or exchange."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def _sure(question: Question) -> str | None:
    if question.answers and not question.confidences:
        raise UsageError(
            f"the annotators of question {question.id!r} do not say how sure they were (answer_confidence)",
            "choose the policy paper",
        )
    sure = [a for a, word in zip(question.answers, question.confidences, strict=True) if word == "yes"]
    return next(iter(_most_common(sure)), None)


def _most_common(answers: Sequence[str]) -> list[str]:
    """The most frequent ones, in the order in which they were given."""
    counts = Counter(answers)
    return [answer for answer, count in counts.items() if count == max(counts.values())]
