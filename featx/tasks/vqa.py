"""``lxmert-vqa``: questions whose annotators may disagree (VQAv2, VizWiz, Visual Genome, the scenes)."""

from __future__ import annotations

from typing import ClassVar

from featx.tasks.answering import Answering


class LxmertVqa(Answering):
    """The answers that nine questions settled on are in the list, 3129 for VQAv2."""

    name: ClassVar[str] = "lxmert-vqa"
