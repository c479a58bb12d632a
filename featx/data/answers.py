"""The answers a model chooses from, and which index each of them has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featx.data.document import Document, load_document
from featx.errors import UsageError
from featx.metrics.normalise import convert_answer, normalise_answer

if TYPE_CHECKING:
    from featx.data.question import Question


class AnswerSpace:
    """An ordered list of answers; the index of an answer is its class. Several orders of the same answers exist in
    published checkpoints, so a model carries its own.
    """

    def __init__(self, answers: Iterable[str]) -> None:
        self.answers = tuple(answers)
        self._index = {answer: i for i, answer in enumerate(self.answers)}
        if not self.answers or len(self._index) != len(self.answers):
            twice = [answer for answer, n in Counter(self.answers).items() if n > 1]
            raise UsageError(
                f"a list of answers names {twice[0]!r} twice" if twice else "a list of answers is empty",
                "every answer is one class",
            )

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[str]:
        return iter(self.answers)

    def __getitem__(self, index: int) -> str:
        return self.answers[index]

    def __contains__(self, answer: object) -> bool:
        return answer in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnswerSpace) and self.answers == other.answers

    def __hash__(self) -> int:
        return hash(self.answers)

    def __repr__(self) -> str:
        return f"AnswerSpace({len(self)} answers)"

    def index(self, answer: str) -> int | None:
        """The class of an answer, None when it is not in the list."""
        return self._index.get(answer)

    def targets(self, scores: Sequence[Mapping[str, float] | None]) -> npt.NDArray[np.float32]:
        """Soft targets float32 [B, C] of the soft scores of B questions. Answers outside the list are left out, and a
        question without answers is a row of zeros.
        """
        out = np.zeros((len(scores), len(self)), np.float32)
        for row, known in zip(out, scores, strict=True):
            for answer, score in (known or {}).items():
                if (i := self._index.get(answer)) is not None:
                    row[i] = score
        return out

    def remap(self, old: AnswerSpace, convert: Callable[[str], str] = convert_answer) -> npt.NDArray[np.int64]:
        """int64 [C]: for each answer its class in ``old``, -1 where ``old`` has none.

        For head surgery: row i of the new layer is row ``remap[i]`` of the old one, or zero. ``convert`` brings an
        answer of this list into the form of the old one; the default is that of LXMERT's pre-training table.
        """
        rows = (old.index(convert(answer)) for answer in self.answers)
        return np.array([-1 if row is None else row for row in rows], np.int64)

    @classmethod
    def from_questions(cls, questions: Iterable[Question], least: int = 9) -> AnswerSpace:
        """The answers that at least ``least`` questions settled on, the most frequent first, then by the alphabet.

        One answer counts for each question: the one that the annotators settled on (``multiple_choice_answer``),
        normalised, else the one with the best score. With 9 and all of VQAv2's train and val, this is how the 3129
        answers of LXMERT came about (bottom-up-attention-vqa, ``compute_softscore.py``), in another order.
        """
        counts = Counter(answer for q in questions if (answer := settled_answer(q)) is not None)
        kept = sorted((a for a, n in counts.items() if n >= least), key=lambda a: (-counts[a], a))
        if not kept:
            raise UsageError(f"no answer occurs {least} times", "lower the threshold, or give annotated questions")
        return cls(kept)

    @classmethod
    def read(cls, path: str | Path) -> AnswerSpace:
        """A JSON file in one of the forms that exist; UsageError for another, and for classes other than 0, 1, 2, ...

        A list in the order of the classes (LXMERT's ``trainval_label2ans.json``; its ``all_ans.json`` of objects with
        ``ans``), ``{"answers": [...]}``, answer -> class (``ans2label``), class -> answer, or a Hugging Face
        configuration with ``id2label``. Of a ``.txt`` file, an answer in each line (``answers_vqa.txt`` of Pythia and
        MMF).
        """
        if Path(path).suffix == ".txt":
            return cls(_lines(path))
        file = load_document(path)
        return cls(_ordered(file, file.content))

    def write(self, path: str | Path) -> None:
        """Write the list in the order of the classes, as JSON."""
        Path(path).write_text(json.dumps(self.answers, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def settled_answer(question: Question) -> str | None:
    """The one answer of a question: the annotators', normalised, else the best scored, the first among equals."""
    scores = question.scores
    if scores is None:
        return None
    if question.answer and len(question.answers) > 1:
        return normalise_answer(question.answer)
    return max(scores, key=scores.__getitem__, default=None)


def _lines(path: str | Path) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list of answers {path} cannot be read: {error}", "give a UTF-8 text file") from None
    answers = [line.strip() for line in lines]
    while answers and not answers[-1]:  # blank lines at the end are no answers
        answers.pop()
    if "" in answers:
        raise UsageError(
            f"the list of answers {path} is blank in line {answers.index('') + 1}", "expected an answer in each line"
        )
    return answers


def _ordered(file: Document, content: Any) -> list[str]:
    if isinstance(content, dict):
        for name in ("id2label", "label2ans", "answers", "ans2label"):
            if name in content and not isinstance(content[name], int | str):
                return _ordered(file, content[name])
        if content and all(type(value) is int for value in content.values()):
            return _by_class(file, {label: answer for answer, label in content.items()})
        if content and all(key.isdecimal() for key in content):
            return _by_class(file, {int(key): answer for key, answer in content.items()})
    if isinstance(content, list):
        answers = [entry.get("ans") if isinstance(entry, dict) else entry for entry in content]
        if all(isinstance(answer, str) for answer in answers):
            return [str(answer) for answer in answers]
    return file.refuse("it is no list of answers", "expected strings in the order of the classes")


def _by_class(file: Document, answers: dict[int, str]) -> list[str]:
    if sorted(answers) != list(range(len(answers))):
        file.refuse("its classes are not 0, 1, 2, ... without a gap", "expected one answer for each class")
    return _ordered(file, [answers[i] for i in range(len(answers))])
