"""Spanish. Adjectives stand behind the noun: colour, size, pattern; de and el become del.

Forms of a noun: ``a``: un coche, ``the``: el coche, ``of_the``: del coche, ``many``: coches, ``how_many``: cuántos
coches, and the predicates ``small`` and ``plain``.
"""

from __future__ import annotations

from featx.scenes.grammar import Language, captions
from featx.scenes.meaning import Phrase

# Singular, plural, is it feminine.
_NOUNS = {
    "apple": ("manzana", "manzanas", True), "balloon": ("globo", "globos", False), "boat": ("barco", "barcos", False),
    "book": ("libro", "libros", False), "butterfly": ("mariposa", "mariposas", True), "car": ("coche", "coches", False),
    "cat": ("gato", "gatos", False), "cup": ("taza", "tazas", True), "duck": ("pato", "patos", False),
    "fish": ("pez", "peces", False), "flower": ("flor", "flores", True), "hat": ("sombrero", "sombreros", False),
    "house": ("casa", "casas", True), "star": ("estrella", "estrellas", True), "tree": ("árbol", "árboles", False),
    "umbrella": ("paraguas", "paraguas", False), "": ("cosa", "cosas", True),
}  # fmt: skip
# Those in -o take the gender of the noun; a plural s, or es behind a consonant; the last ones never change.
_ADJECTIVES = {
    "small": "pequeño", "large": "grande", "red": "rojo", "yellow": "amarillo", "green": "verde", "blue": "azul",
    "purple": "morado", "black": "negro", "white": "blanco", "plain": "liso",
}  # fmt: skip
_INVARIABLE = {"orange": "naranja", "striped": "de rayas", "dotted": "de lunares"}


class Noun:
    """A description in Spanish."""

    def __init__(self, phrase: Phrase) -> None:
        one, many, self._feminine = _NOUNS[phrase.kind]
        words = [word for word in (phrase.colour, phrase.size, phrase.pattern) if word]
        one = " ".join([one, *(self._adjective(word, plural=False) for word in words)])
        self.many = " ".join([many, *(self._adjective(word, plural=True) for word in words)])
        self.a = f"{'una' if self._feminine else 'un'} {one}"
        self.the = f"{'la' if self._feminine else 'el'} {one}"
        self.of_the = f"de {self.the}" if self._feminine else f"del {one}"
        self.how_many = f"{'cuántas' if self._feminine else 'cuántos'} {self.many}"
        self.small, self.plain = (self._adjective(word, plural=False) for word in ("small", "plain"))

    def _adjective(self, word: str, *, plural: bool) -> str:
        if word in _INVARIABLE:
            return _INVARIABLE[word]
        stem = _ADJECTIVES[word]
        agreed = stem[:-1] + "a" if self._feminine and stem.endswith("o") else stem
        return agreed + (("s" if agreed[-1] in "aeo" else "es") if plural else "")


QUESTIONS = {
    "exists": ("¿hay {0.a}?", "¿hay {0.a} en la imagen?", "¿ves {0.a}?"),
    "count": (
        "¿{0.how_many} hay?",
        "¿{0.how_many} hay en la imagen?",
        "¿{0.how_many} ves?",
    ),
    "colour": ("¿de qué color es {0.the}?", "¿cuál es el color {0.of_the}?", "¿qué color tiene {0.the}?"),
    "pattern": (
        "¿qué estampado tiene {0.the}?", "¿es {0.plain}, de rayas o de lunares {0.the}?",
        "¿cuál es el estampado {0.of_the}?",
    ),
    "size": ("¿es {0.small} o grande {0.the}?", "¿de qué tamaño es {0.the}?", "¿es grande o {0.small} {0.the}?"),
    "kind": ("¿qué es {0.the}?", "¿qué tipo de cosa es {0.the}?", "¿cómo se llama {0.the}?"),
    "is_left": ("¿está {0.the} a la izquierda {1.of_the}?", "¿se encuentra {0.the} a la izquierda {1.of_the}?"),
    "is_right": ("¿está {0.the} a la derecha {1.of_the}?", "¿se encuentra {0.the} a la derecha {1.of_the}?"),
    "is_above": ("¿está {0.the} por encima {1.of_the}?", "¿está {0.the} más arriba que {1.the}?"),
    "is_below": ("¿está {0.the} por debajo {1.of_the}?", "¿está {0.the} más abajo que {1.the}?"),
    "side": (
        "¿a qué lado {1.of_the} está {0.the}, a la izquierda o a la derecha?",
        "¿está {0.the} a la izquierda o a la derecha {1.of_the}?",
        "¿se encuentra {0.the} a la izquierda o a la derecha {1.of_the}?",
    ),
    "height": (
        "¿está {0.the} por encima o por debajo {1.of_the}?", "¿dónde está {0.the}, por encima o por debajo {1.of_the}?",
    ),
    "in_left": (
        "¿está {0.the} en la mitad izquierda de la imagen?", "¿está {0.the} en el lado izquierdo de la imagen?",
    ),
    "in_right": (
        "¿está {0.the} en la mitad derecha de la imagen?", "¿está {0.the} en el lado derecho de la imagen?",
    ),
    "in_upper": (
        "¿está {0.the} en la mitad superior de la imagen?", "¿está {0.the} en la parte superior de la imagen?",
    ),
    "in_lower": (
        "¿está {0.the} en la mitad inferior de la imagen?", "¿está {0.the} en la parte inferior de la imagen?",
    ),
    "half_across": (
        "¿en qué mitad de la imagen está {0.the}, la izquierda o la derecha?",
        "¿está {0.the} en la mitad izquierda o derecha de la imagen?",
    ),
    "half_down": (
        "¿en qué mitad de la imagen está {0.the}, la superior o la inferior?",
        "¿está {0.the} en la mitad superior o inferior de la imagen?",
    ),
    "more": ("¿hay más {0.many} que {1.many}?", "¿ves más {0.many} que {1.many}?"),
    "same_colour": (
        "¿son del mismo color {0.the} y {1.the}?", "¿tienen {0.the} y {1.the} el mismo color?",
        "¿es {0.the} del mismo color que {1.the}?",
    ),
    "larger": ("¿qué es más grande, {0.the} o {1.the}?", "¿qué cosa es más grande, {0.the} o {1.the}?"),
}  # fmt: skip

CAPTIONS = captions(
    {"left": "a la izquierda de", "right": "a la derecha de", "above": "por encima de", "below": "por debajo de"},
    one=("la imagen muestra {0.a}.", "hay {0.a} en la imagen."),
    two=("{0.a} está WHERE {1.a}.", "hay {0.a} WHERE {1.a}.", "la imagen muestra {0.a} WHERE {1.a}."),
    three=(
        "{0.a} está WHERE {1.a} y también hay {2.a}.", "la imagen muestra {2.a}, así como {0.a} WHERE {1.a}.",
        "además de {2.a}, hay {0.a} WHERE {1.a}.",
    ),
)  # fmt: skip

SPANISH = Language("es", Noun, QUESTIONS, CAPTIONS)
