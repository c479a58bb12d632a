"""Sentences in four languages, each expected one written by hand."""

from __future__ import annotations

import pytest

from featx.scenes.languages import LANGUAGES
from featx.scenes.meaning import FAMILY, Phrase
from featx.scenes.world import COLOURS, KINDS, PATTERNS, SIZES

CAR, TREE, STAR = Phrase("car", "red"), Phrase("tree"), Phrase("star", "white", "striped", "small")
FLOWER, FISH, THING = (
    Phrase("flower", "purple", "plain"),
    Phrase("fish", "orange", "", "large"),
    Phrase("", "black", "dotted"),
)

GOLDEN = [
    ("en", "exists", 0, (CAR,), "Is there a red car?"),
    ("en", "exists", 0, (Phrase("apple"),), "Is there an apple?"),
    ("en", "exists", 1, (Phrase("umbrella", "orange"),), "Is there an orange umbrella in the picture?"),
    ("en", "exists", 0, (Phrase("car", "orange"),), "Is there an orange car?"),
    ("en", "count", 0, (Phrase("butterfly", "", "", "small"),), "How many small butterflies are there?"),
    ("en", "count", 2, (FISH,), "How many large orange fish can you see?"),
    ("en", "count", 0, (THING,), "How many dotted black things are there?"),
    ("en", "colour", 0, (Phrase("fish", "", "plain", "small"),), "What colour is the small plain fish?"),
    ("en", "side", 0, (CAR, TREE), "On which side of the tree is the red car, left or right?"),
    ("en", "more", 1, (Phrase("house"), Phrase("fish")), "Can you see more houses than fish?"),
    # French: gender, position, agreement, elision, contraction, invariable colours
    ("fr", "exists", 0, (CAR,), "Y a-t-il une voiture rouge ?"),
    ("fr", "exists", 1, (STAR,), "Y a-t-il une petite étoile blanche rayée sur l'image ?"),
    ("fr", "count", 0, (CAR,), "Combien y a-t-il de voitures rouges ?"),
    ("fr", "count", 0, (TREE,), "Combien y a-t-il d'arbres ?"),
    ("fr", "count", 1, (Phrase("star", "blue", "", "large"),),
     "Combien de grandes étoiles bleues y a-t-il sur l'image ?"),
    ("fr", "count", 2, (Phrase("star", "green"),), "Combien d'étoiles vertes vois-tu ?"),
    ("fr", "count", 0, (Phrase("boat", "black", "dotted"),), "Combien y a-t-il de bateaux noirs à pois ?"),
    ("fr", "colour", 1, (TREE,), "Quelle est la couleur de l'arbre ?"),
    ("fr", "colour", 1, (Phrase("tree", "", "", "large"),), "Quelle est la couleur du grand arbre ?"),
    ("fr", "colour", 1, (Phrase("star", "", "plain"),), "Quelle est la couleur de l'étoile unie ?"),
    ("fr", "pattern", 1, (Phrase("flower", "purple"),), "La fleur violette est-elle unie, rayée ou à pois ?"),
    ("fr", "pattern", 1, (Phrase("duck", "white"),), "Le canard blanc est-il uni, rayé ou à pois ?"),
    ("fr", "size", 0, (Phrase("house", "white"),), "La maison blanche est-elle petite ou grande ?"),
    ("fr", "kind", 0, (THING,), "Qu'est-ce que l'objet noir à pois ?"),
    ("fr", "is_left", 0, (CAR, TREE), "La voiture rouge est-elle à gauche de l'arbre ?"),
    ("fr", "is_right", 0, (TREE, Phrase("cat", "yellow")), "L'arbre est-il à droite du chat jaune ?"),
    ("fr", "more", 0, (CAR, TREE), "Y a-t-il plus de voitures rouges que d'arbres ?"),
    ("fr", "count", 0, (Phrase("hat", "orange"),), "Combien y a-t-il de chapeaux orange ?"),
    ("fr", "more", 1, (TREE, Phrase("star", "", "", "small")), "Vois-tu plus d'arbres que de petites étoiles ?"),
    ("fr", "same_colour", 2, (TREE, Phrase("hat")), "L'arbre est-il de la même couleur que le chapeau ?"),
    # German: gender, four cases, three declensions, plurals
    ("de", "exists", 0, (Phrase("apple", "red"),), "Gibt es einen roten Apfel?"),
    ("de", "exists", 2, (Phrase("cat", "black", "striped", "large"),),
     "Siehst du eine große gestreifte schwarze Katze?"),
    ("de", "count", 0, (Phrase("book", "blue"),), "Wie viele blaue Bücher gibt es?"),
    ("de", "colour", 0, (Phrase("fish", "", "", "small"),), "Welche Farbe hat der kleine Fisch?"),
    ("de", "colour", 1, (Phrase("boat", "", "striped"),), "Was für eine Farbe hat das gestreifte Boot?"),
    ("de", "colour", 2, (Phrase("flower", "", "", "large"),), "Von welcher Farbe ist die große Blume?"),
    ("de", "side", 0, (TREE, Phrase("boat", "", "striped")),
     "Auf welcher Seite des gestreiften Bootes ist der Baum, links oder rechts?"),
    ("de", "kind", 0, (THING,), "Was ist das gepunktete schwarze Ding?"),
    ("de", "is_left", 0, (Phrase("car", "red"), TREE), "Ist das rote Auto links vom Baum?"),
    ("de", "is_left", 0, (TREE, Phrase("cup", "purple")), "Ist der Baum links von der violetten Tasse?"),
    ("de", "is_right", 1, (TREE, Phrase("house", "white")), "Befindet sich der Baum rechts vom weißen Haus?"),
    ("de", "is_below", 1, (TREE, Phrase("flower", "", "", "large")),
     "Befindet sich der Baum unterhalb der großen Blume?"),
    ("de", "is_above", 1, (TREE, Phrase("hat", "green")), "Befindet sich der Baum oberhalb des grünen Hutes?"),
    ("de", "more", 0, (CAR, Phrase("duck")), "Gibt es mehr rote Autos als Enten?"),
    ("de", "same_colour", 0, (Phrase("umbrella"), Phrase("star")),
     "Haben der Regenschirm und der Stern dieselbe Farbe?"),
    ("de", "larger", 0, (Phrase("cat"), Phrase("house")), "Was ist größer, die Katze oder das Haus?"),
    ("de", "exists", 1, (Phrase("house", "white"),), "Gibt es auf dem Bild ein weißes Haus?"),
    ("de", "same_colour", 1, (TREE, CAR), "Ist die Farbe des Baumes dieselbe wie die des roten Autos?"),
    # Spanish: opening mark, gender, plurals, invariable words, contraction
    ("es", "exists", 0, (CAR,), "¿Hay un coche rojo?"),
    ("es", "exists", 2, (STAR,), "¿Ves una estrella blanca pequeña de rayas?"),
    ("es", "count", 0, (Phrase("apple", "yellow"),), "¿Cuántas manzanas amarillas hay?"),
    ("es", "count", 0, (Phrase("fish", "blue"),), "¿Cuántos peces azules hay?"),
    ("es", "count", 1, (Phrase("flower", "orange", "", "large"),), "¿Cuántas flores naranja grandes hay en la imagen?"),
    ("es", "count", 2, (Phrase("tree", "purple", "plain"),), "¿Cuántos árboles morados lisos ves?"),
    ("es", "count", 2, (Phrase("umbrella", "green"),), "¿Cuántos paraguas verdes ves?"),
    ("es", "colour", 1, (Phrase("cat", "", "dotted"),), "¿Cuál es el color del gato de lunares?"),
    ("es", "colour", 1, (Phrase("house", "", "", "small"),), "¿Cuál es el color de la casa pequeña?"),
    ("es", "pattern", 1, (Phrase("cup", "black"),), "¿Es lisa, de rayas o de lunares la taza negra?"),
    ("es", "size", 0, (Phrase("book", "white"),), "¿Es pequeño o grande el libro blanco?"),
    ("es", "kind", 0, (THING,), "¿Qué es la cosa negra de lunares?"),
    ("es", "is_right", 0, (CAR, TREE), "¿Está el coche rojo a la derecha del árbol?"),
    ("es", "more", 0, (Phrase("boat"), Phrase("duck", "red")), "¿Hay más barcos que patos rojos?"),
    ("es", "larger", 1, (Phrase("boat"), Phrase("house")), "¿Qué cosa es más grande, el barco o la casa?"),
]  # fmt: skip

CAPTIONS = [
    ("en", "left2", 0, (CAR, TREE), "A red car is to the left of a tree."),
    ("en", "above3", 0, (Phrase("apple", "green"), TREE, STAR),
     "A green apple is above a tree, and there is also a small striped white star."),
    ("fr", "left2", 0, (CAR, TREE), "Une voiture rouge se trouve à gauche d'un arbre."),
    ("fr", "below3", 1, (STAR, CAR, TREE),
     "L'image montre un arbre, ainsi qu'une petite étoile blanche rayée au-dessous d'une voiture rouge."),
    ("de", "right2", 1, (CAR, Phrase("cup", "yellow")), "Rechts von einer gelben Tasse ist ein rotes Auto."),
    ("de", "above3", 1, (TREE, CAR, Phrase("hat", "blue")),
     "Das Bild zeigt einen blauen Hut sowie einen Baum über einem roten Auto."),
    ("es", "below2", 2, (Phrase("fish", "red"), Phrase("flower", "white")),
     "La imagen muestra un pez rojo por debajo de una flor blanca."),
    ("es", "one", 0, (Phrase("house", "red"),), "La imagen muestra una casa roja."),
]  # fmt: skip


@pytest.mark.parametrize(("language", "form", "wording", "phrases", "expected"), GOLDEN)
def test_a_question_is_grammatical(
    language: str, form: str, wording: int, phrases: tuple[Phrase, ...], expected: str
) -> None:
    assert LANGUAGES[language].question(form, phrases, wording) == expected


@pytest.mark.parametrize(("language", "form", "wording", "phrases", "expected"), CAPTIONS)
def test_a_caption_is_grammatical(
    language: str, form: str, wording: int, phrases: tuple[Phrase, ...], expected: str
) -> None:
    assert LANGUAGES[language].caption(form, phrases, wording) == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_form_can_be_asked_about_every_thing_in_every_language(language: str) -> None:
    speaker = LANGUAGES[language]
    assert set(speaker.questions) == set(FAMILY)
    assert set(speaker.captions) == set(LANGUAGES["en"].captions)
    phrases = [
        Phrase(kind, colour, pattern, size)
        for kind in ("", *KINDS)
        for colour, pattern, size in zip(("", *COLOURS), ("", *PATTERNS) * 3, ("", *SIZES) * 3, strict=False)
    ]
    for form, wordings in speaker.questions.items():
        assert len(set(wordings)) == len(wordings) > 1, f"{form} has several wordings"
        for phrase, other in zip(phrases, reversed(phrases), strict=True):
            for wording in range(len(wordings)):
                text = speaker.question(form, (phrase, other), wording)
                assert text.endswith("?")
                assert "  " not in text
                assert "{" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_different_descriptions_never_sound_the_same(language: str) -> None:
    phrases = [
        Phrase(kind, colour, pattern, size)
        for kind in ("", *KINDS)
        for colour in ("", *COLOURS)
        for pattern in ("", *PATTERNS)
        for size in ("", *SIZES)
    ]
    assert len({LANGUAGES[language].noun(phrase).the for phrase in phrases}) == len(phrases)
