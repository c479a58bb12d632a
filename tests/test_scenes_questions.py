"""Questions: six families, flat answers, nothing to be learnt from the words alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from featx.metrics.vqa import vqa_accuracy
from featx.scenes.english import ENGLISH
from featx.scenes.meaning import FAMILIES, FAMILY, Meaning, Phrase, answer
from featx.scenes.page import Page, write_page
from featx.scenes.questions import Question
from featx.scenes.world import Box, Scene, Thing
from tests.scenes_oracle import solve, things_of, understand

TRAIN, VAL = 320, 100
Asked = tuple[Question, str, list[str]]  # question, its words, ten answers


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    return [write_page(3, "train", index) for index in range(TRAIN + VAL)]


@pytest.fixture(scope="module")
def asked(pages: list[Page]) -> list[list[Asked]]:
    """Per picture."""
    return [[(q, q.text(ENGLISH), [a["answer"] for a in said]) for _, q, said in page.asked()] for page in pages]


def test_a_picture_has_about_three_questions_of_each_of_six_families(pages: list[Page]) -> None:
    counts = Counter(q.family for page in pages for q in page.questions)
    assert set(counts) == {"existence", "counting", "attribute", "object", "spatial", "comparison"} == set(FAMILIES)
    assert min(counts.values()) > 2.85 * len(pages)
    assert max(counts.values()) <= 3 * len(pages)
    for page in pages:
        assert len({q.meaning for q in page.questions}) == len(page.questions), "nothing is asked twice"
        assert [q.number for q in page.questions] == list(range(len(page.questions)))


def test_every_form_and_every_wording_occurs(asked: list[list[Asked]]) -> None:
    used = {(q.meaning.form, q.wording % len(ENGLISH.questions[q.meaning.form])) for page in asked for q, _, _ in page}
    assert used == {(form, k) for form, wordings in ENGLISH.questions.items() for k in range(len(wordings))}


@pytest.mark.parametrize(
    ("forms", "shares"),
    [
        (["exists"], {"yes": 0.5, "no": 0.5}),
        (["is_left", "is_right", "is_above", "is_below", "in_left", "in_right", "in_upper", "in_lower"],
         {"yes": 0.5, "no": 0.5}),
        (["more"], {"yes": 0.5, "no": 0.5}),
        (["same_colour"], {"yes": 0.5, "no": 0.5}),
        (["side", "half_across"], {"left": 0.5, "right": 0.5}),
        (["height"], {"above": 0.5, "below": 0.5}),
        (["size"], {"small": 0.5, "large": 0.5}),
        (["pattern"], {"plain": 1 / 3, "striped": 1 / 3, "dotted": 1 / 3}),
        (["count"], {"0": 0.30, "1": 0.29, "2": 0.21, "3": 0.12, "4": 0.08}),
    ],
)  # fmt: skip
def test_answers_are_flat(asked: list[list[Asked]], forms: list[str], shares: dict[str, float]) -> None:
    counts = Counter(q.answer for page in asked for q, _, _ in page if q.meaning.form in forms)
    assert set(counts) == set(shares)
    total = counts.total()
    for name, share in shares.items():
        room = 4 * math.sqrt(share * (1 - share) / total) + 0.02
        assert abs(counts[name] / total - share) < room, f"{name}: {counts[name]} of {total}"


def test_every_answer_is_what_an_independent_reader_finds(pages: list[Page], asked: list[list[Asked]]) -> None:
    """In every form and every wording of English, of which this many pictures have all."""
    for page, questions in zip(pages, asked, strict=True):
        things = things_of(page.scene)
        for q, text, _ in questions:
            assert solve(text, things) == q.answer, (text, page.scene)


def test_kinds_and_colours_are_asked_for_about_equally(asked: list[list[Asked]]) -> None:
    for form, number in (("kind", 16), ("colour", 8)):
        counts = Counter(q.answer for page in asked for q, _, _ in page if q.meaning.form == form)
        assert len(counts) == number
        assert max(counts.values()) / counts.total() < 1.5 / number


def test_the_words_alone_are_a_poor_guide(asked: list[list[Asked]]) -> None:
    """A naive Bayes model of words and pairs of words, per form, earns less than half of the official points."""
    prior: dict[str, Counter[str]] = defaultdict(Counter)
    seen: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for page in asked[:TRAIN]:
        for q, text, _ in page:
            form = understand(text)[0]
            prior[form][q.answer] += 1
            for feature in features(text):
                seen[form, feature][q.answer] += 1

    def guess(text: str) -> str:
        form = understand(text)[0]
        scores = {
            a: math.log(n) + sum(math.log((seen[form, f][a] + 0.5) / (n + 5)) for f in features(text))
            for a, n in prior[form].items()
        }
        return max(scores, key=lambda a: scores[a])

    majority, bayes = [], []
    for page in asked[TRAIN:]:
        for _, text, given in page:
            majority.append(vqa_accuracy(prior[understand(text)[0]].most_common(1)[0][0], given))
            bayes.append(vqa_accuracy(guess(text), given))
    assert 0.2 < sum(majority) / len(majority) < 0.45
    assert 0.2 < sum(bayes) / len(bayes) < 0.45


def features(text: str) -> set[str]:
    words = text.lower().replace("?", "").replace(",", "").split()
    return {*words, *(f"{a} {b}" for a, b in pairwise(words))}


def test_things_are_named_as_shortly_as_they_can_be(pages: list[Page]) -> None:
    """By the kind alone where there is one of it, else with one adjective."""
    for page in pages[:100]:
        kinds = Counter(t.kind for t in page.scene.things)
        for q in page.questions:
            if q.family in ("attribute", "spatial", "comparison") and q.meaning.form != "more":
                for phrase in q.meaning.phrases:
                    extra = [word for word in (phrase.colour, phrase.pattern, phrase.size) if word]
                    assert len(extra) == (kinds[phrase.kind] > 1), (q, kinds)


def test_what_is_not_there_is_made_of_what_is_there(pages: list[Page]) -> None:
    """More than half of the wrong descriptions need binding: each of their words fits something in the picture."""
    hard = []
    for page in pages:
        for q in page.questions:
            phrase = q.meaning.phrases[0]
            words = [(f, getattr(phrase, f)) for f in ("kind", "colour", "pattern", "size") if getattr(phrase, f)]
            if q.meaning.form == "exists" and q.answer == "no" and len(words) > 1:
                hard.append(all(any(getattr(t, f) == word for t in page.scene.things) for f, word in words))
    assert len(hard) > 150
    assert sum(hard) / len(hard) > 0.5


def thing(kind: str, colour: str, pattern: str, size: str, x: int, y: int) -> Thing:
    half = 40 if size == "large" else 20
    box = Box(x - half, y - half, x + half, y + half)
    return Thing(kind, colour, pattern, size, 2 * half, 0, False, 1, box=box)


SCENE = Scene(0, "train", 0, 300, 200, (
    thing("car", "red", "plain", "large", 60, 60), thing("car", "blue", "striped", "small", 200, 150),
    thing("cat", "red", "striped", "small", 92, 100), thing("star", "black", "plain", "large", 150, 100),
))  # fmt: skip
RED_CAR, BLUE_CAR, CAT, STAR = Phrase("car", "red"), Phrase("car", "blue"), Phrase("cat"), Phrase("star")


@pytest.mark.parametrize(
    ("form", "phrases", "expected"),
    [
        ("exists", (RED_CAR,), "yes"),
        ("exists", (Phrase("cat", "blue"),), "no"),
        ("count", (Phrase(colour="red"),), "2"),
        ("count", (Phrase("boat"),), "0"),
        ("colour", (STAR,), "black"),
        ("colour", (Phrase("car"),), None),  # two cars
        ("colour", (Phrase("boat"),), None),  # no boat
        ("pattern", (CAT,), "striped"),
        ("size", (BLUE_CAR,), "small"),
        ("kind", (Phrase(colour="black"),), "star"),
        ("is_left", (RED_CAR, BLUE_CAR), "yes"),
        ("is_right", (RED_CAR, BLUE_CAR), "no"),
        ("is_above", (RED_CAR, BLUE_CAR), "yes"),
        ("is_left", (RED_CAR, CAT), None),  # 32 of 300 pixels apart
        ("height", (CAT, RED_CAR), "below"),  # 40 of 200
        ("side", (CAT, BLUE_CAR), "left"),
        ("side", (CAT, CAT), None),  # one thing
        ("height", (CAT, STAR), None),  # level
        ("in_left", (RED_CAR,), "yes"),
        ("in_right", (RED_CAR,), "no"),
        ("in_lower", (BLUE_CAR,), "yes"),
        ("half_down", (RED_CAR,), "upper"),
        ("half_across", (STAR,), None),  # in the middle
        ("more", (Phrase("car"), CAT), "yes"),
        ("more", (CAT, Phrase("car")), "no"),
        ("more", (CAT, STAR), None),  # one of each
        ("same_colour", (RED_CAR, CAT), "yes"),
        ("same_colour", (BLUE_CAR, CAT), "no"),
        ("larger", (CAT, RED_CAR), "car"),
        ("larger", (STAR, RED_CAR), None),  # both large
        ("larger", (RED_CAR, BLUE_CAR), None),  # both cars: the kind would not tell
    ],
)
def test_meaning_has_one_clear_answer_or_none(form: str, phrases: tuple[Phrase, ...], expected: str | None) -> None:
    assert form in FAMILY
    assert answer(Meaning(form, phrases), SCENE) == expected
