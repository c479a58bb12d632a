"""Linear layers on CLIP: the published formulas, the losses, and the folder of a model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from featx.checkpoint.place import locate_model
from featx.clip_linear.consumer import ClipLinear, save
from featx.clip_linear.losses import NONE, answer_loss, answerable_loss, type_loss
from featx.clip_linear.network import LinearClip, Scores, Sizes
from featx.consumer import Answers, JudgesAnswerable, TextEmbeddings
from featx.data import AnswerSpace
from featx.errors import UsageError, WeightsError
from featx.models import load_consumer
from featx.record import RecordBatch

SIZES = Sizes(text=5, image=3, answers=4, types=2, hidden=6)
ANSWERS = AnswerSpace(["red", "blue", "yes", "unanswerable"])
PUBLISHED = {"ln1", "fc1", "ln2", "fc2", "fc_aux", "fc_gate", "fc3"}


def network(sizes: Sizes = SIZES) -> LinearClip:
    """No bias is zero and no scale one."""
    torch.manual_seed(0)
    made = LinearClip(sizes).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def batch(count: int, rows: int = 1) -> RecordBatch:
    features = torch.randn(count, rows, SIZES.image)
    return RecordBatch(
        tuple(map(str, range(count))), features, torch.zeros(count, rows, 4), torch.ones(count, rows, dtype=torch.bool),
        torch.ones(count, 2),
    )  # fmt: skip


def by_hand(made: LinearClip, text: torch.Tensor, image: torch.Tensor, gate: str) -> tuple[np.ndarray, ...]:
    """The formulas of the paper in numpy and float64."""
    p = {name: tensor.detach().double().numpy() for name, tensor in made.state_dict().items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    x = np.concatenate([text.double().numpy(), image.double().numpy()], axis=1)  # the text comes first
    h = linear(norm(x, "ln1"), "fc1")
    types, answerable = linear(h, "fc_aux"), 1 / (1 + np.exp(-linear(h, "fc3")[:, 0]))
    open_ = 1 / (1 + np.exp(-linear(types, "fc_gate")))
    vqa = linear(norm(h, "ln2"), "fc2")
    return vqa * open_ if gate == "multiply" else vqa + np.log(open_), types, answerable


@pytest.mark.parametrize("gate", ["multiply", "log"])
def test_the_layers_are_those_of_the_paper(gate: str) -> None:
    made = network(Sizes(**{**SIZES.__dict__, "gate": gate}))
    assert {name.split(".")[0] for name in made.state_dict()} == PUBLISHED
    assert {"dp1", "dp2", "act_gate", "act3"} <= {name for name, _ in made.named_children()}
    text, image = torch.randn(7, 5), torch.randn(7, 3)
    scores = made(text, image)
    answers, types, answerable = by_hand(made, text, image, gate)
    np.testing.assert_allclose(scores.answers.detach().numpy(), answers, atol=1e-5)
    np.testing.assert_allclose(scores.types.detach().numpy(), types, atol=1e-5)
    np.testing.assert_allclose(made.act3(scores.answerable).detach().numpy(), answerable, atol=1e-6)


def test_a_closed_gate_raises_negative_logits_as_published_and_lowers_all_in_its_log_form() -> None:
    made = network()
    with torch.no_grad():
        made.fc_gate.weight.zero_()
        made.fc_gate.bias.fill_(-20.0)
    text, image = torch.randn(3, 5), torch.randn(3, 3)
    assert made(text, image).answers.abs().max() < 1e-6
    made.sizes = Sizes(**{**SIZES.__dict__, "gate": "log"})
    assert made(text, image).answers.max() < -15


def test_losses_are_means_over_the_batch_to_which_the_unknown_adds_nothing() -> None:
    scores = Scores(torch.randn(4, 5), torch.randn(4, 3), torch.randn(4))
    known = torch.tensor([1, NONE, 0, NONE])
    rows = -scores.answers.log_softmax(dim=1)
    assert answer_loss(scores, known).item() == pytest.approx((rows[0, 1] + rows[2, 0]).item() / 4, abs=1e-6)
    assert type_loss(scores, torch.full((4,), NONE)).item() == 0, "and not NaN"
    p = [1 / (1 + math.exp(-x)) for x in scores.answerable.tolist()]
    wanted = -(math.log(p[0]) + math.log(1 - p[2])) / 4
    assert answerable_loss(scores, torch.tensor([1.0, -1.0, 0.0, -1.0])).item() == pytest.approx(wanted, abs=1e-6)


def test_a_model_is_written_and_found_again_by_its_kind(tmp_path: Path) -> None:
    model = ClipLinear(network(), ANSWERS, ("other", "unanswerable"), {"wants": {"weights": "tower-1", "dim": 3}})
    save(tmp_path, model)
    again = load_consumer(str(tmp_path), Answers)
    assert isinstance(again, ClipLinear)
    assert isinstance(again, JudgesAnswerable)
    assert isinstance(again, TextEmbeddings)
    assert (again.answers, again.types) == (ANSWERS, ("other", "unanswerable"))
    assert (again.wants.dim, again.wants.weights) == (3, "tower-1")
    text = torch.randn(2, 5)
    model.embed = again.embed = lambda questions: text
    records = batch(2)
    torch.testing.assert_close(again.logits(records, ["a", "b"]), model.logits(records, ["a", "b"]), atol=0, rtol=0)


def test_questions_are_read_as_vectors_and_the_picture_is_the_first_row() -> None:
    model, asked = ClipLinear(network(), ANSWERS, ("a", "b"), {}), []
    text = torch.randn(2, 5)
    model.embed = lambda questions: asked.append(list(questions)) or text  # type: ignore[func-returns-value]
    records = batch(2, rows=4)
    found = model.logits(records, ["what?", "who?"])
    assert asked == [["what?", "who?"]]
    torch.testing.assert_close(found, model.network(text, records.features[:, 0]).answers)
    torch.testing.assert_close(model.logits(None, ["a", "b"]), model.network(text, torch.zeros(2, 3)).answers)
    chance = model.answerable(records, ["what?", "who?"])
    torch.testing.assert_close(chance, model.network.act3(model.network(text, records.features[:, 0]).answerable))


def test_nothing_that_embeds_and_embeddings_of_another_network_are_told() -> None:
    model = ClipLinear(network(), ANSWERS, ("a", "b"), {})
    with pytest.raises(UsageError, match="nothing makes these"):
        model.logits(None, ["a"])
    model.embed = lambda questions: torch.zeros(len(questions), 7)
    with pytest.raises(UsageError, match="have 7 numbers, the model reads 5"):
        model.logits(None, ["a"])


def test_lists_that_do_not_fit_and_files_that_lack_something_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"4 answers of 2 types, the lists have 4 and 3"):
        ClipLinear(network(), ANSWERS, ("a", "b", "c"), {})
    save(tmp_path, ClipLinear(network(), ANSWERS, ("a", "b"), {}))
    (tmp_path / "answers.json").unlink()
    with pytest.raises(WeightsError, match=r"has no answers\.json"):
        ClipLinear.load(locate_model(tmp_path))
    ANSWERS.write(tmp_path / "mine.json")
    assert ClipLinear.load(locate_model(tmp_path), answers=str(tmp_path / "mine.json")).answers == ANSWERS
    stated = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**stated, "type_names": 5}))
    with pytest.raises(WeightsError, match=r"type_names in config\.json is 5"):
        ClipLinear.load(locate_model(tmp_path), answers=str(tmp_path / "mine.json"))
    (tmp_path / "config.json").write_text('{"model_type": "clip-linear", "text": 5}')
    with pytest.raises(WeightsError, match=r"does not state image, answers, types"):
        ClipLinear.load(locate_model(tmp_path), answers=str(tmp_path / "mine.json"))
