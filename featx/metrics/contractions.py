"""English contractions whose apostrophe annotators left out, as the official VQA evaluation restores them.

The table of GT-Vision-Lab/VQA (``vqaEval.py``) has a rule: a key is a contraction with exactly one of its apostrophes
missing. So the contractions are listed here and the keys follow: ``he'd've`` is found as ``hed've`` and ``he'dve``, but
not as ``heddve``, and ``lets`` or ``im`` are not in the table, because the words they could stand for are not.
"""

from __future__ import annotations

_WORDS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
    why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
    you've
"""


def _keys(word: str) -> list[str]:
    """The word with one apostrophe missing, for each of its apostrophes."""
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


# The last entry takes an apostrophe away instead of adding one: a slip that published scores contain.
CONTRACTIONS = {key: word for word in _WORDS.split() for key in _keys(word)} | {"somebody'd": "somebodyd"}

# VizWiz evaluates with the same table after a word processor turned its apostrophes; these escaped it.
_STRAIGHT_WORDS = {"ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've"}
_STRAIGHT_KEYS = {"couldn'tve", "hadn'tve"}


def _turned(text: str, straight: set[str]) -> str:
    return text if text in straight else text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")


VIZWIZ_CONTRACTIONS = {_turned(k, _STRAIGHT_KEYS): _turned(w, _STRAIGHT_WORDS) for k, w in CONTRACTIONS.items()}
