"""What the questions mean: each way to ask, in every language but the one that the oracle reads.

Written by hand about a red car and a tree, so that left and right, above and below, or the two things exchanged show.
"""

from __future__ import annotations

import pytest

from featx.scenes.languages import LANGUAGES
from featx.scenes.meaning import FAMILY, Phrase

CAR, TREE = Phrase("car", "red"), Phrase("tree")
ABOUT = {
    "colour": (Phrase("car"),),
    "pattern": (CAR,),
    "size": (CAR,),
    "kind": (Phrase("", "red"),),
}  # else car and tree

FRENCH = {
    "exists": (
        "Y a-t-il une voiture rouge ?", "Y a-t-il une voiture rouge sur l'image ?", "Vois-tu une voiture rouge ?",
    ),
    "count": (
        "Combien y a-t-il de voitures rouges ?", "Combien de voitures rouges y a-t-il sur l'image ?",
        "Combien de voitures rouges vois-tu ?",
    ),
    "colour": (
        "De quelle couleur est la voiture ?", "Quelle est la couleur de la voiture ?", "Quelle couleur a la voiture ?",
    ),
    "pattern": (
        "Quel motif a la voiture rouge ?", "La voiture rouge est-elle unie, rayée ou à pois ?",
        "Quel est le motif de la voiture rouge ?",
    ),
    "size": (
        "La voiture rouge est-elle petite ou grande ?", "Quelle est la taille de la voiture rouge ?",
        "Est-ce que la voiture rouge est grande ou petite ?",
    ),
    "kind": ("Qu'est-ce que l'objet rouge ?", "Quelle sorte d'objet est l'objet rouge ?",
             "Comment s'appelle l'objet rouge ?"),
    "is_left": (
        "La voiture rouge est-elle à gauche de l'arbre ?", "Est-ce que la voiture rouge est à gauche de l'arbre ?",
    ),
    "is_right": (
        "La voiture rouge est-elle à droite de l'arbre ?", "Est-ce que la voiture rouge est à droite de l'arbre ?",
    ),
    "is_above": (
        "La voiture rouge est-elle au-dessus de l'arbre ?", "Est-ce que la voiture rouge est plus haut que l'arbre ?",
    ),
    "is_below": (
        "La voiture rouge est-elle au-dessous de l'arbre ?", "Est-ce que la voiture rouge est plus bas que l'arbre ?",
    ),
    "side": (
        "De quel côté de l'arbre se trouve la voiture rouge, à gauche ou à droite ?",
        "La voiture rouge est-elle à gauche ou à droite de l'arbre ?",
        "Est-ce que la voiture rouge est à gauche ou à droite de l'arbre ?",
    ),
    "height": (
        "La voiture rouge est-elle au-dessus ou au-dessous de l'arbre ?",
        "Où se trouve la voiture rouge, au-dessus ou au-dessous de l'arbre ?",
    ),
    "in_left": (
        "La voiture rouge est-elle dans la moitié gauche de l'image ?",
        "Est-ce que la voiture rouge est du côté gauche de l'image ?",
    ),
    "in_right": (
        "La voiture rouge est-elle dans la moitié droite de l'image ?",
        "Est-ce que la voiture rouge est du côté droit de l'image ?",
    ),
    "in_upper": (
        "La voiture rouge est-elle dans la moitié supérieure de l'image ?",
        "Est-ce que la voiture rouge est dans la partie supérieure de l'image ?",
    ),
    "in_lower": (
        "La voiture rouge est-elle dans la moitié inférieure de l'image ?",
        "Est-ce que la voiture rouge est dans la partie inférieure de l'image ?",
    ),
    "half_across": (
        "Dans quelle moitié de l'image se trouve la voiture rouge, celle de gauche ou celle de droite ?",
        "La voiture rouge est-elle dans la moitié gauche ou droite de l'image ?",
    ),
    "half_down": (
        "Dans quelle moitié de l'image se trouve la voiture rouge, celle du haut ou celle du bas ?",
        "La voiture rouge est-elle dans la moitié supérieure ou inférieure de l'image ?",
    ),
    "more": ("Y a-t-il plus de voitures rouges que d'arbres ?", "Vois-tu plus de voitures rouges que d'arbres ?"),
    "same_colour": (
        "Est-ce que la voiture rouge et l'arbre sont de la même couleur ?",
        "Est-ce que la voiture rouge et l'arbre ont la même couleur ?",
        "La voiture rouge est-elle de la même couleur que l'arbre ?",
    ),
    "larger": (
        "Qu'est-ce qui est plus grand, la voiture rouge ou l'arbre ?",
        "Qu'est-ce qui est le plus grand, la voiture rouge ou l'arbre ?",
    ),
}  # fmt: skip
GERMAN = {
    "exists": ("Gibt es ein rotes Auto?", "Gibt es auf dem Bild ein rotes Auto?", "Siehst du ein rotes Auto?"),
    "count": (
        "Wie viele rote Autos gibt es?", "Wie viele rote Autos sind auf dem Bild?", "Wie viele rote Autos siehst du?",
    ),
    "colour": (
        "Welche Farbe hat das Auto?", "Was für eine Farbe hat das Auto?", "Von welcher Farbe ist das Auto?",
    ),
    "pattern": (
        "Welches Muster hat das rote Auto?", "Ist das rote Auto einfarbig, gestreift oder gepunktet?",
        "Was für ein Muster hat das rote Auto?",
    ),
    "size": (
        "Ist das rote Auto klein oder groß?", "Welche Größe hat das rote Auto?", "Ist das rote Auto groß oder klein?",
    ),
    "kind": ("Was ist das rote Ding?", "Was für ein Ding ist das rote Ding?", "Wie heißt das rote Ding?"),
    "is_left": ("Ist das rote Auto links vom Baum?", "Befindet sich das rote Auto links vom Baum?"),
    "is_right": ("Ist das rote Auto rechts vom Baum?", "Befindet sich das rote Auto rechts vom Baum?"),
    "is_above": ("Ist das rote Auto über dem Baum?", "Befindet sich das rote Auto oberhalb des Baumes?"),
    "is_below": ("Ist das rote Auto unter dem Baum?", "Befindet sich das rote Auto unterhalb des Baumes?"),
    "side": (
        "Auf welcher Seite des Baumes ist das rote Auto, links oder rechts?",
        "Ist das rote Auto links oder rechts vom Baum?", "Befindet sich das rote Auto links oder rechts vom Baum?",
    ),
    "height": (
        "Ist das rote Auto über oder unter dem Baum?", "Wo ist das rote Auto, über oder unter dem Baum?",
    ),
    "in_left": (
        "Ist das rote Auto in der linken Hälfte des Bildes?", "Ist das rote Auto auf der linken Seite des Bildes?",
    ),
    "in_right": (
        "Ist das rote Auto in der rechten Hälfte des Bildes?", "Ist das rote Auto auf der rechten Seite des Bildes?",
    ),
    "in_upper": (
        "Ist das rote Auto in der oberen Hälfte des Bildes?", "Ist das rote Auto im oberen Teil des Bildes?",
    ),
    "in_lower": (
        "Ist das rote Auto in der unteren Hälfte des Bildes?", "Ist das rote Auto im unteren Teil des Bildes?",
    ),
    "half_across": (
        "In welcher Hälfte des Bildes ist das rote Auto, in der linken oder in der rechten?",
        "Ist das rote Auto in der linken oder rechten Hälfte des Bildes?",
    ),
    "half_down": (
        "In welcher Hälfte des Bildes ist das rote Auto, in der oberen oder in der unteren?",
        "Ist das rote Auto in der oberen oder unteren Hälfte des Bildes?",
    ),
    "more": ("Gibt es mehr rote Autos als Bäume?", "Siehst du mehr rote Autos als Bäume?"),
    "same_colour": (
        "Haben das rote Auto und der Baum dieselbe Farbe?",
        "Ist die Farbe des roten Autos dieselbe wie die des Baumes?", "Hat das rote Auto dieselbe Farbe wie der Baum?",
    ),
    "larger": (
        "Was ist größer, das rote Auto oder der Baum?", "Was von beiden ist größer, das rote Auto oder der Baum?",
    ),
}  # fmt: skip
SPANISH = {
    "exists": ("¿Hay un coche rojo?", "¿Hay un coche rojo en la imagen?", "¿Ves un coche rojo?"),
    "count": ("¿Cuántos coches rojos hay?", "¿Cuántos coches rojos hay en la imagen?", "¿Cuántos coches rojos ves?"),
    "colour": ("¿De qué color es el coche?", "¿Cuál es el color del coche?", "¿Qué color tiene el coche?"),
    "pattern": (
        "¿Qué estampado tiene el coche rojo?", "¿Es liso, de rayas o de lunares el coche rojo?",
        "¿Cuál es el estampado del coche rojo?",
    ),
    "size": (
        "¿Es pequeño o grande el coche rojo?", "¿De qué tamaño es el coche rojo?",
        "¿Es grande o pequeño el coche rojo?",
    ),
    "kind": ("¿Qué es la cosa roja?", "¿Qué tipo de cosa es la cosa roja?", "¿Cómo se llama la cosa roja?"),
    "is_left": (
        "¿Está el coche rojo a la izquierda del árbol?", "¿Se encuentra el coche rojo a la izquierda del árbol?",
    ),
    "is_right": (
        "¿Está el coche rojo a la derecha del árbol?", "¿Se encuentra el coche rojo a la derecha del árbol?",
    ),
    "is_above": ("¿Está el coche rojo por encima del árbol?", "¿Está el coche rojo más arriba que el árbol?"),
    "is_below": ("¿Está el coche rojo por debajo del árbol?", "¿Está el coche rojo más abajo que el árbol?"),
    "side": (
        "¿A qué lado del árbol está el coche rojo, a la izquierda o a la derecha?",
        "¿Está el coche rojo a la izquierda o a la derecha del árbol?",
        "¿Se encuentra el coche rojo a la izquierda o a la derecha del árbol?",
    ),
    "height": (
        "¿Está el coche rojo por encima o por debajo del árbol?",
        "¿Dónde está el coche rojo, por encima o por debajo del árbol?",
    ),
    "in_left": (
        "¿Está el coche rojo en la mitad izquierda de la imagen?",
        "¿Está el coche rojo en el lado izquierdo de la imagen?",
    ),
    "in_right": (
        "¿Está el coche rojo en la mitad derecha de la imagen?", "¿Está el coche rojo en el lado derecho de la imagen?",
    ),
    "in_upper": (
        "¿Está el coche rojo en la mitad superior de la imagen?",
        "¿Está el coche rojo en la parte superior de la imagen?",
    ),
    "in_lower": (
        "¿Está el coche rojo en la mitad inferior de la imagen?",
        "¿Está el coche rojo en la parte inferior de la imagen?",
    ),
    "half_across": (
        "¿En qué mitad de la imagen está el coche rojo, la izquierda o la derecha?",
        "¿Está el coche rojo en la mitad izquierda o derecha de la imagen?",
    ),
    "half_down": (
        "¿En qué mitad de la imagen está el coche rojo, la superior o la inferior?",
        "¿Está el coche rojo en la mitad superior o inferior de la imagen?",
    ),
    "more": ("¿Hay más coches rojos que árboles?", "¿Ves más coches rojos que árboles?"),
    "same_colour": (
        "¿Son del mismo color el coche rojo y el árbol?", "¿Tienen el coche rojo y el árbol el mismo color?",
        "¿Es el coche rojo del mismo color que el árbol?",
    ),
    "larger": (
        "¿Qué es más grande, el coche rojo o el árbol?", "¿Qué cosa es más grande, el coche rojo o el árbol?",
    ),
}  # fmt: skip
QUESTIONS = {"fr": FRENCH, "de": GERMAN, "es": SPANISH}


@pytest.mark.parametrize("form", FAMILY)
@pytest.mark.parametrize("language", QUESTIONS)
def test_every_way_to_ask_means_what_it_should(language: str, form: str) -> None:
    speaker, phrases = LANGUAGES[language], ABOUT.get(form, (CAR, TREE))
    said = tuple(speaker.question(form, phrases, wording) for wording in range(len(speaker.questions[form])))
    assert said == QUESTIONS[language][form]
