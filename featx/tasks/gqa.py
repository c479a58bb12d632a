"""``lxmert-gqa``: questions with exactly one right answer."""

from __future__ import annotations

from typing import ClassVar

from featx.tasks.answering import Answering


class LxmertGqa(Answering):
    """All answers of both splits are in the list, 1842 for GQA."""

    name: ClassVar[str] = "lxmert-gqa"
    published_answers: ClassVar[int] = 1
    form: ClassVar[str | None] = "gqa"
