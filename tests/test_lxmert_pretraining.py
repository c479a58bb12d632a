"""Pre-training: the losses are transformers' own, and the data they are given follow the published recipe."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featx.data import Question
from featx.errors import UsageError, WeightsError
from featx.lxmert.heads import OBJECTIVES, pretraining_losses
from featx.store import open_store
from featx.tasks.pairs import drawn_answers, swapped
from featx.tasks.pretrain import LxmertPretrain
from featx.tasks.vqa import LxmertVqa
from featx.text.wordpiece import Tokens
from tests import lxmert_toys as toys

B, L, N = 3, 7, 5


def labelled(seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch with a label for everything."""
    g = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=g)

    features = torch.rand(B, N, toys.DIM, generator=g)
    labels = torch.where(draw(4, B, L) == 0, draw(60, B, L), -100)
    labels[0, 1] = 7
    return {
        "input_ids": draw(55, B, L) + 5, "attention_mask": torch.ones(B, L, dtype=torch.int64),
        "visual_feats": features, "visual_pos": torch.rand(B, N, 4, generator=g),
        "visual_attention_mask": torch.ones(B, N), "word_labels": labels, "matched": draw(2, B),
        "answers": draw(4, B), "object_labels": draw(3, B, N), "object_weights": torch.rand(B, N, generator=g),
        "attribute_labels": draw(2, B, N), "attribute_weights": torch.rand(B, N, generator=g),
        "feature_labels": torch.rand(B, N, toys.DIM, generator=g), "feature_weights": draw(2, B, N).float(),
    }  # fmt: skip


def by_transformers(network: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    total: torch.Tensor = network(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
        token_type_ids=torch.zeros_like(batch["input_ids"]), visual_feats=batch["visual_feats"],
        visual_pos=batch["visual_pos"], visual_attention_mask=batch["visual_attention_mask"],
        labels=batch["word_labels"], matched_label=batch["matched"], ans=batch["answers"],
        obj_labels={
            "obj": (batch["object_labels"], batch["object_weights"]),
            "attr": (batch["attribute_labels"], batch["attribute_weights"]),
            "feat": (batch["feature_labels"], batch["feature_weights"]),
        },
    ).loss  # fmt: skip
    return total


def test_the_sum_of_the_losses_is_that_of_transformers() -> None:
    network, batch = toys.pretraining(), labelled()
    found = pretraining_losses(network, batch)
    assert set(found) == {"loss", *OBJECTIVES}
    assert found["loss"].item() == pytest.approx(by_transformers(network, batch).item(), rel=1e-6)
    assert found["loss"].item() == pytest.approx(sum(found[name].item() for name in OBJECTIVES), rel=1e-6)


@pytest.mark.parametrize("name", ["answers", "word_labels"])
def test_a_batch_without_labels_leaves_the_objective_out_where_transformers_gives_nan(name: str) -> None:
    network, batch = toys.pretraining(), labelled()
    batch[name] = torch.full_like(batch[name], -100)
    assert math.isnan(by_transformers(network, batch).item())
    found = pretraining_losses(network, batch)
    objective = "words" if name == "word_labels" else name
    assert set(found) == {"loss", *OBJECTIVES} - {objective}
    found["loss"].backward()
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(bool(torch.isfinite(g).all()) for g in grads)


def test_each_loss_of_the_regions_is_weighted_and_divided_as_published() -> None:
    network, batch = toys.pretraining(), labelled()
    network.visual_loss_normalizer = 1 / 0.15
    found = pretraining_losses(network, batch)
    with torch.no_grad():
        out = network.lxmert(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
            token_type_ids=torch.zeros_like(batch["input_ids"]), visual_feats=batch["visual_feats"],
            visual_pos=batch["visual_pos"], visual_attention_mask=batch["visual_attention_mask"],
        )  # fmt: skip
        heads = network.obj_predict_head(out.vision_output)
    objects = features = 0.0
    for b in range(B):
        for n in range(N):
            row = heads["obj"][b, n]
            nll = torch.logsumexp(row, 0) - row[batch["object_labels"][b, n]]
            objects += (nll * batch["object_weights"][b, n]).item()
            gap = (heads["feat"][b, n] - batch["feature_labels"][b, n]).abs()
            smooth = torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean()
            features += (smooth * batch["feature_weights"][b, n]).item()
    assert found["objects"].item() == pytest.approx(objects / (B * N) / 0.15, rel=1e-4)
    assert found["features"].item() == pytest.approx(features / (B * N) / 0.15, rel=1e-4)


# --- the task -------------------------------------------------------------------------------------------


def task(tmp_path: Path, **changes: Any) -> LxmertPretrain:
    captions = {
        "images": [{"id": i, "file_name": f"p{i}.jpg"} for i in range(8)],
        "annotations": [{"id": i, "image_id": i, "caption": f"a cube in front of tree {i}"} for i in range(8)],
    }
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    if not (tmp_path / "store").is_dir():
        toys.make_store(tmp_path / "store")
    base = toys.options(toys.write_questions(tmp_path / "q.json"), store=str(tmp_path / "store"))
    train = [base["data"]["train"], {"captions": str(tmp_path / "captions.json")}]
    base["data"] = {**base["data"], "train": train, "val": train}
    found = LxmertPretrain.from_options({**base, **changes})
    assert isinstance(found, LxmertPretrain)
    return found


def prepare(made: LxmertPretrain, tmp_path: Path, seed: int, examples: Any = None) -> dict[str, torch.Tensor]:
    found = made.examples("train") if examples is None else examples
    with open_store(tmp_path / "store") as store:
        return made.prepare(found, store.get_batch([made.key(e) for e in found]), chances(seed, len(found)))


def chances(seed: int, count: int) -> list[np.random.Generator]:
    """A generator for each of ``count`` examples."""
    return [np.random.default_rng([seed, i]) for i in range(count)]


def test_questions_and_captions_are_read_and_the_store_decides_the_heads(tmp_path: Path) -> None:
    made = task(tmp_path)
    assert len(made.examples("train")) == 24 + 8
    assert made.model.config.num_object_labels == 3
    assert made.model.config.num_attr_labels == 2
    assert made.model.visual_loss_normalizer == pytest.approx(1 / 0.15)
    assert made.wants().fields == (
        "features", "boxes", "object_ids", "object_confs", "attribute_ids", "attribute_confs"
    )  # fmt: skip


def test_every_second_sentence_is_of_another_picture_and_has_no_answer(tmp_path: Path) -> None:
    made = task(tmp_path)
    examples = list(made.examples("train")) * 40
    batch = prepare(made, tmp_path, 0, examples)
    n, kept = len(examples), int(batch["matched"].sum())
    assert abs(kept - n / 2) <= 3 * math.sqrt(n / 4)
    for example, matched, answer in zip(examples, batch["matched"].tolist(), batch["answers"].tolist(), strict=True):
        assert (answer >= 0) == bool(matched and example.scores)


def test_a_replaced_sentence_is_never_of_the_same_picture() -> None:
    pool = [Question(i, f"p{i % 2}", f"about p{i % 2}", None) for i in range(40)]
    texts, matched = swapped(pool, pool, 0.5, chances(0, 40))
    assert 10 < sum(matched) < 30
    for question, text, own in zip(pool, texts, matched, strict=True):
        assert (text == f"about {question.picture}") == own
    alone = pool[::2]
    assert all(swapped(alone, alone, 1.0, chances(0, 20))[1])  # there is no other picture


def test_an_answer_is_drawn_by_its_soft_score(tmp_path: Path) -> None:
    made = task(tmp_path)
    scores = {"blue": 1.0, "red": 0.3, "unheard of": 0.9}
    question = Question(1, "p0", "what?", scores)
    drawn = Counter(drawn_answers([question] * 3000, [True] * 3000, made.answers, chances(0, 3000)))
    assert set(drawn) == {made.answers.index("blue"), made.answers.index("red")}
    share, rate = drawn[made.answers.index("blue")] / 3000, 1 / 1.3
    assert abs(share - rate) < 3 * math.sqrt(rate * (1 - rate) / 3000)


def test_confidences_weigh_names_and_hidden_regions_weigh_features(tmp_path: Path) -> None:
    made = task(tmp_path)
    examples = [e for e in made.examples("train") if e.picture in ("p0", "p1")]
    batch = prepare(made, tmp_path, 3, examples)
    rows = [int(e.picture[1]) for e in examples]
    for row, i in enumerate(rows):
        record = toys.record(i, 6 - i % 2)
        sure = record.object_confs * (np.arange(6) < len(record)) * (6 / len(record))  # p1 has a padded region
        assert batch["object_weights"][row].numpy() == pytest.approx(sure)
        assert torch.equal(batch["feature_labels"][row], torch.from_numpy(record.features))
    weights = batch["feature_weights"]
    assert torch.equal(weights > 0, batch["hidden"])
    changed = (batch["visual_feats"] != batch["feature_labels"]).any(dim=2)
    assert not (changed & ~batch["hidden"]).any()


def test_everything_random_comes_from_the_generator(tmp_path: Path) -> None:
    made = task(tmp_path)
    a, b, c = (prepare(made, tmp_path, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["input_ids"], c["input_ids"])
    assert not torch.equal(a["visual_feats"], c["visual_feats"])


def test_evaluation_hides_the_same_every_time(tmp_path: Path) -> None:
    made = task(tmp_path)
    examples = made.examples("val")[:6]
    with open_store(tmp_path / "store") as store:
        records = store.get_batch([e.picture for e in examples])
        a, b = made.prepare(examples, records, None), made.prepare(examples, records, None)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert a["hidden"].any()


def test_the_loss_falls_and_what_is_learned_is_scored(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = task(tmp_path)
    optimiser, seen = torch.optim.AdamW(made.model.parameters(), lr=3e-3), []
    made.model.train()
    for step in range(60):
        losses = made.loss(prepare(made, tmp_path, step))
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        seen.append(losses["loss"].item())
    assert np.mean(seen[-10:]) < 0.7 * np.mean(seen[:5])
    made.model.eval()
    with torch.no_grad():
        predictions = made.predict(prepare(made, tmp_path, 99))
    figures = made.metric(made.examples("train"), json.loads(json.dumps(predictions)))
    score = figures.pop("negative_loss")
    assert score < -0.1
    assert set(figures) == {"words", "matched", "objects", "attributes", "answers"}
    assert all(0 <= value <= 100 for value in figures.values())


def test_the_score_is_the_loss_of_the_split_with_every_objective_and_grows_as_it_falls(tmp_path: Path) -> None:
    for objectives in (["features"], list(OBJECTIVES)):
        made = task(tmp_path, objectives=objectives)
        made.model.eval()
        batch = prepare(made, tmp_path, 99)
        with torch.no_grad():
            found = made.metric(made.examples("train"), made.predict(batch))
            loss = made.loss(batch)["loss"].item()
        assert next(iter(found)) == "negative_loss"
        assert found["negative_loss"] == pytest.approx(-loss, abs=1e-4)
        assert ("words" in found) == ("words" in objectives)


def test_figures_are_means_and_shares_over_all_that_is_asked_of_a_split() -> None:
    from featx.tasks.guesses import figures

    first = {"words": [4.0, 2, 1, 2], "matched": [0.5, 1, 1, 1], "features": [3.0, 1, 0, 0], "answers": [0.0, 0, 0, 0]}
    second = {"words": [2.0, 1, 0, 1], "matched": [0.5, 1, 0, 1], "features": [1.0, 1, 0, 0], "answers": [0.0, 0, 0, 0]}
    assert figures([first, second]) == {
        "negative_loss": -(6 / 3 + 1 / 2 + 4 / 2), "words": 33.33, "matched": 50.0
    }  # fmt: skip


@pytest.mark.parametrize("objectives", [["words"], ["answers"], list(OBJECTIVES)])
def test_an_evaluation_does_not_depend_on_the_size_of_its_batches(tmp_path: Path, objectives: list[str]) -> None:
    made = task(tmp_path, objectives=objectives)
    made.model.eval()
    examples, figures = made.examples("val"), []
    with open_store(tmp_path / "store") as store, torch.no_grad():
        for size in (1, 5, len(examples)):
            parts = [examples[i : i + size] for i in range(0, len(examples), size)]
            batches = [made.prepare(part, store.get_batch([e.picture for e in part]), None) for part in parts]
            figures.append(made.metric(examples, [one for batch in batches for one in made.predict(batch)]))
    for other in figures[1:]:
        assert other == pytest.approx(figures[0], abs=1e-4)


def test_a_batch_that_asks_nothing_has_a_loss_of_zero_to_go_backward_through(tmp_path: Path) -> None:
    made = task(tmp_path, objectives=["answers"])
    captions = [e for e in made.examples("train") if e.scores is None][:2]
    losses = made.loss(prepare(made, tmp_path, 0, captions))
    assert set(losses) == {"loss"}
    losses["loss"].backward()
    assert losses["loss"].item() == 0
    assert not any(p.grad.any() for p in made.model.parameters() if p.grad is not None)


def test_a_replaced_region_is_one_of_another_picture_of_the_store(tmp_path: Path) -> None:
    made = task(tmp_path)
    known = {tuple(row) for i in range(8) for row in toys.record(i, 6 - i % 2).features[: 6 - i % 2].tolist()}
    seen: set[int] = set()
    for seed in range(40):
        batch = prepare(made, tmp_path, seed, made.examples("train")[:3])  # of p0 alone
        changed = (batch["visual_feats"] != batch["feature_labels"]).any(2) & (batch["visual_feats"] != 0).any(2)
        rows = {tuple(row) for row in batch["visual_feats"][changed].tolist()}
        assert rows <= known
        seen |= {i for i in range(8) if rows & {tuple(row) for row in toys.record(i, 6 - i % 2).features.tolist()}}
    assert len(seen) > 4


def test_objectives_that_are_not_asked_for_need_no_fields(tmp_path: Path) -> None:
    made = task(tmp_path, objectives=["words", "features"])
    assert made.wants().fields == ("features", "boxes")
    batch = prepare(made, tmp_path, 0)
    assert set(made.loss(batch)) == {"loss", "words", "features"}
    assert "matched" not in batch


def test_a_snapshot_goes_on_in_pre_training_and_in_question_answering(tmp_path: Path) -> None:
    from transformers import LxmertForPreTraining

    made = task(tmp_path)
    folder = tmp_path / "snapshot"
    folder.mkdir()
    made.export(folder, {"provenance": toys.PROVENANCE, "labels": toys.LABELS, "figures": {"mean": 1.0}})
    theirs = LxmertForPreTraining.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), made.model.parameters(), strict=True))
    again = task(tmp_path, model={"weights": str(folder), "dropout": 0.0})
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), made.model.parameters(), strict=True))
    options = toys.options(tmp_path / "q.json", model={"weights": str(folder)})
    tuned = LxmertVqa.from_options(options)
    assert torch.equal(tuned.model.lxmert.pooler.dense.weight, made.model.lxmert.pooler.dense.weight)
    assert tuned.wants().profile == "profile-1"
    rows = [made.answers.index(answer) for answer in tuned.answers]
    old, new = made.model.answer_head.logit_fc[3], tuned.model.answer_head.logit_fc[3]
    assert torch.equal(new.weight, old.weight[rows])


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"objectives is \['word'\]\n.*one of words, matched"):
        task(tmp_path, objectives=["word"])
    with pytest.raises(UsageError, match=r"objectives is \[\]\n.*at least one"):
        task(tmp_path, objectives=[])
    with pytest.raises(UsageError, match="does not name its objects"):
        task(tmp_path, store=None)
    network = toys.answering()
    network.save_pretrained(tmp_path / "vqa")
    Tokens.train(["what"], 20).save(tmp_path / "vqa")
    with pytest.raises(WeightsError, match="no heads of pre-training"):
        task(tmp_path, model={"weights": str(tmp_path / "vqa")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"swap": 2}, "swap is 2\n.*a number from 0 to 1"),
        ({"swap": -1}, "swap is -1"),
        ({"swap": "x"}, "swap is 'x'"),
        ({"swap": float("nan")}, "swap is nan"),
        ({"objects": "many"}, "objects is 'many'"),
        ({"attributes": -3}, "attributes is -3\n.*a whole number of 1 or more, or nothing"),
        ({"objectives": None}, "objectives is None"),
        ({"objectives": "words"}, "objectives is 'words'"),
        ({"objectives": [5]}, r"objectives is \[5\]"),
    ],
)
def test_a_wrong_setting_is_a_sentence(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(tmp_path, **change)


def test_an_objective_that_would_be_left_out_is_refused(tmp_path: Path) -> None:
    made = task(tmp_path)
    listless = {"train": [{"captions": str(tmp_path / "captions.json")}], "val": []}
    with pytest.raises(UsageError, match=r"objectives has answers, and there is no list of them\n.*data\.answers"):
        task(tmp_path, data=listless)
    few = task(tmp_path, objectives=["words", "objects"])
    (tmp_path / "few").mkdir()
    few.export(tmp_path / "few", {})
    with pytest.raises(UsageError, match=r"has attributes, features, answers, for which .*few has no head") as caught:
        task(tmp_path, model={"weights": str(tmp_path / "few")})
    assert caught.value.hint.endswith("there are heads for matched, objects, words")
    kept = task(tmp_path, model={"weights": str(tmp_path / "few")}, objectives=["objects", "words"])
    assert set(kept.loss(prepare(kept, tmp_path, 0))) == {"loss", "words", "objects"}
    assert set(made.loss(prepare(made, tmp_path, 0))) == {"loss", *OBJECTIVES}


def test_a_store_with_other_names_than_the_heads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"store names 3 objects, the network chooses from 2"):
        task(tmp_path, objects=2)
    made = task(tmp_path)
    (tmp_path / "m").mkdir()
    made.export(tmp_path / "m", {})
    more = toys.make_store(tmp_path / "more", labels={**toys.LABELS, "attributes": ["red", "blue", "green"]})
    begun = {"model": {"weights": str(tmp_path / "m")}}
    with pytest.raises(UsageError, match=r"more names 3 attributes, the network chooses from 2"):
        task(tmp_path, **begun, store={"train": str(tmp_path / "store"), "val": str(more)})
    task(tmp_path, **begun, store=str(more), objectives=["words", "objects"])


def test_published_lists_of_sentences_are_read(tmp_path: Path) -> None:
    from featx.tasks.corpus import sentences

    rows = [{"img_id": "COCO_1", "sentf": {"mscoco": ["A dog.", "Two dogs."], "vqa": ["What is it?"]},
             "labelf": {"vqa": [{"dog": 1, "a cat": 0.3}]}}]  # fmt: skip
    (tmp_path / "l.json").write_text(json.dumps(rows))
    found = sentences({"sentences": str(tmp_path / "l.json")}, "train")
    assert [(q.id, q.picture, q.text, q.scores) for q in found] == [
        ("COCO_1_mscoco_000", "COCO_1", "A dog.", None),
        ("COCO_1_mscoco_001", "COCO_1", "Two dogs.", None),
        ("COCO_1_vqa_000", "COCO_1", "What is it?", {"dog": 1, "a cat": 0.3}),
    ]
    only = sentences({"sentences": str(tmp_path / "l.json"), "sets": ["vqa"]}, "train")
    assert [q.text for q in only] == ["What is it?"]
    rows[0]["labelf"] = {"vqa": []}
    (tmp_path / "l.json").write_text(json.dumps(rows))
    with pytest.raises(UsageError, match=r"l\.json.*pictures\[0\]"):
        sentences({"sentences": str(tmp_path / "l.json")}, "train")
