"""French. Size before the noun, colour and pattern behind it; le and de lose their vowel before another one.

Forms of a noun: ``a``: une voiture, ``the``: la voiture, ``of_a``: d'une voiture, ``that_a``: qu'une voiture,
``of_the``: de la voiture, ``of_many``: de voitures, ``it``: elle, and the predicates ``small``, ``large``, ``plain``,
``striped``, ``dotted``.
"""

from __future__ import annotations

from featx.scenes.grammar import Language, captions
from featx.scenes.meaning import Phrase

# Noun, is it feminine; plurals end in s, those of -eau in x.
_NOUNS = {
    "apple": ("pomme", True), "balloon": ("ballon", False), "boat": ("bateau", False), "book": ("livre", False),
    "butterfly": ("papillon", False), "car": ("voiture", True), "cat": ("chat", False), "cup": ("tasse", True),
    "duck": ("canard", False), "fish": ("poisson", False), "flower": ("fleur", True), "hat": ("chapeau", False),
    "house": ("maison", True), "star": ("étoile", True), "tree": ("arbre", False), "umbrella": ("parapluie", False),
    "": ("objet", False),
}  # fmt: skip
# Masculine and feminine; a plural s is added, but not to what never changes.
_ADJECTIVES = {
    "small": ("petit", "petite"), "large": ("grand", "grande"), "red": ("rouge", "rouge"), "yellow": ("jaune", "jaune"),
    "green": ("vert", "verte"), "blue": ("bleu", "bleue"), "purple": ("violet", "violette"), "black": ("noir", "noire"),
    "white": ("blanc", "blanche"), "plain": ("uni", "unie"), "striped": ("rayé", "rayée"),
}  # fmt: skip
_INVARIABLE = {"orange": "orange", "dotted": "à pois"}


class Noun:
    """A description in French."""

    def __init__(self, phrase: Phrase) -> None:
        self._noun, self._feminine = _NOUNS[phrase.kind]
        self._before = [phrase.size] if phrase.size else []
        self._after = [word for word in (phrase.colour, phrase.pattern) if word]
        one, many = self._group(plural=False), self._group(plural=True)
        elided = one[0] in "aeioué"
        article = "la" if self._feminine else "le"
        self.a = f"{'une' if self._feminine else 'un'} {one}"
        self.the = f"l'{one}" if elided else f"{article} {one}"
        self.of_a, self.that_a = f"d'{self.a}", f"qu'{self.a}"
        self.of_the = f"du {one}" if not elided and not self._feminine else f"de {self.the}"
        self.of_many = f"d'{many}" if many[0] in "aeioué" else f"de {many}"
        self.it = "elle" if self._feminine else "il"
        self.small, self.large, self.plain, self.striped, self.dotted = (
            self._adjective(word, plural=False) for word in ("small", "large", "plain", "striped", "dotted")
        )

    def _group(self, *, plural: bool) -> str:
        noun = self._noun + ("" if not plural else "x" if self._noun.endswith("eau") else "s")
        before = [self._adjective(word, plural=plural) for word in self._before]
        return " ".join([*before, noun, *(self._adjective(word, plural=plural) for word in self._after)])

    def _adjective(self, word: str, *, plural: bool) -> str:
        if word in _INVARIABLE:
            return _INVARIABLE[word]
        return _ADJECTIVES[word][self._feminine] + ("s" if plural else "")


QUESTIONS = {
    "exists": (
        "y a-t-il {0.a} ?", "y a-t-il {0.a} sur l'image ?", "vois-tu {0.a} ?",
    ),
    "count": (
        "combien y a-t-il {0.of_many} ?", "combien {0.of_many} y a-t-il sur l'image ?", "combien {0.of_many} vois-tu ?",
    ),
    "colour": ("de quelle couleur est {0.the} ?", "quelle est la couleur {0.of_the} ?", "quelle couleur a {0.the} ?"),
    "pattern": (
        "quel motif a {0.the} ?", "{0.the} est-{0.it} {0.plain}, {0.striped} ou {0.dotted} ?",
        "quel est le motif {0.of_the} ?",
    ),
    "size": (
        "{0.the} est-{0.it} {0.small} ou {0.large} ?", "quelle est la taille {0.of_the} ?",
        "est-ce que {0.the} est {0.large} ou {0.small} ?",
    ),
    "kind": ("qu'est-ce que {0.the} ?", "quelle sorte d'objet est {0.the} ?", "comment s'appelle {0.the} ?"),
    "is_left": ("{0.the} est-{0.it} à gauche {1.of_the} ?", "est-ce que {0.the} est à gauche {1.of_the} ?"),
    "is_right": ("{0.the} est-{0.it} à droite {1.of_the} ?", "est-ce que {0.the} est à droite {1.of_the} ?"),
    "is_above": ("{0.the} est-{0.it} au-dessus {1.of_the} ?", "est-ce que {0.the} est plus haut que {1.the} ?"),
    "is_below": ("{0.the} est-{0.it} au-dessous {1.of_the} ?", "est-ce que {0.the} est plus bas que {1.the} ?"),
    "side": (
        "de quel côté {1.of_the} se trouve {0.the}, à gauche ou à droite ?",
        "{0.the} est-{0.it} à gauche ou à droite {1.of_the} ?",
        "est-ce que {0.the} est à gauche ou à droite {1.of_the} ?",
    ),
    "height": (
        "{0.the} est-{0.it} au-dessus ou au-dessous {1.of_the} ?",
        "où se trouve {0.the}, au-dessus ou au-dessous {1.of_the} ?",
    ),
    "in_left": (
        "{0.the} est-{0.it} dans la moitié gauche de l'image ?", "est-ce que {0.the} est du côté gauche de l'image ?",
    ),
    "in_right": (
        "{0.the} est-{0.it} dans la moitié droite de l'image ?", "est-ce que {0.the} est du côté droit de l'image ?",
    ),
    "in_upper": (
        "{0.the} est-{0.it} dans la moitié supérieure de l'image ?",
        "est-ce que {0.the} est dans la partie supérieure de l'image ?",
    ),
    "in_lower": (
        "{0.the} est-{0.it} dans la moitié inférieure de l'image ?",
        "est-ce que {0.the} est dans la partie inférieure de l'image ?",
    ),
    "half_across": (
        "dans quelle moitié de l'image se trouve {0.the}, celle de gauche ou celle de droite ?",
        "{0.the} est-{0.it} dans la moitié gauche ou droite de l'image ?",
    ),
    "half_down": (
        "dans quelle moitié de l'image se trouve {0.the}, celle du haut ou celle du bas ?",
        "{0.the} est-{0.it} dans la moitié supérieure ou inférieure de l'image ?",
    ),
    "more": ("y a-t-il plus {0.of_many} que {1.of_many} ?", "vois-tu plus {0.of_many} que {1.of_many} ?"),
    "same_colour": (
        "est-ce que {0.the} et {1.the} sont de la même couleur ?",
        "est-ce que {0.the} et {1.the} ont la même couleur ?",
        "{0.the} est-{0.it} de la même couleur que {1.the} ?",
    ),
    "larger": (
        "qu'est-ce qui est plus grand, {0.the} ou {1.the} ?",
        "qu'est-ce qui est le plus grand, {0.the} ou {1.the} ?",
    ),
}  # fmt: skip

CAPTIONS = captions(
    {"left": "à gauche", "right": "à droite", "above": "au-dessus", "below": "au-dessous"},
    one=("l'image montre {0.a}.", "il y a {0.a} sur l'image."),
    two=("{0.a} se trouve WHERE {1.of_a}.", "il y a {0.a} WHERE {1.of_a}.", "l'image montre {0.a} WHERE {1.of_a}."),
    three=(
        "{0.a} se trouve WHERE {1.of_a}, et il y a aussi {2.a}.",
        "l'image montre {2.a}, ainsi {0.that_a} WHERE {1.of_a}.",
        "en plus {2.of_a}, il y a {0.a} WHERE {1.of_a}.",
    ),
)  # fmt: skip

FRENCH = Language("fr", Noun, QUESTIONS, CAPTIONS)
