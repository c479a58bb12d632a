"""The layout of VizWiz: ``vizwiz/{split}.json``, a list of pictures, each with one question and ten answers."""

from __future__ import annotations

from pathlib import Path

from featx.scenes.grammar import Language
from featx.scenes.growing import GrowingJson, whole_list
from featx.scenes.page import Page
from featx.scenes.snapshots import UNANSWERABLE, take


class Vizwiz:
    """Answers are English whatever the language of the questions."""

    def __init__(self, path: Path, language: Language) -> None:
        self._language = language
        self.file: GrowingJson = whole_list(path)

    def add(self, page: Page) -> None:
        """The snapshot of one scene."""
        shot = take(page.scene)
        self.file.add(
            {
                "image": shot.name,
                "question": shot.text(self._language),
                "answers": [{"answer": said.answer, "answer_confidence": said.sure} for said in shot.said],
                "answer_type": shot.answer_type,
                "answerable": int(shot.answer != UNANSWERABLE),
            }
        )
