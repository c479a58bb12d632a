"""``featx ask`` and ``featx predict`` on a store and a model small enough for a test."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import featx.live
from featx.cli import main
from featx.cli.ask import configure
from featx.cli.panel import read_panel
from featx.predictor import Predictor
from featx.translate import Marian
from featx_extractors.profiles import PROFILES
from tests import fake
from tests import lxmert_toys as toys
from tests.test_predictor import TEXTS, WANTS, Eye, save

KOREAN = {"ko>en": {"무슨 색입니까?": TEXTS[0]}, "en>ko": {"red": "빨강", "blue": "파랑", "2": "둘", "yes": "예"}}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, two models, a photo, the pictures of the store, a dictionary and questions."""
    folder = tmp_path_factory.mktemp("ask")
    toys.make_store(folder / "store")
    save(folder / "model", {"loss": "ce", "wants": WANTS})
    save(folder / "second", {"loss": "bce_soft", "wants": WANTS}, seed=1)
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        height, width = toys.record(i).size
        cv2.imwrite(str(folder / f"pictures/p{i}.png"), rng.integers(0, 256, (height, width, 3), np.uint8))
    cv2.imwrite(str(folder / "photo.png"), rng.integers(0, 256, (40, 60, 3), np.uint8))
    (folder / "ko.json").write_text(json.dumps(KOREAN))
    toys.write_questions(folder / "q.json")
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that, which is the current folder; the toy extractor is installed, and the hub out of reach."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(featx.live, "load", lambda group, name: {"fake": Eye, "frcnn": fake.Fake}[name])
    return tmp_path


def run(*arguments: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    assert main(list(arguments)) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return out, err


# --- ask ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("place")
def test_a_key_of_a_store_is_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("ask", "store", "p1", TEXTS[0], TEXTS[1], "--model", "model", "--top-k", "2", capsys=capsys)
    ask, lines = Predictor("model", "store"), []
    for text in TEXTS[:2]:
        lines += [text, *(f"  {a['score']:.2f}  {a['answer']}" for a in ask("p1", text, 2)), ""]
    assert out.rstrip().splitlines() == lines[:-1]


@pytest.mark.usefixtures("place")
def test_models_answer_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    models = ("--model", "vqa=model", "--model", "gqa=second")
    out, _ = run("ask", "store", "p1", TEXTS[0], *models, capsys=capsys)
    first, second = Predictor("model", "store")("p1", TEXTS[0]), Predictor("second", "store")("p1", TEXTS[0])
    assert out.splitlines()[1].split() == ["vqa", "gqa"]
    for line, a, b in zip(out.splitlines()[2:], first, second, strict=True):
        assert line.split() == [f"{a['score']:.2f}", a["answer"], f"{b['score']:.2f}", b["answer"]]
    out, _ = run("ask", "store", "p1", TEXTS[0], *models, "--json", capsys=capsys)
    (reply,) = json.loads(out)["replies"]
    assert reply["answers"] == {"vqa": first, "gqa": second}


@pytest.mark.usefixtures("place")
def test_a_photo_is_extracted_first_once_for_both_models(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.test_predictor import MADE

    MADE.clear()
    out, _ = run("ask", "photo.png", TEXTS[0], "--model", "model", "--model", "second", "--json", capsys=capsys)
    data = json.loads(out)
    assert data["picture"] == "photo.png"
    assert data["replies"][0]["answers"]["model"] == Predictor("model")("photo.png", TEXTS[0])
    assert len(MADE) == 2  # one by the command, one by the line above
    run("ask", "photo.png", TEXTS[0], "--model", "model", "--weights", "x", capsys=capsys, code=1)
    assert MADE[-1]["weights"] == "x"  # handed on to the extractor, which does not know it


@pytest.mark.usefixtures("place")
def test_an_extractor_that_does_not_fit_one_of_the_models_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("third"), {"loss": "ce", "wants": {**WANTS, "weights": "weights-2"}})
    _, err = run("ask", "photo.png", TEXTS[0], "--model", "model", "--model", "third", capsys=capsys, code=2)
    assert "the extractor does not fit the model third:\n  weights: found weights-1, expected weights-2" in err
    save(Path("foreign"), {})
    save(Path("wide"), {}, visual_feat_dim=toys.DIM + 8)
    Path("c.yaml").write_text("extractor: {name: fake}\nmodels: {a: {model: foreign}, b: {model: wide}}\n")
    for more in ((), ("--allow-mismatch",)):
        _, err = run("ask", "photo.png", TEXTS[0], "--config", "c.yaml", *more, capsys=capsys, code=2)
        assert "the extractor does not fit the model wide:\n  dim: found 16, expected 24" in err


@pytest.mark.usefixtures("place")
def test_models_that_are_called_alike_are_told_apart_by_their_folders(capsys: pytest.CaptureFixture[str]) -> None:
    for run_name, name in (("vqa", "model"), ("gqa", "second")):
        shutil.copytree(name, f"runs/{run_name}/best")
    models = ("--model", "runs/vqa/best", "--model", "runs/gqa/best")
    out, _ = run("ask", "store", "p1", TEXTS[0], *models, "--json", capsys=capsys)
    assert set(json.loads(out)["replies"][0]["answers"]) == {"vqa/best", "gqa/best"}
    _, err = run("ask", "store", "p1", TEXTS[0], "--model", "runs/vqa", capsys=capsys, code=2)
    assert "featx: there is no model in the folder runs/vqa" in err
    assert "runs/vqa/best" in err


@pytest.mark.usefixtures("place")
def test_question_and_answers_are_translated(capsys: pytest.CaptureFixture[str]) -> None:
    korean = ("--language", "ko", "--translator", "ko.json")
    out, _ = run("ask", "store", "p1", "무슨 색입니까?", "--model", "model", *korean, capsys=capsys)
    english = Predictor("model", "store")("p1", TEXTS[0])
    assert out.splitlines()[0] == f"무슨 색입니까?  ({TEXTS[0]})"
    for line, answer in zip(out.splitlines()[1:], english, strict=True):
        assert line.split() == [f"{answer['score']:.2f}", KOREAN["en>ko"][answer["answer"]]]


@pytest.mark.usefixtures("place")
def test_a_configuration_names_models_extractor_and_translators(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(
        "models: {one: {model: model, score: logit}, two: {model: second}}\nextractor: {memory: 9}\n"
        "translators: {fr: {question: nowhere/fr-en, answer: nowhere/en-fr}}\n"
    )
    out, _ = run("ask", "photo.png", TEXTS[0], "--config", "c.yaml", "--json", capsys=capsys)
    answers = json.loads(out)["replies"][0]["answers"]
    assert answers["one"] == Predictor("model", score="logit")("photo.png", TEXTS[0])
    assert set(answers) == {"one", "two"}
    _, err = run("ask", "photo.png", "Quoi ?", "--config", "c.yaml", "--language", "fr", capsys=capsys, code=2)
    assert "nowhere/fr-en cannot be loaded" in err


@pytest.mark.usefixtures("place")
def test_the_drawing_has_the_pictures_colours_and_a_caption(capsys: pytest.CaptureFixture[str]) -> None:
    asked = (TEXTS[0], "--model", "model", "--draw", "out.png")
    run("ask", "store", "p1", *asked, "--images", "pictures", "--key-rule", "stem", capsys=capsys)
    height, width = toys.record(1).size
    drawn = cv2.imread("out.png")
    assert drawn.shape[0] > height * 8  # enlarged eight times, and a caption below
    assert drawn.shape[1] >= width * 8
    run("ask", "photo.png", *asked, capsys=capsys)
    assert cv2.imread("out.png").shape != drawn.shape


@pytest.mark.usefixtures("place")
def test_a_logit_that_the_configuration_asks_for_is_drawn_as_a_share(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr("featx.draw.letters.write", lambda canvas, text, *rest, **more: written.append(text))
    Path("c.yaml").write_text("models: {one: {model: second, score: logit}, two: {model: second}}\n")
    asked = ("--config", "c.yaml", "--draw", "out.png", "--images", "pictures", "--key-rule", "stem", "--top-k", "1")
    run("ask", "store", "p1", TEXTS[0], *asked, capsys=capsys)
    (answer,) = Predictor("second", "store", score="logit")("p1", TEXTS[0], 1)
    share = f"{100 / (1 + np.exp(-answer['score'])):.0f} %"
    place = written.index("one")
    assert written[place + 1 : place + 3] == [answer["answer"], share]
    assert written.count(share) == 2  # the second model's sigmoid is the same


@pytest.mark.usefixtures("place")
def test_answers_are_shown_even_when_their_picture_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = ("--draw", "no/out.png", "--images", "pictures", "--key-rule", "stem")
    out, err = run("ask", "store", "p1", TEXTS[0], "--model", "model", *drawn, capsys=capsys, code=2)
    assert out.startswith(f"{TEXTS[0]}\n  0.")
    assert "there is no folder" in err


@pytest.mark.usefixtures("place")
def test_a_photo_without_regions_is_answered_and_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = fake.expected(np.zeros((40, 60, 3), np.uint8))
    empty = replace(empty, count=0, features=empty.features[:0], boxes=empty.boxes[:0], extra={})
    monkeypatch.setattr(Eye, "__call__", lambda self, batch: [empty])
    out, _ = run("ask", "photo.png", TEXTS[0], "--model", "model", "--draw", "out.png", capsys=capsys)
    assert len(out.splitlines()) == 5
    assert cv2.imread("out.png") is not None


def test_the_shipped_configuration_says_how_published_models_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr("featx.predictor.Predictor", lambda *args, **named: made.append((args, named)))
    parser = argparse.ArgumentParser()
    configure(parser)
    path = Path(__file__).parent.parent / "configs/lxmert_ask.yaml"
    panel = read_panel(parser.parse_args(["photo.jpg", "what?", "--config", str(path), "--language", "ko"]), None)
    assert list(panel.predictors) == ["vqa", "gqa"]
    for (model, store, extractor), named in made:
        assert model.startswith("unc-nlp/lxmert-")
        assert named["answers"].endswith("label2ans.json")
        assert store is None
        assert extractor["profile"] in PROFILES
    translator = panel.translator("ko")
    assert isinstance(translator, Marian)
    assert translator.names["ko>en"] == "Helsinki-NLP/opus-mt-ko-en"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {a: {model: 5}}", "models.a.model of c.yaml is 5"),
        ("models: {a: {model: [x]}}", "models.a.model of c.yaml is ['x']"),
        ("models: {a: {model: model, heads: x}}", "models.a.heads of c.yaml is 'x'"),
        ("models: {a: {model: model, heads: true}}", "models.a.heads of c.yaml is True"),
        ("models: {a: {model: model, answers: 3}}", "models.a.answers of c.yaml is 3"),
        ("models: {a: {model: model, score: 1}}", "models.a.score of c.yaml is 1"),
        ("models: {a: {model: model, score: percent}}", "score is 'percent'"),
        ("models: {a: {model: model, sorce: logit}}", "models.a of c.yaml is"),
        ("models: {a: model}", "models.a of c.yaml is 'model'"),
        ("models: [model]", "models of c.yaml is ['model']"),
        ("translators: {fr: {question: 5}}", "translators.fr is {'question': 5}"),
        ("translators: {fr: [a, b]}", "translators.fr is ['a', 'b']"),
        ("extractor: tiny", "extractor of c.yaml is 'tiny'"),
    ],
)
@pytest.mark.usefixtures("place")
def test_values_of_a_configuration_that_make_no_sense_are_sentences(
    capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    Path("c.yaml").write_text(text + "\n")
    _, err = run("ask", "store", "p1", TEXTS[0], "--config", "c.yaml", capsys=capsys, code=2)
    assert message in err


@pytest.mark.usefixtures("place")
def test_a_long_question_is_answered_and_the_cut_told(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = run("ask", "store", "p1", "what " * 40, "--model", "model", capsys=capsys)
    assert "longer than 20 word pieces" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("store", "p1"), "no question was asked about p1"),
        (("photo.png",), "no question was asked"),
        (("store",), "no question was asked"),
        (("pictures", "what?"), "a folder, but no store"),
        (("nothing.jpg", "what?"), "no store and no photo nothing.jpg"),
        (("q.json", "what?"), "q.json is no picture to ask about"),
        (("store", "p1", "what?", "--device", "foo"), "the device 'foo' cannot be used"),
        (("store", "p1", "what?", "--device", "cuda:63"), "the device 'cuda:63' cannot be used"),
        (("store", "p1", "what?", "--language", "fr", "--translator", "a,b,c"), "--translator names 3 models"),
        (("store", "p99", "what?"), "'p99' is not among the 8 records"),
        (("store", "p1", " "), "a question is empty"),
        (("store", "p1", "what?", "--top-k", "0"), "--top-k is 0"),
        (("store", "p1", "what?", "--model", "nowhere"), "there is no model nowhere"),
        (("store", "p1", "what?", "--model", "a=model", "--model", "a=second"), "two models have one name"),
        (("store", "p1", "what?", "--draw", "x.png"), "--draw needs the picture, which is not in the store"),
        (("store", "p1", "what?", "--draw", "x.txt"), "x.txt is not the name of a PNG file"),
        (("store", "p1", "what?", "how?", "--draw", "x.png", "--images", "pictures"), "--draw shows one question"),
        (("store", "p1", "what?", "--draw", "x", "--images", "pictures", "--key-rule", "name"), "no picture with the"),
        (("store", "p1", "what?", "--language", "fr", "--translator", "ko.json"), "no fr>en"),
        (("store", "p1", "what?", "--config", "absent.yaml"), "absent.yaml cannot be read"),
        (("store", "p1", "what?", "--config", "q.json"), "is not a configuration"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("place")
def test_mistakes_are_sentences(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    given = arguments if "--model" in arguments else (*arguments, "--model", "model")
    _, err = run("ask", *given, capsys=capsys, code=2)
    assert any(part in err for part in message.split("|")), err


def test_a_store_of_another_extractor_is_refused_and_can_be_allowed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toys.make_store(place / "other", provenance={**toys.PROVENANCE, "profile": {"hash": "profile-2"}})
    asked = ("ask", "other", "p1", TEXTS[0], "--model", "model")
    _, err = run(*asked, capsys=capsys, code=2)
    assert "profile: found profile-2, expected profile-1" in err
    _, err = run(*asked, "--allow-mismatch", capsys=capsys)
    assert "featx: allowed: the store: profile: found profile-2, expected profile-1" in err
    _, err = run("predict", "model", "other", "q.json", "-o", "x", "--allow-mismatch", capsys=capsys)
    assert "featx: allowed: the store: profile: found profile-2, expected profile-1" in err


# --- predict --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("place")
def test_a_split_becomes_a_file_of_the_challenge(capsys: pytest.CaptureFixture[str]) -> None:
    scores = ("--scores", "s.jsonl", "--top-k", "3", "--batch", "5")
    out, _ = run("predict", "model", "store", "q.json", "-o", "out.json", *scores, capsys=capsys)
    assert out.strip() == "out.json"
    asked = json.loads(Path("q.json").read_text())
    found, lines = json.loads(Path("out.json").read_text()), Path("s.jsonl").read_text().splitlines()
    ask = Predictor("model", "store")
    assert [entry["question_id"] for entry in found] == [q["question_id"] for q in asked]
    for question, entry, line in zip(asked, found, map(json.loads, lines), strict=True):
        wanted = ask(question["img_id"], question["sent"], 3)
        assert entry["answer"] == wanted[0]["answer"]
        assert (line["question_id"], line["picture"]) == (question["question_id"], question["img_id"])
        assert [a["answer"] for a in line["answers"]] == [a["answer"] for a in wanted]


@pytest.mark.usefixtures("place")
def test_gqa_has_a_form_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    questions = {"07": {"imageId": "p1", "question": TEXTS[0]}, "08": {"imageId": "p2", "question": TEXTS[1]}}
    Path("g.json").write_text(json.dumps(questions))
    out, _ = run("predict", "model", "store", "g.json", "-o", "out.json", "--json", capsys=capsys)
    assert json.loads(out) == {"questions": 2, "form": "gqa", "out": "out.json", "truncated": 0}
    found = json.loads(Path("out.json").read_text())
    assert [set(entry) for entry in found] == [{"questionId", "prediction"}] * 2
    assert [entry["questionId"] for entry in found] == ["07", "08"]


@pytest.mark.parametrize(
    ("task", "numbers", "form", "fields"),
    [
        ("lxmert-gqa", (1, 2), "gqa", {"questionId", "prediction"}),
        ("lxmert-vqa", ("07", "08"), "gqa", {"questionId", "prediction"}),
        ("lxmert-vqa", (1, 2), "vqa", {"question_id", "answer"}),
    ],
)
@pytest.mark.usefixtures("place")
def test_lists_of_lxmert_take_the_form_of_the_challenge_they_are_of(
    capsys: pytest.CaptureFixture[str], task: str, numbers: tuple[Any, ...], form: str, fields: set[str]
) -> None:
    save(Path("of-task"), {"task": task, "wants": WANTS})
    rows = [{"question_id": n, "img_id": f"p{i}", "sent": TEXTS[0]} for i, n in enumerate(numbers)]
    Path("l.json").write_text(json.dumps(rows))
    out, _ = run("predict", "of-task", "store", "l.json", "-o", "out.json", "--json", capsys=capsys)
    assert json.loads(out)["form"] == form
    found = json.loads(Path("out.json").read_text())
    assert [set(entry) for entry in found] == [fields] * 2
    run("predict", "of-task", "store", "l.json", "-o", "out.json", "--form", "vqa", capsys=capsys)
    assert set(json.loads(Path("out.json").read_text())[0]) == {"question_id", "answer"}


@pytest.mark.usefixtures("place")
def test_a_place_that_cannot_be_written_is_told_before_any_question_is_answered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Predictor, "split", lambda self, questions, *rest: asked.append(questions) or iter(()))
    for out, message in (("no/folder", "there is no folder"), ("pictures", "pictures is a folder")):
        _, err = run("predict", "model", "store", "q.json", "-o", out, capsys=capsys, code=2)
        assert message in err
    assert asked == []


@pytest.mark.usefixtures("place")
def test_controls_answer_without_or_about_another_picture(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {}
    for control in ((), ("--control", "no-picture"), ("--control", "other-picture")):
        run("predict", "model", "store", "q.json", "-o", "o.json", "--scores", "s", *control, capsys=capsys)
        found[" ".join(control)] = [json.loads(line)["answers"] for line in Path("s").read_text().splitlines()]
    blind = found["--control no-picture"]
    assert blind[0::3] == [blind[0]] * 8
    assert found[""] != found["--control other-picture"] != blind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "store", "q.json", "-o", "x"), "there is no model nowhere"),
        (("default", "store", "q.json", "-o", "x"), "without a model of its own"),
        (("model", "nowhere", "q.json", "-o", "x"), "there is no store at"),
        (("model", "store", "absent.json", "-o", "x"), "absent.json cannot be read"),
        (("model", "store", "ko.json", "-o", "x"), "of no known layout"),
        (("model", "store", "q.json", "q.json", "-o", "x"), "the same id"),
        (("model", "store", "q.json", "-o", "x", "--format", "xyz"), "no format 'xyz'"),
        (("model", "store", "q.json", "-o", "x", "--image-name", "no_{image_id}"), "the store lacks 8 of 8 pictures"),
        (("model", "store", "q.json", "-o", "no/folder"), "there is no folder"),
        (("model", "store", "q.json", "-o", "x", "--batch", "0"), "--batch is 0"),
        (("model", "store", "q.json", "-o", "x", "--device", "foo"), "the device 'foo' cannot be used"),
    ],
)
@pytest.mark.usefixtures("place")
def test_mistakes_of_predict_are_sentences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    import featx.predictor

    monkeypatch.setattr(featx.predictor, "DEFAULT", Path("absent"))
    assert main(["predict", *arguments]) in (2, 4)
    _, err = capsys.readouterr()
    assert message in err
    assert not Path("x").exists()
