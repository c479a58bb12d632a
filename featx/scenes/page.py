"""A page of the picture book: a scene and everything that is said about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from featx.scenes.annotators import Answer, answers
from featx.scenes.captions import Caption, caption
from featx.scenes.layout import lay_out
from featx.scenes.questions import Question, ask
from featx.scenes.world import Scene, Split, stream

_QUESTIONS_PER_PICTURE = 100  # room in the numbers of questions


@dataclass(frozen=True, slots=True)
class Page:
    """answers: ten for each question, in the layout of VQA annotations."""

    scene: Scene
    questions: tuple[Question, ...]
    answers: tuple[list[Answer], ...]
    captions: tuple[Caption, ...]

    def asked(self) -> Iterator[tuple[int, Question, list[Answer]]]:
        """(question_id, question, ten answers) of every question."""
        for question, said in zip(self.questions, self.answers, strict=True):
            yield self.scene.id * _QUESTIONS_PER_PICTURE + question.number, question, said


def write_page(seed: int, split: Split, index: int) -> Page:
    """The page of one picture; a pure function of its arguments."""
    scene = lay_out(seed, split, index)
    questions = tuple(ask(scene))
    people = stream(seed, split, index, "annotators")
    return Page(scene, questions, tuple(answers(question.answer, people) for question in questions), caption(scene))
