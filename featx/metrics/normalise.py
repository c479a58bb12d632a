"""The official normalisation of answers, with the surprises that published scores contain.

After the evaluation code of the VQA challenge (GT-Vision-Lab/VQA, ``vqaEval.py``); VizWiz runs the same steps with
another table of contractions and, being Python 3, with the digits of every script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from featx.metrics.contractions import CONTRACTIONS, VIZWIZ_CONTRACTIONS

MARKS = ';/[]"{}()=+\\_-><@`,?!'
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(n) for n, word in enumerate(_NUMBERS)} | {"none": "0"}
ARTICLES = frozenset(("a", "an", "the"))
# LXMERT's answer table: what is left of an answer after its article is looked up here.
_CONVERT = {word: digits for word, digits in NUMBERS.items() if digits != "0"} | {"grey": "gray"}

_PERIODS = 32  # at most this many go: the original passes a flag where the count belongs


@dataclass(frozen=True, eq=False)  # hashed as the one object it is
class Rules:
    """Where two evaluations differ: which contractions they know, and which characters are digits to them."""

    contractions: Mapping[str, str]
    comma: re.Pattern[str]  # between two digits
    period: re.Pattern[str]  # the original also looks behind for a digit, mistyped so that it always holds


VQA = Rules(CONTRACTIONS, re.compile(r"[0-9],[0-9]"), re.compile(r"\.(?![0-9])"))
VIZWIZ = Rules(VIZWIZ_CONTRACTIONS, re.compile(r"\d,\d"), re.compile(r"\.(?!\d)"))


@lru_cache(maxsize=1 << 18)  # a data set repeats few answers millions of times
def normalise_answer(text: str, rules: Rules = VQA) -> str:
    """The answer in the form in which a challenge compares it: ``A Red Bus.`` -> ``red bus``, ``two`` -> ``2``."""
    return strip_words(strip_punctuation(clean(text), rules), rules)


def clean(text: str) -> str:
    """Line breaks and tabs become spaces; none are left at the ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str, rules: Rules = VQA) -> str:
    """Every mark becomes a space, or nothing if somewhere in the text it touches a space.

    A comma between two digits anywhere lets all marks become nothing. Periods go unless a digit follows.
    """
    numeric = rules.comma.search(text) is not None
    out = text
    for mark in MARKS:
        if mark in text:
            gone = numeric or f"{mark} " in text or f" {mark}" in text
            out = out.replace(mark, "" if gone else " ")
    return rules.period.sub("", out, count=_PERIODS)


def strip_words(text: str, rules: Rules = VQA) -> str:
    """Lower case; numbers to ten as digits; no articles; apostrophes restored; single spaces."""
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(rules.contractions.get(word, word) for word in words if word not in ARTICLES)


def convert_answer(answer: str) -> str:
    """An answer in the form of LXMERT's pre-training table: ``The Man.`` -> ``man``, ``one`` -> ``1``.

    Lower case; one period at the end goes; then a leading ``a``, ``an`` and ``the``, each once and in this order; then
    numbers to ten become digits. After ``AnswerTable.convert_ans`` of airsplay/lxmert.
    """
    text = answer.lower()
    if text.endswith("."):
        text = text[:-1].strip()
    for article in ("a ", "an ", "the "):
        if text.startswith(article):
            text = text[len(article) :].strip()
    return _CONVERT.get(text, text)
