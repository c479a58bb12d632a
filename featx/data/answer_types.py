"""Types of answers: those that VizWiz states, and those that a pattern finds in the answer itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from featx.data.question import Question

TypingName = Literal["vizwiz", "patterns"]


@dataclass(frozen=True)
class Typing:
    """names: the types, in the order of their classes. of: the name for a question and the answer that is learned."""

    names: tuple[str, ...]
    of: Callable[[Question, str | None], str | None]

    def index(self, question: Question, answer: str | None) -> int | None:
        """The class of a question; None where it has no type of these."""
        name = self.of(question, answer)
        return self.names.index(name) if name in self.names else None


_HUES = (
    "red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|gr[ae]y|beige|tan|gold(?:en)?|silver|maroon"
    "|navy|teal|turquoise|cream|khaki|lavender|magenta|burgundy|bronze|copper|ivory|cyan|aqua|mauve"
)
_SHADES = "dark|light|bright|pale|deep|off|and|or|with"
_COUNTS = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    "|eighteen|nineteen|twenty|thirty|forty|fifty|hundred|thousand"
)
# The first that fits the whole answer counts. Deuser et al. (arXiv 2206.05281) sort by regular expressions into these
# types without printing them, so these are ours; every other answer is "other".
PATTERNS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in (
        ("unanswerable", r"unanswerable"),
        ("unsuitable", r"unsuitable(?: image| picture| photo)?"),
        ("yes", r"(?:yes|yeah|yep)\b.*"),
        ("no", r"(?:no|nope)"),
        (
            "number",
            rf"\$?\d+(?:[.,:/]\d+)*\s?(?:%|percent|degrees|cents|dollars)?|(?:{_COUNTS})(?:[\s-](?:{_COUNTS}))*",
        ),
        ("colour", rf"(?=.*\b(?:{_HUES})(?:d?ish)?\b)(?:(?:{_HUES}|{_SHADES})(?:d?ish)?\b[\s,/&-]*)+"),
    )
}


def type_by_pattern(answer: str) -> str:
    """The first of ``PATTERNS`` that the whole answer fits, or ``other``."""
    text = answer.strip().rstrip(".!")
    return next((name for name, pattern in PATTERNS.items() if pattern.fullmatch(text)), "other")


TYPINGS: dict[str, Typing] = {
    "vizwiz": Typing(("other", "unanswerable", "yes/no", "number"), lambda question, answer: question.answer_type),
    "patterns": Typing(
        ("other", *PATTERNS), lambda question, answer: None if answer is None else type_by_pattern(answer)
    ),
}
