"""Questions and answers in the layouts of VQAv2 and of the LXMERT repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featx.metrics.vqa import compared, soft_scores
from featx.scenes.annotators import answer_type
from featx.scenes.coco import INFO
from featx.scenes.grammar import Language
from featx.scenes.growing import GrowingJson, list_within, whole_list
from featx.scenes.page import Page
from featx.scenes.world import Split


def _head(split: Split) -> dict[str, Any]:
    return {"info": INFO, "task_type": "Open-Ended", "data_type": "scenes", "data_subtype": split}


class Questions:
    """``questions_{split}_{language}.json``; a question has the same question_id in every language."""

    def __init__(self, path: Path, split: Split, language: Language) -> None:
        self._language = language
        self.file: GrowingJson = list_within(path, "questions", _head(split))

    def add(self, page: Page) -> None:
        """The questions of one picture."""
        for number, question, _ in page.asked():
            text = question.text(self._language)
            self.file.add({"image_id": page.scene.id, "question": text, "question_id": number})


class Annotations:
    """``annotations_{split}_{language}.json``; the family is the question_type.

    Answers are English whatever the language of the questions, as in the translated VQAv2 data.
    """

    def __init__(self, path: Path, split: Split) -> None:
        self.file: GrowingJson = list_within(path, "annotations", _head(split))

    def add(self, page: Page) -> None:
        """The answers about one picture."""
        for number, question, answers in page.asked():
            self.file.add(
                {
                    "question_type": question.family,
                    "multiple_choice_answer": question.answer,
                    "answers": answers,
                    "image_id": page.scene.id,
                    "answer_type": answer_type(question.answer),
                    "question_id": number,
                }
            )


class LxmertList:
    """``lxmert/{split}.json``: questions with the soft scores of their answers, which are English."""

    def __init__(self, path: Path, language: Language) -> None:
        self._language = language
        self.file: GrowingJson = whole_list(path)

    def add(self, page: Page) -> None:
        """The questions of one picture."""
        for number, question, answers in page.asked():
            _, given = compared("", [str(a["answer"]) for a in answers])
            self.file.add(
                {
                    "answer_type": answer_type(question.answer),
                    "img_id": page.scene.key,
                    "label": {answer: round(score, 2) for answer, score in soft_scores(given).items()},
                    "question_id": number,
                    "question_type": question.family,
                    "sent": question.text(self._language),
                }
            )
