"""The table of multilingual VQA: a question in each row, its answer as a class (gchhablani/multilingual-vqa)."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from featx.data.answers import AnswerSpace
from featx.data.names import PictureNames
from featx.data.question import Question
from featx.data.tsv import Line, read_tsv


def read_table(
    path: str, vocabulary: str | None = None, image_name: str | None = None, language: str = "en"
) -> Iterator[Question]:
    """The questions of a table with the columns ``image_file`` and ``question``; ids are their numbers, from 0.

    vocabulary: the list of answers, see :meth:`featx.data.AnswerSpace.read`, that the classes of the column
    ``answer_label`` are counted in; without it nobody has answered. A row is in the language of its column ``lang_id``
    and of the kind of its ``question_type``, where there are such columns. The key is the name of the picture's file
    without folder and suffix, or what a template says of that.
    """
    names = PictureNames(image_name) if image_name else None
    answers = AnswerSpace.read(vocabulary) if vocabulary else None
    scores = [{answer: 1.0} for answer in answers or ()]  # one object for all questions with that answer
    columns = ("image_file", "question", *(("answer_label",) if answers else ()))
    for number, line in enumerate(read_tsv(path, columns)):
        label = _label(line, len(answers)) if answers else None
        yield Question(
            number,
            line.picture("image_file", names),
            line.text("question"),
            None if label is None else scores[label],
            question_type=_word(line, "question_type", ""),
            language=_word(line, "lang_id", language),
            answer="" if answers is None or label is None else answers[label],
            metric="labels",
        )


def _label(line: Line, classes: int) -> int:
    text = line.text("answer_label")
    if not text.isascii() or not text.isdigit() or int(text) >= classes:
        line.refuse(f"answer_label is {text!r}", f"expected one of the classes 0 to {classes - 1} of the vocabulary")
    return int(text)


def _word(line: Line, column: str, otherwise: str) -> str:
    """What stands in a column; one object for equal words."""
    return sys.intern(line.fields.get(column, "").strip() or otherwise)
