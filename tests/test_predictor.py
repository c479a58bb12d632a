"""Questions answered about stores and photos, in every form in which a picture can be given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import featx.live
import featx.predictor
from featx.data import AnswerSpace, Question
from featx.errors import KeyNotFound, PictureRefused, UsageError, WeightsError
from featx.live import pixels_of
from featx.lxmert.folder import Model, save_model
from featx.lxmert.inputs import words
from featx.predictor import Predictor
from featx.record import Record
from featx.store import open_store
from featx.text.wordpiece import Tokens
from tests import fake
from tests import lxmert_toys as toys

TEXTS = ["What colour is the cube?", "How many balls are there?", "Is the tree in front?"]
WANTS = {"dim": toys.DIM, "profile": "profile-1", "weights": "weights-1",
         "extractor": {"name": "fake", "options": {"slow": 0.0}}}  # fmt: skip
MADE: list[Mapping[str, Any]] = []


class Eye(fake.Fake):
    """The fake extractor, with the provenance the toy model wants; remembers how it was built."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Eye:
        MADE.append(dict(options))
        return cls(**options)

    def provenance(self) -> dict[str, Any]:
        return {"profile": {"hash": "profile-1"}, "weights": {"sha256": "weights-1"}}


def save(folder: Path, about: Mapping[str, Any], seed: int = 0, **sizes: Any) -> Path:
    folder.mkdir()
    tokens = Tokens.train(TEXTS, 60)
    network = toys.answering(seed, vocab_size=len(tokens), **sizes)
    save_model(folder, Model(network, tokens, AnswerSpace(toys.ANSWERS), about))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model", {"loss": "ce", "wants": WANTS})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return toys.make_store(tmp_path / "store")


@pytest.fixture
def eye(monkeypatch: pytest.MonkeyPatch) -> None:
    MADE.clear()
    monkeypatch.setattr(featx.live, "load", lambda group, name: {"fake": Eye}[name])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), pixels)
    return path


def expected(model: Path, record: Any, question: str) -> list[tuple[str, float]]:
    """By transformers itself: answers with their probabilities, the surest first."""
    from transformers import LxmertForQuestionAnswering

    network = LxmertForQuestionAnswering.from_pretrained(model)
    height, width = record.size
    n = len(record)
    inputs = words(Tokens.load(model), [question])
    with torch.no_grad():
        logits = network(
            **inputs, token_type_ids=torch.zeros_like(inputs["input_ids"]),
            visual_feats=torch.from_numpy(record.features[None, :n].astype(np.float32)),
            visual_pos=torch.from_numpy(record.boxes[None, :n] / np.float32([width, height] * 2)),
        ).question_answering_score[0]  # fmt: skip
    ranked = sorted(zip(logits.softmax(0).tolist(), toys.ANSWERS, strict=True), reverse=True)
    return [(answer, score) for score, answer in ranked]


def same(found: list[dict[str, Any]], wanted: list[tuple[str, float]]) -> bool:
    names = [a["answer"] for a in found] == [answer for answer, _ in wanted[: len(found)]]
    return names and np.allclose([a["score"] for a in found], [s for _, s in wanted[: len(found)]], atol=1e-5)


# --- stores ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["p0", "p1"])
def test_a_key_is_answered_as_by_transformers(model: Path, store: Path, key: str) -> None:
    found = Predictor(model, store)(key, TEXTS[0], top_k=3)
    assert len(found) == 3
    with open_store(store) as reader:
        assert same(found, expected(model, reader[key], TEXTS[0]))


def test_many_pictures_and_questions_are_answered_in_their_order(model: Path, store: Path) -> None:
    ask = Predictor(model, store, batch=2)
    keys = ["p3", "p0", "p3"]
    single = [[ask(key, text) for text in TEXTS] for key in keys]
    assert _close(ask(keys, TEXTS[0]), [row[0] for row in single])
    assert _close(ask("p0", TEXTS), single[1])
    assert _close(ask(keys, TEXTS), [single[i][i] for i in range(3)])
    rows = [{"image": "p3", "question": TEXTS[1]}, {"image": "p0", "question": TEXTS[2]}]
    assert _close(ask(rows), [single[0][1], single[1][2]])
    assert _close([ask(rows[1])], [single[1][2]])
    assert _close([ask(image_or_key="p3", question=TEXTS[0])], [single[0][0]])
    assert len(ask("p0", TEXTS[0], top_k=99)) == len(toys.ANSWERS)


def _close(a: list[Any], b: list[Any]) -> bool:
    return all(
        [x["answer"] for x in one] == [y["answer"] for y in other]
        and np.allclose([x["score"] for x in one], [y["score"] for y in other], atol=1e-5)
        for one, other in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(
    ("about", "score"),
    [
        ({"loss": "ce"}, "softmax"), ({"loss": "mce"}, "softmax"), ({"loss": "bce_soft"}, "sigmoid"), ({}, "sigmoid"),
        ({"task": "lxmert-pretrain"}, "softmax"),
    ],
)  # fmt: skip
def test_scores_are_what_the_loss_trained(tmp_path: Path, store: Path, about: dict[str, str], score: str) -> None:
    model = save(tmp_path / "m", about)
    found = Predictor(model, store)("p0", TEXTS[0])
    logits = {a["answer"]: a["score"] for a in Predictor(model, store, score="logit")("p0", TEXTS[0])}
    whole = sum(np.exp(v) for v in logits.values())
    wanted = {k: np.exp(v) / whole if score == "softmax" else 1 / (1 + np.exp(-v)) for k, v in logits.items()}
    assert {a["answer"]: a["score"] for a in found} == pytest.approx(wanted, rel=1e-4)


def test_the_regions_an_answer_looked_at_are_told(model: Path, store: Path) -> None:
    answers, weights = Predictor(model, store).look("p1", TEXTS[0])
    assert answers == Predictor(model, store)("p1", TEXTS[0])
    assert len(weights) == 5  # p1 has one row of padding
    assert sum(weights) == pytest.approx(1)


@pytest.mark.parametrize("rows", [0, 3])
def test_a_picture_without_regions_is_answered_as_none_at_all(model: Path, rows: int) -> None:
    empty = Record(np.zeros((rows, toys.DIM), np.float32), np.zeros((rows, 4), np.float32), (9, 9), 0)
    ask = Predictor(model)
    (none,) = ask.batch_answers(None, [TEXTS[0]])
    answers, weights = ask.look(empty, TEXTS[0])
    assert weights == []
    assert _close([ask(empty, TEXTS[0]), answers, ask([toys.record(0), empty], TEXTS[0])[1]], [none] * 3)


def test_a_split_is_answered_with_and_without_its_pictures(model: Path, store: Path) -> None:
    ask = Predictor(model, store, batch=3)
    questions = [Question(i, f"p{i}", TEXTS[i % 2], None) for i in range(8)]
    pairs = list(ask.split(questions, top_k=2))
    assert [q for q, _ in pairs] == questions
    assert _close([a for _, a in pairs], [ask(q.picture, q.text, 2) for q in questions])
    other = list(ask.split(questions, 2, "other-picture"))
    assert [q for q, _ in other] == questions
    assert _close([a for _, a in other], [ask(f"p{(i + 4) % 8}", q.text, 2) for i, q in enumerate(questions)])
    none = [a for _, a in ask.split(questions, 2, "no-picture")]
    assert _close(none[0::2], [none[0]] * 4)
    assert not _close(none[:1], [pairs[0][1]])


# --- photos ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eye")
def test_a_photo_is_answered_like_its_record_in_a_store(model: Path, photo: Path) -> None:
    pixels = cv2.imread(str(photo))[..., ::-1]
    wanted = expected(model, fake.expected(np.ascontiguousarray(pixels)), TEXTS[0])
    ask = Predictor(model)
    for form in (str(photo), photo, f"file://{photo}", Image.open(photo), np.ascontiguousarray(pixels)):
        assert same(ask(form, TEXTS[0]), wanted), form
    assert MADE == [{"slow": 0.0}]  # once, as the model says
    assert len(ask([photo, photo], TEXTS[:2])) == 2


@pytest.mark.usefixtures("eye")
def test_options_of_the_extractor_can_be_changed(model: Path, photo: Path) -> None:
    Predictor(model, extractor={"memory": 7})(photo, TEXTS[0])
    assert MADE == [{"slow": 0.0, "memory": 7}]
    own = Eye()
    Predictor(model, extractor=own)(photo, TEXTS[0])
    assert len(own.seen) == 1


@pytest.mark.usefixtures("eye")
def test_with_a_store_photos_can_be_asked_about_as_well(model: Path, store: Path, photo: Path) -> None:
    ask = Predictor(model, store)
    assert ask(photo, TEXTS[0]) == Predictor(model)(photo, TEXTS[0])
    with pytest.raises(KeyNotFound, match="p99"):
        ask("p99", TEXTS[0])


def test_transparent_and_rotated_pil_images_become_what_a_file_would(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 9, 4), np.uint8))
    image.save(tmp_path / "a.png")
    assert np.abs(pixels_of(image).astype(int) - pixels_of(tmp_path / "a.png")).max() <= 1  # rounding of the blend
    plain = Image.fromarray(np.random.default_rng(2).integers(0, 256, (6, 9, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    plain.save(tmp_path / "b.png", exif=exif)
    turned = pixels_of(Image.open(tmp_path / "b.png"))
    assert turned.shape == (9, 6, 3)
    assert np.array_equal(turned, pixels_of(tmp_path / "b.png"))


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.float32), np.zeros((0, 5, 3), np.uint8), 7, None]
)
def test_what_is_no_picture_is_a_sentence(image: Any) -> None:
    with pytest.raises(UsageError, match="picture"):
        pixels_of(image)


def test_a_missing_or_broken_photo_is_refused_before_the_extractor_is_built(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for name, reason in (("nothing.jpg", "missing"), ("text.jpg", "not-an-image")):
        with pytest.raises(PictureRefused) as refusal:  # and not that the package has no extractor "fake"
            Predictor(model)(tmp_path / name, TEXTS[0])
        assert refusal.value.reason == reason


# --- what does not fit ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wants", "what"),
    [({"dim": 99}, "dim"), ({"profile": "other"}, "profile"), ({"weights": "other"}, "weights")],
)
def test_a_store_of_another_make_is_refused_and_the_difference_named(
    tmp_path: Path, store: Path, wants: dict[str, Any], what: str
) -> None:
    model = save(tmp_path / "m", {"wants": {**WANTS, **wants}})
    with pytest.raises(UsageError, match=rf"the store does not fit the model .*/m:\n  {what}"):
        Predictor(model, store)
    if what == "dim":
        with pytest.raises(UsageError, match="the store does not fit the model") as refusal:
            Predictor(model, store, allow_mismatch=True)
        assert "allow" not in refusal.value.hint
        return
    ask = Predictor(model, store, allow_mismatch=True)
    assert ask("p0", TEXTS[0])
    assert [note.startswith(f"the store: {what}: found ") for note in ask.notes] == [True]


def test_a_record_of_another_dimension_is_refused(model: Path) -> None:
    other = Record(np.zeros((2, 7), np.float32), np.zeros((2, 4), np.float32), (9, 9))
    ask = Predictor(model, allow_mismatch=True)
    for asked in (ask, ask.look):
        with pytest.raises(UsageError, match=rf"the dimension 7, the model reads {toys.DIM}"):
            asked(other, TEXTS[0])
    with pytest.raises(UsageError, match="the dimension 7"):
        ask([toys.record(0), other], TEXTS[0])


def test_an_extractor_of_another_make_is_refused(model: Path, photo: Path) -> None:
    with pytest.raises(UsageError, match=r"the extractor does not fit the model .*/model:\n  profile"):
        Predictor(model, extractor=fake.Fake())(photo, TEXTS[0])


def test_a_model_that_does_not_know_its_extractor_says_so(tmp_path: Path, photo: Path) -> None:
    model = save(tmp_path / "m", {})
    with pytest.raises(UsageError, match="does not say which extractor"):
        Predictor(model)(photo, TEXTS[0])


def test_weights_of_the_extractor_that_are_not_here_are_asked_for(tmp_path: Path, photo: Path) -> None:
    """A store, and so a model, keeps the name and the sum of weights, not where they were."""
    options = {"profile": {"base": "scenes-36"}, "weights": "mine.safetensors"}
    wants = {**WANTS, "weights": "a1b2", "extractor": {"name": "frcnn", "options": options}}
    ask = Predictor(save(tmp_path / "m", {"wants": wants}))
    with pytest.raises(WeightsError) as caught:
        ask(photo, TEXTS[0])
    assert "made with the weights mine.safetensors (sha256 a1b2), and they are not found" in caught.value.message
    assert "--weights FILE" in caught.value.hint
    ask = Predictor(tmp_path / "m", extractor={"weights": "other.safetensors"})
    with pytest.raises(WeightsError, match=r"there is no weights file other\.safetensors"):
        ask(photo, TEXTS[0])


def test_without_a_default_model_one_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(featx.predictor, "DEFAULT", tmp_path / "absent")
    with pytest.raises(UsageError, match="without a model of its own"):
        Predictor()


def test_the_default_model_is_the_folder_in_the_package(
    monkeypatch: pytest.MonkeyPatch, model: Path, store: Path
) -> None:
    monkeypatch.setattr(featx.predictor, "DEFAULT", model)
    assert Predictor(store=store)("p0", TEXTS[0]) == Predictor(model, store)("p0", TEXTS[0])


@pytest.mark.parametrize(
    "arguments",
    [(["p0", "p1"], [TEXTS[0]] * 3), ("p0",), ([{"image": "p0"}],)],
)
def test_pictures_and_questions_that_do_not_pair_are_a_sentence(
    model: Path, store: Path, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(UsageError, match="question"):
        Predictor(model, store)(*arguments)


@pytest.mark.parametrize("question", ["", "  ", 7, [None], ["what?", ""]])
def test_what_is_no_question_is_a_sentence(model: Path, store: Path, question: Any) -> None:
    ask = Predictor(model, store)
    for call in (lambda: ask("p0", question), lambda: ask.look("p0", question)):
        with pytest.raises(UsageError, match="the question is"):
            call()
    with pytest.raises(UsageError, match="the question is None"):
        ask({"image": "p0", "question": None})


@pytest.mark.parametrize("number", [0, -5, 2.5, None, True, "3"])
def test_a_number_of_answers_or_questions_below_one_is_a_sentence(model: Path, store: Path, number: Any) -> None:
    ask = Predictor(model, store)
    with pytest.raises(UsageError, match="top_k is"):
        ask("p0", TEXTS[0], number)
    with pytest.raises(UsageError, match="top_k is"):
        ask.look("p0", TEXTS[0], number)
    with pytest.raises(UsageError, match="top_k is"):
        list(ask.split([Question(1, "p0", TEXTS[0], None)], number))
    with pytest.raises(UsageError, match="batch is"):
        Predictor(model, store, batch=number)


@pytest.mark.parametrize("device", ["foo", "cuda:63", "meta", ""])
def test_a_device_that_is_not_there_is_a_sentence(model: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"the device '{device}' cannot be used"):
        Predictor(model, device=device)


def test_an_extractor_by_name_is_a_sentence_that_says_how_to_give_one(model: Path) -> None:
    with pytest.raises(UsageError, match="extractor is 'tiny'"):
        Predictor(model, extractor="tiny")  # type: ignore[arg-type]


def test_a_wrong_score_is_a_sentence(model: Path) -> None:
    with pytest.raises(UsageError, match="score is 'percent'"):
        Predictor(model, score="percent")  # type: ignore[arg-type]


def test_a_predictor_without_a_store_answers_no_split(model: Path) -> None:
    with pytest.raises(UsageError, match="give the store"):
        list(Predictor(model).split([]))
