"""``featx match`` and ``featx ground``, in Python and as commands, with a model that can be followed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import featx.live
import featx.models
import featx.registry
from featx import Grounder, Matcher, Predictor
from featx.cli import main
from featx.draw.ground import darkened, draw_ground
from featx.draw.views import are_cells
from featx.errors import UsageError
from featx.extractor import Picture
from featx.record import Record
from featx.schema import Schema, region_schema
from featx.store import create_store, open_part, open_store
from tests import fake
from tests.test_models import entry
from tests.toy_models import DIM, Toy, make_model

W = torch.zeros(DIM)
W[0] = 4.0
WEIGHTS = {"dim": DIM, "weights": "weights-1", "extractor": {"name": "grid", "options": {}}}
HEIGHT, WIDTH = 40, 60


def grid(values: Any, size: tuple[int, int] = (HEIGHT, WIDTH), cls: bool = True) -> Record:
    """Cells of 2 rows and 3 columns, the first feature of which is given; before them the view, if asked for."""
    height, width = size
    corners = [(c * width / 3, r * height / 2) for r in (0, 1) for c in range(3)]
    cells = [[x, y, x + width / 3, y + height / 2] for x, y in corners]
    boxes = np.array([[0, 0, width, height], *cells] if cls else cells, np.float32)
    features = np.zeros((len(boxes), DIM), np.float32)
    features[-6:, 0] = values
    return Record(features, boxes, size)


class Grid(fake.Fake):
    """An extractor whose cells hold the mean brightness of what lies in them, 0..1."""

    name = "grid"

    def __init__(self, sha: str = "weights-1") -> None:
        super().__init__()
        self.sha = sha
        plain = region_schema(DIM, "float32", attributes=False)
        self.schema = Schema(plain.fields[:2], "grid", "grid")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Grid:
        return cls(options.get("weights", "weights-1"))

    def provenance(self) -> dict[str, Any]:
        return {"extractor": "grid", "weights": {"sha256": self.sha}}

    def __call__(self, batch: Any) -> list[Record]:
        return [self._one(picture) for picture in batch]

    def _one(self, picture: Picture) -> Record:
        height, width = picture.size
        parts = picture.pixels.reshape(2, height // 2, 3, width // 3, 3).mean(axis=(1, 3, 4)) / 255
        return grid(parts.reshape(-1), picture.size)

    def texts(self, texts: Any) -> Any:
        return np.stack([np.eye(DIM, dtype=np.float32)[0] * len(text) for text in texts])


def pixels() -> np.ndarray:
    """Black but for the cell in the middle of the upper row, and half of the last one."""
    made = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    made[:20, 20:40] = 255
    made[20:, 40:50] = 255
    return made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder with a model, a photo, and a store of it; the toys are installed."""
    monkeypatch.chdir(tmp_path)
    kinds = (entry("toy-kind"), entry("toy-reader", "tests.toy_models:Reader"))
    monkeypatch.setattr(featx.registry, "entry_points", lambda group: kinds if group == "featx.models" else ())
    monkeypatch.setattr(featx.live, "load", lambda group, name: {"grid": Grid}[name])
    make_model(tmp_path / "model", W, wants=WEIGHTS)
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures/p0.png"), pixels())
    own = Grid()
    create_store(tmp_path / "store", "lmdb", own.schema, {**own.provenance(), "key_rule": "stem"})
    with open_part(tmp_path / "store") as writer:
        writer.put("p0", own([Picture("p0", pixels())])[0], 0)
        writer.finish()
    return tmp_path


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


# --- match ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("form", ["key", "path", "pil", "array", "record"])
def test_a_text_is_matched_with_a_picture_in_every_form(form: str) -> None:
    match = Matcher("model", "store")
    picture = {
        "key": "p0", "path": "pictures/p0.png", "pil": Image.fromarray(pixels()), "array": pixels(),
        "record": grid([0, 1, 0, 0, 0, 0.5]),
    }[form]  # fmt: skip
    found = match(picture, "a light")
    assert found["score"] == pytest.approx([1 - sigmoid(4), sigmoid(4)])
    assert found["match"] == "True"
    assert match(image=picture, text="a light") == found
    both = match([{"image": picture, "text": "a light"}, {"image": picture, "text": "not a light"}])
    assert [one["match"] for one in both] == ["True", "False"]  # the darkest of all is the best of the latter: 0
    assert both[1]["score"] == pytest.approx([0.5, 0.5])


@pytest.mark.usefixtures("place")
def test_texts_are_listed_by_how_likely_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("store", "p0"), ("pictures/p0.png",)):
        assert main(["match", *words, "not a light", "a light", "--model", "model"]) == 0
        assert capsys.readouterr().out.splitlines() == [words[-1], "  0.98  a light", "  0.50  not a light"]
    assert main(["match", "store", "p0", "a light", "--model", "model", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["picture"] == "p0"
    assert data["matches"][0]["text"] == "a light"
    assert data["matches"][0]["score"][1] == pytest.approx(sigmoid(4))


@pytest.mark.parametrize("command", ["match", "ground"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("store", "p0"), "no text was given about p0"),
        (("pictures/p0.png",), "no text was given"),
        (("pictures", "a light"), "pictures is a folder, but no store"),
        (("nothing.png", "a light"), "there is no store and no photo nothing.png"),
        (("store", "p9", "a light"), "'p9' is not among"),
        (("store", "p0", " "), "a text is empty"),
        (("model/config.json", "a light"), "is no picture to ask about"),
        (("store", "p0", "a light", "--device", "foo"), "the device 'foo' cannot be used"),
        (("store", "p0", "a light", "--tokenizer", "x"), "tokenizer is given, and models of the kind toy-kind"),
        (("pictures/p0.png", "a light", "--weights", "w2"), "weights: found w2, expected weights-1"),
    ],
)
@pytest.mark.usefixtures("place")
def test_mistakes_are_sentences(
    capsys: pytest.CaptureFixture[str], command: str, arguments: tuple[str, ...], message: str
) -> None:
    assert main([command, *arguments, "--model", "model"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("place")
def test_what_was_allowed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model", "model", "--weights", "w2", "--allow-mismatch")
    assert main(["match", "pictures/p0.png", "a light", *flags]) == 0
    assert "allowed: the extractor: weights: found w2" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["match", "ground"])
@pytest.mark.usefixtures("place")
def test_a_text_that_is_cut_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert main([command, "store", "p0", "a light", "--model", "model"]) == 0
    assert "is cut" not in capsys.readouterr().err
    monkeypatch.setattr(Toy, "is_cut", lambda model, text: len(text) > 6)
    monkeypatch.setattr(Toy, "max_length", 6, raising=False)
    assert main([command, "store", "p0", "a light", "--model", "model"]) == 0
    assert "featx: the text is longer than" in capsys.readouterr().err


# --- ground ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("place")
def test_cells_have_scores_and_the_class_token_is_none_of_them() -> None:
    found = Grounder("model", "store").ground(open_store("store")["p0"], "a light")
    assert found.rows.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.score[:, 1].tolist() == pytest.approx([sigmoid(4 * v) for v in (0, 1, 0, 0, 0, 0.5)])
    shares = np.exp([0, 4, 0, 0, 0, 2.0])
    assert found.share.tolist() == pytest.approx((shares / shares.sum()).tolist())
    bare = Grounder("model").ground(grid([0, 1, 0, 0, 0, 0.5], cls=False), "a light")
    assert bare.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert bare.score == pytest.approx(found.score)


@pytest.mark.usefixtures("place")
def test_a_photo_is_returned_with_its_scores_and_a_key_has_none() -> None:
    ground = Grounder("model", "store")
    found = ground(image=pixels(), text="a light")
    assert found["score"].shape == (6, 2)
    assert found["image"].size == (WIDTH, HEIGHT)
    assert ground("p0", "a light")["image"] is None
    several = ground([{"image": "p0", "text": "a light"}, {"image": "pictures/p0.png", "text": "a light"}])
    assert several[0]["score"] == pytest.approx(several[1]["score"])
    assert np.array_equal(np.asarray(several[1]["image"]), np.asarray(found["image"]))


def test_related_cells_stay_clear_and_the_rest_darkens_as_published() -> None:
    """Grey of 255 w with opacity 0.7 (1 - w); w from two fifths of the way between the least share and the most."""
    boxes = np.array([[0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10]], np.float32)
    shares = np.array([0.1, 0.6, 0.35])  # floor 0.1 + 0.4 * 0.5 = 0.3; w = 0, 1, 1/6
    photo = np.full((12, 30, 3), 200, np.uint8)
    shown = darkened(photo, boxes, shares)
    assert shown.dtype == np.uint8
    assert (shown[:10, 10:20] == 200).all()
    assert (shown[:10, :10] == round(0.3 * 200)).all()
    opacity = 0.7 * 5 / 6
    assert (shown[:10, 20:] == round((1 - opacity) * 200 + opacity * 255 / 6)).all()
    assert (shown[10:] == round(0.3 * 200)).all()  # no cell saw the lower border
    assert (photo == 200).all()


def test_a_pixel_is_of_the_cell_that_its_centre_lies_in() -> None:
    boxes = np.array([[0, 0, 2.4, 5], [2.4, 0, 5, 5]], np.float32)
    shown = darkened(np.full((5, 5, 3), 100, np.uint8), boxes, [0.2, 0.8])
    assert (shown[:, :2] == 30).all()  # centres at 0.5 and 1.5
    assert (shown[:, 2:] == 100).all()  # the pixel from 2 to 3 has its centre at 2.5


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.0, 0.0]])
def test_cells_that_are_all_alike_all_stay_clear(shares: list[float]) -> None:
    boxes = np.array([[0, 0, 2, 4], [2, 0, 4, 4]], np.float32)
    assert (darkened(np.full((4, 4, 3), 9, np.uint8), boxes, shares) == 9).all()


def test_the_view_is_no_cell_but_a_single_box_is() -> None:
    assert are_cells(grid(0).boxes).tolist() == [False] + [True] * 6
    assert are_cells(grid(0, cls=False).boxes).all()
    assert are_cells(np.array([[0, 0, 4, 4]], np.float32)).tolist() == [True]
    assert are_cells(np.array([[0, 0, 4, 4], [0, 0, 4, 4]], np.float32)).tolist() == [True, True]
    assert are_cells(np.zeros((0, 4), np.float32)).tolist() == []


def test_one_share_for_each_cell() -> None:
    with pytest.raises(UsageError, match="2 cells and 1 shares"):
        darkened(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4)), [1.0])


@pytest.mark.usefixtures("place")
def test_cells_are_told_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model", "model", "--draw", "out.png")
    assert main(["ground", "store", "p0", "a light", *flags, "--images", "pictures"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "p0: a light: 2 of 6 cells"
    assert lines[2].split() == ["0.98", "20", "0", "40", "20"]
    drawn = cv2.imread("out.png").astype(int)
    zoom, margin = 8, 40  # on both sides, for the text below
    drawn = drawn[:, margin:-margin]
    lit, dark = drawn[20:120, 180:300], drawn[200:280, 420:]
    assert lit.min() > 250
    assert dark.max() < 10
    assert 60 < drawn[200:280, 340:380].mean() < 250  # half of the last cell is white, and darkened
    assert drawn.shape[0] > HEIGHT * zoom
    assert main(["ground", "pictures/p0.png", "a light", *flags, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [cell["row"] for cell in data["cells"]] == [1, 2, 3, 4, 5, 6]
    assert data["cells"][1]["box"] == [20, 0, 40, 20]
    again = cv2.imread("out.png")[:, margin:-margin]
    assert np.array_equal(again[: HEIGHT * zoom], drawn[: HEIGHT * zoom])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("store", "p0", "a", "b"), "2 texts were given"),
        (("store", "p0", "a", "--draw", "x.png"), "--draw needs the picture"),
        (("store", "p0", "a", "--draw", "x.txt"), "x.txt is not the name of a PNG file"),
    ],
)
@pytest.mark.usefixtures("place")
def test_mistakes_of_ground_are_sentences(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["ground", *arguments, "--model", "model"]) == 2
    assert message in capsys.readouterr().err


def test_the_drawing_has_text_and_facts_below(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("featx.draw.letters.write", lambda canvas, text, *rest, **more: written.append(text))
    draw_ground(pixels(), grid(0, cls=False).boxes, [1, 2, 3, 4, 5, 6], "a red car", footer=["p0", "6 cells"])
    assert written == ["a red car", "p0 | 6 cells"]


# --- questions to a model of another kind ---------------------------------------------------------------


@pytest.mark.usefixtures("place")
def test_a_model_that_says_nothing_about_attention_is_asked_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    ask = Predictor("model", "store")
    answers, weights = ask.look("p0", "is it light?")
    assert weights is None
    best = np.exp([4.0, -4, 0])
    assert answers[0] == {"answer": "yes", "score": pytest.approx(float(best[0] / best.sum()))}
    assert ask.batch_answers(None, ["is it light?"], 1)[0][0]["score"] == pytest.approx(1 / 3)
    drawn = ("--draw", "out.png", "--images", "pictures")
    assert main(["ask", "store", "p0", "is it light?", "--model", "model", *drawn]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"  {best[0] / best.sum():.2f}  yes"
    shown = cv2.imread("out.png")[: HEIGHT * 8]
    assert (shown[:, 60:180] < 8).all()  # nothing is lit, outlined or named: black stays black


@pytest.mark.usefixtures("place")
def test_photos_and_questions_are_embedded_by_one_extractor() -> None:
    make_model(Path("reader"), W, "toy-reader", WEIGHTS)
    ask = Predictor("reader", score="logit")
    (best,) = ask(pixels(), "how?", top_k=1)
    assert best == {"answer": "yes", "score": pytest.approx(4.0)}  # the brightest cell, 1, times the length of the text


@pytest.mark.usefixtures("place")
def test_embeddings_of_a_store_of_texts_come_before_those_of_the_extractor(tmp_path: Path) -> None:
    make_model(Path("reader"), W, "toy-reader", WEIGHTS)
    schema = Schema(region_schema(DIM, "float32", attributes=False).fields[:2], "grid", "grid", rows=1)
    for name, sha in (("texts", "weights-1"), ("others", "weights-2")):
        create_store(tmp_path / name, "lmdb", schema, {"weights": {"sha256": sha}})
        with open_part(tmp_path / name) as writer:
            vector = np.zeros((1, DIM), np.float32)
            vector[0, 0] = 100
            writer.put("how?", Record(vector, np.zeros((1, 4), np.float32), (1, 1)), 0)
            writer.finish()
    ask = Predictor("reader", "store", texts="texts", score="logit")
    found = ask("p0", ["how? ", "why is it?", "how?"], 1)
    assert [one[0]["score"] for one in found] == pytest.approx([100.0, 10.0, 100.0])
    with pytest.raises(UsageError, match="the store of texts does not fit the model reader:\n  weights"):
        Predictor("reader", "store", texts="others")
    with pytest.raises(UsageError, match="the store of texts holds several rows a record"):
        Predictor("reader", "store", texts="store")
    with pytest.raises(UsageError, match="the model model reads texts as words"):
        Predictor("model", "store", texts="texts")
    with pytest.raises(UsageError, match="the extractor fake reads pictures only"):
        fake.Fake().texts(["how?"])
