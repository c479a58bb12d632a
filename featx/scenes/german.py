"""German. Adjectives stand before the noun and take the endings of its gender, case and article.

Forms of a noun: ``a``, ``a_acc``, ``a_dat``: ein Hut, einen Hut, einem Hut; ``the``, ``the_dat``, ``the_gen``: der Hut,
dem Hut, des Hutes; ``of_the``: vom Hut; ``many``: Hüte.
"""

from __future__ import annotations

from featx.scenes.grammar import Language, captions
from featx.scenes.meaning import Phrase

# Gender, nominative, genitive (that of feminine nouns is the nominative), plural.
_NOUNS = {
    "apple": ("m", "Apfel", "Apfels", "Äpfel"), "balloon": ("m", "Ballon", "Ballons", "Ballons"),
    "boat": ("n", "Boot", "Bootes", "Boote"), "book": ("n", "Buch", "Buches", "Bücher"),
    "butterfly": ("m", "Schmetterling", "Schmetterlings", "Schmetterlinge"), "car": ("n", "Auto", "Autos", "Autos"),
    "cat": ("f", "Katze", "Katze", "Katzen"), "cup": ("f", "Tasse", "Tasse", "Tassen"),
    "duck": ("f", "Ente", "Ente", "Enten"), "fish": ("m", "Fisch", "Fisches", "Fische"),
    "flower": ("f", "Blume", "Blume", "Blumen"), "hat": ("m", "Hut", "Hutes", "Hüte"),
    "house": ("n", "Haus", "Hauses", "Häuser"), "star": ("m", "Stern", "Sterns", "Sterne"),
    "tree": ("m", "Baum", "Baumes", "Bäume"), "umbrella": ("m", "Regenschirm", "Regenschirms", "Regenschirme"),
    "": ("n", "Ding", "Dinges", "Dinge"),
}  # fmt: skip
_ADJECTIVES = {
    "small": "klein", "large": "groß", "red": "rot", "orange": "orangefarben", "yellow": "gelb", "green": "grün",
    "blue": "blau", "purple": "violett", "black": "schwarz", "white": "weiß",
    "plain": "einfarbig", "striped": "gestreift", "dotted": "gepunktet",
}  # fmt: skip
# Article, in ``of_the`` with its preposition, and ending of the adjective, by form and gender.
_SINGULAR = {
    "a": {"m": ("ein", "er"), "f": ("eine", "e"), "n": ("ein", "es")},
    "a_acc": {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")},
    "a_dat": {"m": ("einem", "en"), "f": ("einer", "en"), "n": ("einem", "en")},
    "the": {"m": ("der", "e"), "f": ("die", "e"), "n": ("das", "e")},
    "the_dat": {"m": ("dem", "en"), "f": ("der", "en"), "n": ("dem", "en")},
    "the_gen": {"m": ("des", "en"), "f": ("der", "en"), "n": ("des", "en")},
    "of_the": {"m": ("vom", "en"), "f": ("von der", "en"), "n": ("vom", "en")},
}


class Noun:
    """A description in German; adjectives in the order size, pattern, colour."""

    def __init__(self, phrase: Phrase) -> None:
        self._stems = [_ADJECTIVES[word] for word in (phrase.size, phrase.pattern, phrase.colour) if word]
        _, _, _, plural = _NOUNS[phrase.kind]
        self.a, self.a_acc, self.a_dat, self.the, self.the_dat, self.the_gen, self.of_the = (
            self._singular(form, phrase.kind) for form in _SINGULAR
        )
        self.many = self._with("", "e", plural)

    def _singular(self, form: str, kind: str) -> str:
        gender, noun, genitive, _ = _NOUNS[kind]
        article, ending = _SINGULAR[form][gender]
        return self._with(article, ending, genitive if form == "the_gen" else noun)

    def _with(self, article: str, ending: str, noun: str) -> str:
        return " ".join([*([article] if article else []), *(stem + ending for stem in self._stems), noun])


QUESTIONS = {
    "exists": (
        "gibt es {0.a_acc}?", "gibt es auf dem Bild {0.a_acc}?", "siehst du {0.a_acc}?",
    ),
    "count": (
        "wie viele {0.many} gibt es?", "wie viele {0.many} sind auf dem Bild?", "wie viele {0.many} siehst du?",
    ),
    "colour": ("welche Farbe hat {0.the}?", "was für eine Farbe hat {0.the}?", "von welcher Farbe ist {0.the}?"),
    "pattern": (
        "welches Muster hat {0.the}?", "ist {0.the} einfarbig, gestreift oder gepunktet?",
        "was für ein Muster hat {0.the}?",
    ),
    "size": ("ist {0.the} klein oder groß?", "welche Größe hat {0.the}?", "ist {0.the} groß oder klein?"),
    "kind": ("was ist {0.the}?", "was für ein Ding ist {0.the}?", "wie heißt {0.the}?"),
    "is_left": ("ist {0.the} links {1.of_the}?", "befindet sich {0.the} links {1.of_the}?"),
    "is_right": ("ist {0.the} rechts {1.of_the}?", "befindet sich {0.the} rechts {1.of_the}?"),
    "is_above": ("ist {0.the} über {1.the_dat}?", "befindet sich {0.the} oberhalb {1.the_gen}?"),
    "is_below": ("ist {0.the} unter {1.the_dat}?", "befindet sich {0.the} unterhalb {1.the_gen}?"),
    "side": (
        "auf welcher Seite {1.the_gen} ist {0.the}, links oder rechts?",
        "ist {0.the} links oder rechts {1.of_the}?",
        "befindet sich {0.the} links oder rechts {1.of_the}?",
    ),
    "height": ("ist {0.the} über oder unter {1.the_dat}?", "wo ist {0.the}, über oder unter {1.the_dat}?"),
    "in_left": ("ist {0.the} in der linken Hälfte des Bildes?", "ist {0.the} auf der linken Seite des Bildes?"),
    "in_right": ("ist {0.the} in der rechten Hälfte des Bildes?", "ist {0.the} auf der rechten Seite des Bildes?"),
    "in_upper": ("ist {0.the} in der oberen Hälfte des Bildes?", "ist {0.the} im oberen Teil des Bildes?"),
    "in_lower": ("ist {0.the} in der unteren Hälfte des Bildes?", "ist {0.the} im unteren Teil des Bildes?"),
    "half_across": (
        "in welcher Hälfte des Bildes ist {0.the}, in der linken oder in der rechten?",
        "ist {0.the} in der linken oder rechten Hälfte des Bildes?",
    ),
    "half_down": (
        "in welcher Hälfte des Bildes ist {0.the}, in der oberen oder in der unteren?",
        "ist {0.the} in der oberen oder unteren Hälfte des Bildes?",
    ),
    "more": ("gibt es mehr {0.many} als {1.many}?", "siehst du mehr {0.many} als {1.many}?"),
    "same_colour": (
        "haben {0.the} und {1.the} dieselbe Farbe?", "ist die Farbe {0.the_gen} dieselbe wie die {1.the_gen}?",
        "hat {0.the} dieselbe Farbe wie {1.the}?",
    ),
    "larger": ("was ist größer, {0.the} oder {1.the}?", "was von beiden ist größer, {0.the} oder {1.the}?"),
}  # fmt: skip

CAPTIONS = captions(
    {"left": "links von", "right": "rechts von", "above": "über", "below": "unter"},
    one=("das Bild zeigt {0.a_acc}.", "auf dem Bild ist {0.a}."),
    two=("{0.a} ist WHERE {1.a_dat}.", "WHERE {1.a_dat} ist {0.a}.", "das Bild zeigt {0.a_acc} WHERE {1.a_dat}."),
    three=(
        "{0.a} ist WHERE {1.a_dat}, und es gibt auch {2.a_acc}.",
        "das Bild zeigt {2.a_acc} sowie {0.a_acc} WHERE {1.a_dat}.",
        "es gibt {2.a_acc}, und {0.a} ist WHERE {1.a_dat}.",
    ),
)  # fmt: skip

GERMAN = Language("de", Noun, QUESTIONS, CAPTIONS)
