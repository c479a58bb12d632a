"""Captions: true, of things that they tell apart, and in every language the same."""

from __future__ import annotations

from collections import Counter

import pytest

from featx.metrics.bleu import corpus_bleu
from featx.scenes.captions import REFERENCES, caption, references
from featx.scenes.english import ENGLISH
from featx.scenes.languages import LANGUAGES
from featx.scenes.layout import lay_out
from featx.scenes.meaning import Phrase
from featx.scenes.world import Box, Scene, Thing
from tests.scenes_oracle import is_true, things_of

CAR, TREE, STAR = Phrase("car", "red"), Phrase("tree"), Phrase("star", "white", "", "small")

# Form and wording -> the caption of a car, a tree and a star: each relation, each wording, of two things and of three.
CAPTIONS = {
    "fr": {
        ("one", 0): "L'image montre une voiture rouge.",
        ("one", 1): "Il y a une voiture rouge sur l'image.",
        ("left2", 0): "Une voiture rouge se trouve à gauche d'un arbre.",
        ("right2", 1): "Il y a une voiture rouge à droite d'un arbre.",
        ("above2", 2): "L'image montre une voiture rouge au-dessus d'un arbre.",
        ("below2", 0): "Une voiture rouge se trouve au-dessous d'un arbre.",
        ("left3", 0): "Une voiture rouge se trouve à gauche d'un arbre, et il y a aussi une petite étoile blanche.",
        ("right3", 1): "L'image montre une petite étoile blanche, ainsi qu'une voiture rouge à droite d'un arbre.",
        ("above3", 2): "En plus d'une petite étoile blanche, il y a une voiture rouge au-dessus d'un arbre.",
        ("below3", 2): "En plus d'une petite étoile blanche, il y a une voiture rouge au-dessous d'un arbre.",
    },
    "de": {
        ("one", 0): "Das Bild zeigt ein rotes Auto.",
        ("one", 1): "Auf dem Bild ist ein rotes Auto.",
        ("left2", 0): "Ein rotes Auto ist links von einem Baum.",
        ("right2", 1): "Rechts von einem Baum ist ein rotes Auto.",
        ("above2", 2): "Das Bild zeigt ein rotes Auto über einem Baum.",
        ("below2", 0): "Ein rotes Auto ist unter einem Baum.",
        ("left3", 0): "Ein rotes Auto ist links von einem Baum, und es gibt auch einen kleinen weißen Stern.",
        ("right3", 1): "Das Bild zeigt einen kleinen weißen Stern sowie ein rotes Auto rechts von einem Baum.",
        ("above3", 2): "Es gibt einen kleinen weißen Stern, und ein rotes Auto ist über einem Baum.",
        ("below3", 2): "Es gibt einen kleinen weißen Stern, und ein rotes Auto ist unter einem Baum.",
    },
    "es": {
        ("one", 0): "La imagen muestra un coche rojo.",
        ("one", 1): "Hay un coche rojo en la imagen.",
        ("left2", 0): "Un coche rojo está a la izquierda de un árbol.",
        ("right2", 1): "Hay un coche rojo a la derecha de un árbol.",
        ("above2", 2): "La imagen muestra un coche rojo por encima de un árbol.",
        ("below2", 0): "Un coche rojo está por debajo de un árbol.",
        ("left3", 0): "Un coche rojo está a la izquierda de un árbol y también hay una estrella blanca pequeña.",
        ("right3", 1):
            "La imagen muestra una estrella blanca pequeña, así como un coche rojo a la derecha de un árbol.",
        ("above3", 2): "Además de una estrella blanca pequeña, hay un coche rojo por encima de un árbol.",
        ("below3", 2): "Además de una estrella blanca pequeña, hay un coche rojo por debajo de un árbol.",
    },
}  # fmt: skip


@pytest.mark.parametrize("language", CAPTIONS)
def test_every_way_to_tell_means_what_it_should(language: str) -> None:
    speaker = LANGUAGES[language]
    said = {(form, k): speaker.caption(form, (CAR, TREE, STAR), k) for form, k in CAPTIONS[language]}
    assert said == CAPTIONS[language]


@pytest.mark.parametrize("language", CAPTIONS)
def test_no_way_to_tell_is_left_out_above(language: str) -> None:
    forms = LANGUAGES[language].captions
    assert {form for form, _ in CAPTIONS[language]} == set(forms)
    ways = {(form[-1], wording) for form, wording in CAPTIONS[language]}
    assert ways == {(form[-1], wording) for form, wordings in forms.items() for wording in range(len(wordings))}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [lay_out(4, "train", index) for index in range(150)]


def test_every_caption_is_true_of_things_that_it_tells_apart(scenes: list[Scene]) -> None:
    for scene in scenes:
        for one in caption(scene):
            text = one.text(ENGLISH)
            assert is_true(text, things_of(scene)), f"{text} {scene}"


def test_every_relation_and_every_way_to_tell_is_common(scenes: list[Scene]) -> None:
    forms = Counter(one.form for scene in scenes for one in caption(scene))
    assert all(forms[f"{where}{count}"] > 15 for where in ("left", "right", "above", "below") for count in (2, 3))
    ways = Counter((one.form[-1], one.wording % 3) for scene in scenes for one in caption(scene) if one.form != "one")
    assert len(ways) == 6
    assert min(ways.values()) > 15


def test_references_are_true_captions_of_their_own_and_tell_who_saw_the_picture() -> None:
    """Captions of the scene itself agree with them, those of another scene do not."""
    scenes = [lay_out(3, "val", index) for index in range(60)]
    texts = [[one.text(ENGLISH) for one in references(scene)] for scene in scenes]
    for scene, said in zip(scenes, texts, strict=True):
        assert len(said) == REFERENCES == 20
        assert all(is_true(text, things_of(scene)) for text in said)
        assert tuple(said[:2]) != tuple(one.text(ENGLISH) for one in caption(scene))
    own = [caption(scene)[0].text(ENGLISH) for scene in scenes]
    seen, blind = corpus_bleu(own, texts).score, corpus_bleu(own, texts[30:] + texts[:30]).score
    assert seen > 75
    assert blind < 55


def alike(*descriptions: tuple[str, str, str, str]) -> Scene:
    """Things of these descriptions from left to right."""
    things = tuple(
        Thing(*words, 40, 0, False, 1, box=Box(100 * k, 100, 100 * k + 40, 140)) for k, words in enumerate(descriptions)
    )
    return Scene(0, "train", 0, 100 * len(things), 240, things)


BOOK, OTHER = ("book", "blue", "plain", "small"), ("book", "blue", "striped", "small")


def test_what_cannot_be_told_apart_is_not_told_apart() -> None:
    """Three equal things: one is named; two equal ones and another: two are."""
    assert [one.form for one in caption(alike(BOOK, BOOK, BOOK))] == ["one", "one"]
    forms = [one.form for one in caption(alike(BOOK, BOOK, OTHER))]
    assert {form[-1] for form in forms} == {"2"}
    for scene in (alike(BOOK, BOOK, BOOK), alike(BOOK, BOOK, OTHER)):
        assert all(is_true(one.text(ENGLISH), things_of(scene)) for one in caption(scene))
