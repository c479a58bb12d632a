"""Questions in the layout of GQA: a mapping with types and full sentences as answers.

GQA does not ask for numbers, so counting is left out. Functional programs are not given: ``semantic`` is empty.
Answers, short and full, are English whatever the language of the questions, as in the translations of GQA.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featx.scenes.english import ENGLISH
from featx.scenes.grammar import Language
from featx.scenes.growing import GrowingJson, whole_mapping
from featx.scenes.page import Page
from featx.scenes.questions import Question

# (structural, semantic) type of each form of question; what is not here has no place in GQA.
TYPES = {
    "exists": ("verify", "obj"), "colour": ("query", "attr"), "pattern": ("query", "attr"), "size": ("choose", "attr"),
    "kind": ("query", "cat"), "side": ("choose", "rel"), "height": ("choose", "rel"),
    "half_across": ("choose", "attr"), "half_down": ("choose", "attr"),
    **dict.fromkeys(("is_left", "is_right", "is_above", "is_below"), ("verify", "rel")),
    **dict.fromkeys(("in_left", "in_right", "in_upper", "in_lower"), ("verify", "attr")),
    **dict.fromkeys(("same_colour", "larger"), ("compare", "attr")),
    "more": ("compare", "obj"),
}  # fmt: skip

# Full answers; ANSWER is the short one. Of two sentences the first is for yes.
SENTENCES = {
    "exists": ("yes, there is {0.a}.", "no, there is no {0.one}."),
    "colour": ("{0.the} is ANSWER.",), "pattern": ("{0.the} is ANSWER.",), "size": ("{0.the} is ANSWER.",),
    "kind": ("{0.the} is AN ANSWER.",),
    "is_left": ("yes, {0.the} is left of {1.the}.", "no, {0.the} is right of {1.the}."),
    "is_right": ("yes, {0.the} is right of {1.the}.", "no, {0.the} is left of {1.the}."),
    "is_above": ("yes, {0.the} is above {1.the}.", "no, {0.the} is below {1.the}."),
    "is_below": ("yes, {0.the} is below {1.the}.", "no, {0.the} is above {1.the}."),
    "side": ("{0.the} is ANSWER of {1.the}.",), "height": ("{0.the} is ANSWER {1.the}.",),
    "in_left": ("yes, {0.the} is in the left half.", "no, {0.the} is in the right half."),
    "in_right": ("yes, {0.the} is in the right half.", "no, {0.the} is in the left half."),
    "in_upper": ("yes, {0.the} is in the upper half.", "no, {0.the} is in the lower half."),
    "in_lower": ("yes, {0.the} is in the lower half.", "no, {0.the} is in the upper half."),
    "half_across": ("{0.the} is in the ANSWER half.",), "half_down": ("{0.the} is in the ANSWER half.",),
    "more": ("yes, there are more {0.many} than {1.many}.", "no, there are not more {0.many} than {1.many}."),
    "same_colour": ("yes, {0.the} and {1.the} have the same colour.", "no, {0.the} and {1.the} differ in colour."),
    "larger": ("the ANSWER is larger.",),
}  # fmt: skip


def full_answer(question: Question) -> str:
    """The answer as an English sentence."""
    sentences = SENTENCES[question.meaning.form]
    an = "an" if question.answer[0] in "aeiou" else "a"
    texts = tuple(
        text.replace("AN ANSWER", f"{an} {question.answer}").replace("ANSWER", question.answer) for text in sentences
    )
    return ENGLISH.say(texts, question.meaning.phrases, int(question.answer == "no"))


class Gqa:
    """``gqa/{split}_balanced_questions.json``; question ids are those of the VQA files, as text."""

    def __init__(self, path: Path, language: Language) -> None:
        self._language = language
        self.file: GrowingJson = whole_mapping(path)

    def add(self, page: Page) -> None:
        """The questions of one picture."""
        for number, question, _ in page.asked():
            if question.meaning.form in TYPES:
                self.file.add(entry(page, number, question, self._language), str(number))


def entry(page: Page, number: int, question: Question, language: Language) -> dict[str, Any]:
    """One question as GQA writes it."""
    structural, semantic = TYPES[question.meaning.form]
    return {
        "semantic": [],
        "entailed": [],
        "equivalent": [str(number)],
        "question": question.text(language),
        "imageId": page.scene.key,
        "isBalanced": True,
        "groups": {"global": None, "local": question.meaning.form},
        "answer": question.answer,
        "semanticStr": "",
        "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
        "types": {"detailed": question.meaning.form, "semantic": semantic, "structural": structural},
        "fullAnswer": full_answer(question),
    }
