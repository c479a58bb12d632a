"""The task ``clip-bert-mlm``: which words are hidden, what the picture tells of them, and what goes on from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from featx.checkpoint.place import locate
from featx.clip_bert.consumer import ClipVisionBert
from featx.clip_bert.losses import IGNORED
from featx.errors import UsageError, WeightsError
from featx.registry import load
from featx.settings import read
from featx.store import open_store
from featx.tasks.clip_bert.options import MlmOptions
from featx.tasks.clip_bert.task import ClipBertVqa
from featx.tasks.clip_bert.words import ClipBertMlm
from featx.train.recipe import read_recipe
from tests import clip_bert_toys as toys
from tests import vle_toys
from tests.test_clip_bert import write

ROOT = Path(__file__).resolve().parent.parent
COUNT = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip-bert-mlm")
    vle_toys.make_store(folder / "store", COUNT)
    vle_toys.write_data(folder, COUNT)
    return folder


def build(home: Path, **changes: Any) -> ClipBertMlm:
    specs = {"captions": str(home / "captions.json"), "language": "en"}
    model = {**toys.MODEL, "max_length": 24}
    torch.manual_seed(0)
    options = {"model": model, "data": {"train": specs, "val": specs}, "store": str(home / "store"), **changes}
    made = ClipBertMlm.from_options(options)
    assert isinstance(made, ClipBertMlm)
    return made


def batch_of(made: ClipBertMlm, home: Path, rngs: Any = None) -> dict[str, torch.Tensor]:
    examples = made.examples("train")
    with open_store(home / "store") as reader:
        batch = made.prepare(examples, reader.get_batch([made.key(e) for e in examples]), rngs)
        return {name: tensor.clone() for name, tensor in batch.items()}


def test_a_share_of_the_words_is_hidden_and_asked_for_and_never_the_ends(home: Path) -> None:
    made = build(home, hidden=0.4)
    plain = made.tokens.encode([e.text for e in made.examples("train")])
    asked = np.zeros(0)
    for seed in range(40):
        batch = batch_of(made, home, [np.random.default_rng([seed, i]) for i in range(COUNT)])
        there = batch["labels"] != IGNORED
        assert not there[:, 0].any()
        assert (batch["labels"][there] == torch.as_tensor(plain.ids)[there]).all()
        assert (batch["input_ids"][~there] == torch.as_tensor(plain.ids)[~there]).all()
        asked = np.append(asked, int(there.sum()))
    words = int(torch.as_tensor(plain.mask).sum()) - 2 * COUNT
    assert asked.mean() / words == pytest.approx(0.4, abs=3 * (0.24 / (40 * words)) ** 0.5)
    again = [batch_of(made, home)["labels"] for _ in range(2)]  # evaluation
    assert torch.equal(*again)


def test_the_loss_is_the_mean_over_hidden_words_of_transformers_cross_entropy(home: Path) -> None:
    made = build(home, hidden=0.5)
    batch = batch_of(made, home)
    with torch.no_grad():
        whole = made.model.word_logits(batch)[:, : batch["labels"].shape[1]]
        wanted = torch.nn.functional.cross_entropy(whole.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
        torch.testing.assert_close(made.loss(batch)["loss"], wanted)


def test_what_only_the_picture_tells_is_learned(home: Path) -> None:
    reached = {}
    for blind in (False, True):
        made = build(home, hidden=0.3, zero_features=blind)
        optimiser = torch.optim.AdamW(made.model.parameters(), lr=4e-3)
        made.model.train()
        for step in range(150):
            optimiser.zero_grad()
            rngs = [np.random.default_rng([step, i]) for i in range(COUNT)]
            made.loss(batch_of(made, home, rngs))["loss"].backward()
            optimiser.step()
        made.model.eval()
        with torch.no_grad():
            figures = made.metric(made.examples("train"), made.predict(batch_of(made, home)))
        assert list(figures) == ["words", "en"]
        reached[blind] = figures["words"]
    assert reached[False] > 90
    assert reached[False] > reached[True] + 10


def test_questions_go_on_from_it_and_it_goes_on_from_itself(home: Path, tmp_path: Path) -> None:
    specs = toys.write_data(tmp_path, COUNT)
    words = {"captions": str(home / "captions.json")}
    made = build(home, data={"train": words, "val": words, "words": specs})
    unknown = made.tokens.backend.token_to_id("[UNK]")
    assert not (made.tokens.encode(["premier corner"]).ids == unknown).any(), "words of questions are known, too"
    (tmp_path / "m").mkdir()
    made.export(tmp_path / "m", {"provenance": vle_toys.PROVENANCE, "figures": {"words": 42.0}})
    assert json.loads((tmp_path / "m/featx.json").read_text())["task"] == "clip-bert-mlm"
    assert not (tmp_path / "m/answers.json").exists()
    own, model = load_file(tmp_path / "m/model.safetensors"), {"weights": str(tmp_path / "m"), "dropout": 0.0}
    data = {"train": specs, "val": specs, "answers": {"least": 1}}
    asked = ClipBertVqa.from_options({"model": model, "data": data, "store": str(home / "store")})
    kept = {n: t for n, t in asked.model.state_dict().items() if n.startswith(("model.embeddings", "model.encoder"))}
    assert kept
    assert all(torch.equal(own[name], t) for name, t in kept.items())
    assert asked.wants().weights == "weights-1"
    further = build(home, model=model)
    assert all(torch.equal(own[name], t) for name, t in further.model.state_dict().items() if name in own)
    with pytest.raises(WeightsError, match="has no head that answers"):
        ClipVisionBert.load(locate(tmp_path / "m"))


def test_weights_that_answer_are_refused(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "start")
    with pytest.raises(UsageError, match="answers questions and guesses no words"):
        build(home, model={"weights": str(tmp_path / "start")})


def test_the_configuration_of_the_repository_is_understood() -> None:
    recipe = read_recipe(str(ROOT / "configs/clip_bert_scenes_mlm.yaml"))
    assert recipe.task == "clip-bert-mlm"
    assert load("featx.tasks", recipe.task) is ClipBertMlm
    assert read(MlmOptions, "", recipe.options).hidden == 0.4
