"""The README of a folder of scenes: what is in it, how it was made, and how the answers are spread."""

from __future__ import annotations

from collections import Counter

from featx.scenes.meaning import FAMILIES
from featx.scenes.page import Page
from featx.scenes.plan import Plan
from featx.scenes.world import ATTRIBUTES, KINDS, SPLITS

_MOST_ANSWERS = 8  # that a line of the table names


class Census:
    """Counts of what the pages hold."""

    def __init__(self) -> None:
        self._pictures: Counter[str] = Counter()
        self._things: Counter[str] = Counter()
        self._answers: dict[str, Counter[str]] = {family: Counter() for family in FAMILIES}

    def add(self, page: Page) -> None:
        """Count one page."""
        split = page.scene.split
        self._pictures[split] += 1
        self._things[split] += len(page.scene.things)
        for question in page.questions:
            self._answers[question.family][question.answer] += 1

    @property
    def questions(self) -> int:
        """Questions in one language."""
        return sum(counts.total() for counts in self._answers.values())

    def card(self, plan: Plan) -> str:
        """The text in Markdown."""
        rows = [f"| {split} | {self._pictures[split]:,} | {self._things[split]:,} |" for split in SPLITS]
        families = [
            f"| {family} | {counts.total():,} | {_spread(counts)} |" for family, counts in self._answers.items()
        ]
        return _CARD.format(
            command=f"featx scenes OUT --train {plan.train} --val {plan.val} --seed {plan.seed}"
            f" --languages {','.join(plan.languages)}",
            drawing=plan.drawing, kinds=", ".join(KINDS), attributes=", ".join(ATTRIBUTES),
            rows="\n".join(rows), families="\n".join(families), languages=", ".join(plan.languages),
        )  # fmt: skip


def _spread(counts: Counter[str]) -> str:
    """``yes 50 %, no 50 %``, the most frequent answers first."""
    total = counts.total()
    named = [f"{answer} {count / total:.0%}" for answer, count in counts.most_common(_MOST_ANSWERS)]
    rest = len(counts) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest > 0 else "")


_CARD = """# Scenes drawn by featx

Pictures, boxes, questions, answers and captions that were made by a program, for trying every part of featx without a
download. Nothing in them was seen or said by a person; the ten annotators of each question are drawn by lot.

    {command}

makes the same files again, byte for byte with the same libraries (drawing {drawing}).

| split | pictures | things |
|---|---|---|
{rows}

Kinds: {kinds}. Attributes, one of each sort: {attributes}.

| family | questions in one language | answers |
|---|---|---|
{families}

| file | layout |
|---|---|
| `train/`, `val/` | JPEG; the key in a store is the stem of the name |
| `annotations/instances_*.json` | COCO boxes (of what is visible) with `attribute_ids`: colour, pattern, size |
| `vqa/questions_*`, `vqa/annotations_*` | VQAv2; keys by `--image-name "scene_{{image_id:012d}}"` |
| `gqa/*_balanced_questions*` | GQA, without counting |
| `captions/captions_*` | COCO captions |
| `captions/references_val_*` | COCO captions, many of each picture, to compare written ones with |
| `lxmert/*` | the LXMERT repository's lists with soft scores |
| `vizwiz/*` | with `--vizwiz` only: pictures and questions as VizWiz has them; keys are the stems |

Questions and captions are in {languages}, each in files of its own that end in the language; the English files of
GQA and LXMERT are named as published. Answers, the full ones of GQA too, are English in every language, as in the
translations of VQAv2 and GQA.
"""
