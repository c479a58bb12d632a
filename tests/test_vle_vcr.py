"""VCR: its files, its texts, the rows of its objects, what is learned of it, and the file of the leaderboard."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import featx
from featx.checkpoint.place import locate
from featx.cli import main
from featx.consumer import Answers, Chooses
from featx.data.vcr import VcrItem, item_from, leaderboard, read_vcr
from featx.errors import UsageError
from featx.models import load_consumer
from featx.registry import load
from featx.store import open_store
from featx.vle.consumer import VleChoices, VleConsumer, kind_of, save
from featx.vle.heads import ITM, PBC, Q2A, QA2R, VQA
from featx.vle.vcr import Reading, choice_logits, needed_types, overlapped
from featx.vle.vcr_text import answer_texts, named, names_of, rationale_texts, spoken, token_types
from tests import vcr_toys
from tests import vle_toys as toys
from tests.test_vle_tasks import MODEL, batch_of

SIZES = {**MODEL, "max_length": 48}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.make_store(tmp_path_factory.mktemp("vcr") / "store", 160)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return vcr_toys.write(tmp_path_factory.mktemp("data"), 160)


@pytest.fixture(scope="module")
def split(spec: dict[str, Any]) -> dict[str, Any]:
    """128 items to learn from, and 32 about other pictures."""
    held = Path(spec["pictures"]) / "held_out.txt"
    held.write_text("".join(f"p{i}\n" for i in range(128, 160)))
    return {"train": {**spec, "without": str(held)}, "val": {**spec, "only": str(held)}}


def build(data: dict[str, Any], **changes: Any) -> Any:
    torch.manual_seed(0)
    return load("featx.tasks", "vle-vcr").from_options({"model": SIZES, "data": data, **changes})


def made(objects: tuple[str, ...] = ("person", "car", "person"), **changes: Any) -> VcrItem:
    """Riley is asked about; boxes lie in the cells of a 20 x 20 picture."""
    boxes = ((1.0, 1.0, 9.0, 9.0), (11.0, 1.0, 19.0, 12.0), (0.0, 15.0, 20.0, 20.0))
    words = {"question": ("Why", "is", (2,), "happy", "?"),
             "answers": (((0, 2), "smile", "."), ("It", "is", "a", (1,)), ("No", "."), ("Yes", ".")),
             "rationales": (("Because", (0,)), ("So", "."), ("Well", "."), ((1,), "is", "there"))}  # fmt: skip
    return VcrItem("one", "p0", "p0.jpg", objects, boxes, (20, 20), **{**words, **changes})


class Cut:
    """A piece for every letter that is not a space: its code."""

    def __call__(self, text: str) -> list[int]:
        return [ord(letter) for letter in text if letter != " "]


def reading(**changes: Any) -> Reading:
    return replace(Reading(Cut(), 1, 2, 80, 9), **changes)


def test_items_are_read_with_their_objects_and_the_right_numbers(spec: dict[str, Any]) -> None:
    found = read_vcr(spec)
    wanted = vcr_toys.item(3)
    one = found[3]
    assert len(found) == 160
    assert (one.id, one.picture, one.file) == ("train-3", "p3", "toys/p3.jpg")
    assert (one.objects, one.size) == (("person", "car", "person", "dog"), (100, 100))
    assert one.question == ("What", "is", tuple(wanted["question"][2]), "?")
    assert (one.answer, one.rationale) == (wanted["answer_label"], wanted["rationale_label"])
    assert [len(one.answers), len(one.rationales)] == [4, 4]
    cells = [toys.BOXES[1 + cell] for cell in vcr_toys.order(3)]
    assert [box[0] for box in one.boxes] == [5 * (cell[0] + 1) for cell in cells]
    assert read_vcr({**spec, "image_name": "vcr/{image_id}"})[3].picture == "vcr/p3"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"question": None}, "'question' of line 2 is null"),
        ({"question": ["What", [4], "?"]}, "'question' of line 2 names object 4"),
        ({"question": ["What", {}, "?"]}, "'question' of line 2 holds {}"),
        ({"answer_choices": [["a"]] * 3}, "'answer_choices' of line 2 is a list of 3"),
        ({"rationale_choices": [["a"], ["b"], ["c"], []]}, "'rationale_choices' of line 2 is a list of 4"),
        ({"answer_label": 4}, "'answer_label' of line 2 is 4"),
        ({"objects": ["person"]}, "'objects' of line 2 is a list of 1"),
        ({"metadata_fn": "toys/none.json"}, r"none.json cannot be read"),
        ({"annot_id": "train-0"}, "'annot_id' 'train-0' is there twice"),
    ],
)
def test_what_is_not_as_vcr_has_it_is_told_by_its_line(
    tmp_path: Path, spec: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    lines = [json.dumps(vcr_toys.item(0)), json.dumps({**vcr_toys.item(1), **change})]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    with pytest.raises(UsageError, match=words):
        read_vcr({**spec, "vcr": str(tmp_path / "items.jsonl")})


@pytest.mark.parametrize(
    ("content", "words"),
    [("[1", "is not JSON"), ("[]", "is a list of 0"), ('{"boxes": [], "width": 5}', "'width' of the picture is 5"),
     ('{"boxes": [[1, 2, 3]], "width": 5, "height": 5}', "'boxes' of the picture")],
)  # fmt: skip
def test_a_metadata_file_that_is_none_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys/p0.json").write_text(content)
    with pytest.raises(UsageError, match=f"p0.json: .*{words}|{words}"):
        item_from(vcr_toys.item(0), tmp_path)
    (tmp_path / "items.jsonl").write_text("{}\nno json\n")
    with pytest.raises(UsageError, match="line 1"):
        read_vcr({"vcr": str(tmp_path / "items.jsonl"), "pictures": str(tmp_path)})
    with pytest.raises(UsageError, match="no 'pictures'"):
        read_vcr({"vcr": "x"})


def test_names_depend_on_the_item_alone_and_on_what_was_asked_before_only_if_wanted() -> None:
    objects = ["person", "car", "person", "person"]
    assert names_of(objects)[0] == names_of(objects)[0] == ["Casey", "car", "Riley", "Jessie"]
    first, after = names_of(objects, 13)
    assert (first, after) == (["Pat", "car", "Quinn", "Casey"], 1)
    words = [(0, 2), "a\ue000b", "run", (1,)]
    assert list(spoken(words, ["Casey", "car", "Riley"])) == [
        ("Casey", 0), (" and", -1), (" Riley", 2), (" run", -1), (" car", 1),
    ]  # fmt: skip


def test_the_question_that_all_share_is_shortened_by_the_longest_answer() -> None:
    """By hand: 8 pieces of question; of answers 6 and 2; at most 10 of both."""
    item = made(question=("abcdefgh",), answers=(("uvwxyz",), ("no",), ("ha",), ("ok",)))
    texts = answer_texts(item, [], Cut(), 0, 13)
    read = ["".join(chr(one) if one else "|" for one in text.ids) for text in texts]
    assert read == ["abcde|uvwxy", "abcde|no", "abcde|ha", "abcde|ok"]
    item = made(answers=(("uvw",), ("no",), ("ha",), ("ok",)), question=("ab",),
                rationales=(("klmnopqrs",), ("xyz",), ("x",), ("y",)))  # fmt: skip
    texts = rationale_texts(item, 0, [], Cut(), 0, 11)  # 7 pieces of all three
    read = ["".join(chr(one) if one else "|" for one in text.ids) for text in texts]
    assert read == ["a|uv|klmn", "a|uv|xyz", "a|uv|x", "a|uv|y"]


def test_objects_are_in_the_order_of_their_numbers_and_the_original_numbers_them_by_a_set() -> None:
    tags = [-1, 40, 0, 3, 7, -1, 40]
    assert named(tags) == [0, 3, 7, 40]
    assert named(tags, in_set_order=True) == list({40, 0, 3, 7}) != [0, 3, 7, 40]
    assert token_types(tags, named(tags)) == [0, 5, 2, 3, 4, 0, 5]


def test_rows_of_objects_are_the_cells_that_their_boxes_overlap(store: Path) -> None:
    """The patches of the record's own cells; the original stretches the picture, and counts the edge."""
    item = made()
    cells = overlapped(torch.from_numpy(toys.BOXES), [*item.boxes, (10.0, 3.0, 10.0, 3.0)])
    assert cells[:, 1:].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 0, 0]]
    large = replace(item, size=(200, 200), boxes=tuple(tuple(10 * v for v in box) for box in item.boxes))
    with open_store(store) as reader:
        records = reader.get_batch(["p0", "p1"])
        for one in (item, large):
            shares = reading().shares(one, records, 1, toys.ROWS)
            assert shares.tolist() == [[0, 1, 0, 0, 0], [0, 0, 0.5, 0, 0.5], [0, 0, 0, 0.5, 0.5]]
        edge = replace(item, boxes=((1.0, 1.0, 10.0, 9.0), *item.boxes[1:]))
        assert reading().shares(edge, records, 0, toys.ROWS)[0].tolist() == [0, 1, 0, 0, 0]
        upstream = reading(upstream_geometry=True).shares(edge, records, 0, toys.ROWS)
        assert upstream[0].tolist() == [0, 0.5, 0.5, 0, 0]
        cropped = replace(records, boxes=records.boxes[:, :, :] + torch.tensor([0.0, 15.0, 0.0, 15.0]))
        assert reading().shares(item, cropped, 0, toys.ROWS)[0].tolist() == [0] * 5  # what the crop took away


def test_pieces_and_rows_of_one_object_have_one_token_type(store: Path) -> None:
    item = made()
    with open_store(store) as reader:
        records = reader.get_batch(["p0"]).clone()
    way = reading()
    found = way.batch([item], [way.answers(item)], records, toys.ROWS)
    ids = "".join(chr(one) for one in found["input_ids"][0, 0].tolist())
    assert ids == "\x01WhyisRileyhappy?\x02CaseyandRileysmile.\x02"
    types = found["text_types"][0, 0].tolist()
    assert types == [0] * 6 + [3] * 5 + [0] * 7 + [2] * 5 + [0] * 3 + [3] * 5 + [0] * 7
    assert found["image_types"][0].tolist() == [[1] * 5 + [2, 3], [1] * 5 + [2, 3], [1] * 5 + [2, 0], [1] * 5 + [2, 0]]
    assert found["object_mask"][0].tolist() == [[True, True], [True, True], [True, False], [True, False]]
    assert found["means"][0, 1].tolist() == [[0, 0, 0.5, 0, 0.5], [0, 0, 0, 0.5, 0.5]]  # the car, and Riley
    assert needed_types(item) == 5  # Riley, Casey and the car in a reason
    assert needed_types(replace(item, answer=2)) == needed_types(item, [Q2A]) == 4
    with pytest.raises(UsageError, match=r"names 2 objects, and the network has 3 token types: 1 of objects\n.*model"):
        reading(types=3).batch([item], [way.answers(item)], records, toys.ROWS)
    with pytest.raises(UsageError, match="max_length is 5"):
        reading(max_length=5)


def test_one_batch_of_all_candidates_is_each_candidate_by_itself(store: Path, spec: dict[str, Any]) -> None:
    task = build({"train": spec, "val": spec})
    task.model.eval()
    items = task.examples("val")[:3]
    with torch.no_grad():
        whole = batch_of(task, store, items)
        together = {head: task.logits(head, whole) for head in (Q2A, QA2R)}
        for i, item in enumerate(items):
            batch = batch_of(task, store, [item])
            for head, wanted in together.items():
                one = {n.removeprefix(f"{head}."): t for n, t in batch.items()}
                for choice in range(4):
                    part = {n: t if t.dim() < 3 or n == "features" else t[:, choice : choice + 1] for n, t in
                            one.items()}  # fmt: skip
                    found = choice_logits(task.model, head, part)
                    assert torch.allclose(found[0, 0], wanted[i, choice], atol=1e-5)


def learn(task: Any, store: Path, steps: int) -> dict[str, float]:
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=4e-3)
    items = task.examples("train")
    for step in range(steps):
        first = step * 16 % len(items)
        optimiser.zero_grad()
        task.loss(batch_of(task, store, items[first : first + 16], step))["loss"].backward()
        optimiser.step()
    task.model.eval()
    with torch.no_grad():
        found = task.predict(batch_of(task, store, task.examples("val")))
    figures: dict[str, float] = task.metric(task.examples("val"), json.loads(json.dumps(found)))
    return figures


def test_answers_about_pictures_not_seen_before_are_learned_from_the_rows_of_objects(
    split: dict[str, Any], store: Path
) -> None:
    """Which object lies where is another in each picture: only its row, and the type it shares with a word, tell."""
    seeing = learn(build(split, learns="answers"), store, 80)
    assert set(seeing) == {"Q->A"}
    assert seeing["Q->A"] >= 85, seeing
    blind = learn(build(split, learns="answers", zero_features=True), store, 40)
    assert blind["Q->A"] < 60, blind


def test_both_right_is_of_the_same_item(split: dict[str, Any]) -> None:
    task = build(split)
    items = [replace(task.examples("val")[0], answer=a, rationale=r) for a, r in ((0, 1), (2, 3), (1, 1), (3, 0))]
    chosen = [{Q2A: 0, QA2R: 1}, {Q2A: 2, QA2R: 0}, {Q2A: 0, QA2R: 1}, {Q2A: 0, QA2R: 3}]
    assert task.metric(items, chosen) == {"Q->AR": 25.0, "Q->A": 50.0, "QA->R": 50.0}


def test_every_part_of_the_network_is_trained_by_the_sum_of_both_losses(split: dict[str, Any], store: Path) -> None:
    task = build(split, rates={"vcr_q2a_logit": 50, "cross_modal": 5}, decay="published")
    batch = batch_of(task, store, task.examples("train")[:4])
    losses = task.loss(batch)
    assert losses["loss"].item() == pytest.approx(losses[Q2A].item() + losses[QA2R].item(), rel=1e-6)
    losses["loss"].backward()
    assert [n for n, p in task.model.named_parameters() if p.grad is None] == []
    names = [name for group in task.groups() for name in group.names]
    assert sorted(names) == sorted(name for name, _ in task.model.named_parameters())


def test_training_asks_for_labels_and_token_types(tmp_path: Path, spec: dict[str, Any], store: Path) -> None:
    lines = [{k: v for k, v in vcr_toys.item(i).items() if k != "rationale_label"} for i in range(8)]
    (tmp_path / "bare.jsonl").write_text("\n".join(map(json.dumps, lines)))
    bare = {**spec, "vcr": str(tmp_path / "bare.jsonl")}
    with pytest.raises(UsageError, match="8 of 8 train items have no rationale_label, the first is 'train-0'"):
        build({"train": bare, "val": spec})
    task = build({"train": bare, "val": bare}, learns="answers")
    assert task.model.vle.token_type_embeddings.num_embeddings == 3
    torch.manual_seed(0)
    network, config = toys.network(200, (ITM,))  # has two
    (tmp_path / "start").mkdir()
    save(tmp_path / "start", network, config, task.tokens, {})
    model = {"weights": str(tmp_path / "start")}
    with pytest.raises(
        UsageError, match=r"names 1 objects, and the network has 2 token types: 0 of objects\n.*types: 3"
    ):
        build({"train": bare, "val": bare}, learns="answers", model=model)
    grown = build({"train": bare, "val": bare}, learns="answers", model={**model, "types": 6})
    types = grown.model.vle.token_type_embeddings.weight
    assert types.shape == (6, 24)
    assert torch.equal(types[:2], network.vle.token_type_embeddings.weight)
    assert grown.built.config["num_token_types"] == 6
    assert any("token types begin anew from 2 on" in note for note in grown.notes)
    assert any("vcr_q2a_logit begins anew" in note for note in grown.notes)
    assert grown.model.heads == (Q2A,)
    assert grown.tokens.max_length == 80
    (tmp_path / "out").mkdir()
    grown.export(tmp_path / "out", {})
    again: Any = VleConsumer.load(locate(tmp_path / "out"))
    assert torch.equal(again.network.vle.token_type_embeddings.weight, types)


@pytest.fixture(scope="module")
def exported(split: dict[str, Any], store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    with open_store(store) as reader:
        build(split, upstream_geometry=True).export(folder, {"provenance": dict(reader.manifest.provenance)})
    return folder


def test_an_exported_model_chooses_as_it_did_in_training_and_needs_no_labels(
    exported: Path, split: dict[str, Any], spec: dict[str, Any], store: Path
) -> None:
    task = build(split, upstream_geometry=True)
    task.model.eval()
    items, lines = task.examples("val")[:5], [vcr_toys.item(i) for i in range(128, 133)]
    with torch.no_grad():
        batch = batch_of(task, store, items)
        wanted = {head: task.logits(head, batch) for head in (Q2A, QA2R)}
    chooser = featx.Chooser(exported, store, batch=2)
    assert chooser.model.upstream_geometry  # type: ignore[attr-defined]
    bare = [{k: v for k, v in line.items() if not k.endswith("_label")} for line in lines]
    found = chooser(spec["pictures"], bare)
    assert torch.allclose(torch.tensor([one["score"] for one in found]), wanted[Q2A], atol=1e-5)
    assert [one["pred"] for one in found] == wanted[Q2A].argmax(dim=1).tolist()
    reasons = chooser(spec["pictures"], lines, "rationale")
    assert torch.allclose(torch.tensor([one["score"] for one in reasons]), wanted[QA2R], atol=1e-5)
    (single,) = chooser(spec["pictures"], lines[1])
    assert single["score"] == pytest.approx(found[1]["score"], abs=1e-5)
    by_first = chooser(spec["pictures"], bare, "rationale", 0)
    assert len(by_first) == 5
    with pytest.raises(UsageError, match="train-128 does not say which answer is right"):
        chooser(spec["pictures"], bare, "rationale")
    with pytest.raises(UsageError, match="does not answer questions"):
        load_consumer(str(exported), Answers)
    plain: Any = featx.Chooser(exported, store, upstream_geometry=False).model
    assert not plain.reading(Q2A).upstream_geometry


def test_the_leaderboard_has_a_line_for_each_item_with_twenty_chances(
    exported: Path, spec: dict[str, Any], store: Path
) -> None:
    items = read_vcr(spec)[:3]
    chooser = featx.Chooser(exported, store)
    header, *rows = csv.reader(io.StringIO(chooser.leaderboard(items)))
    assert header[:6] == ["annot_id", "answer_0", "answer_1", "answer_2", "answer_3", "rationale_conditioned_on_a0_0"]
    assert (header[-1], len(header)) == ("rationale_conditioned_on_a3_3", 21)
    assert [row[0] for row in rows] == ["train-0", "train-1", "train-2"]
    for place, (item, row) in enumerate(zip(items, rows, strict=True)):
        numbers = [float(value) for value in row[1:]]
        assert [sum(numbers[i : i + 4]) for i in range(0, 20, 4)] == pytest.approx([1.0] * 5, abs=1e-5)
        third = next(chooser.choices([item], "rationale", 2))["score"]
        assert numbers[12:16] == pytest.approx(torch.tensor(third).softmax(0).tolist(), abs=1e-5), place
    with pytest.raises(UsageError, match="x has 7 chances"):
        leaderboard(["x"], [[0.1] * 4], [[[0.1] * 3]])


def test_what_a_model_can_choose_is_said_by_its_heads(tmp_path: Path, exported: Path, store: Path) -> None:
    assert kind_of([Q2A]) is kind_of([Q2A, QA2R]) is VleChoices
    assert issubclass(kind_of([ITM, Q2A]), Chooses)
    assert not issubclass(kind_of([ITM, PBC, VQA]), Chooses)
    network, config = toys.network(200, (QA2R,))
    own: Any = VleConsumer.load(locate(exported))
    save(tmp_path, network, config, own.tokens, {})
    chooser = featx.Chooser(tmp_path, store)
    with pytest.raises(UsageError, match="does not choose among answers: it has no vcr_q2a_logit"):
        list(chooser.choices([made()]))
    with pytest.raises(UsageError, match="network has 2 token types"):
        list(chooser.choices([made()], "rationale", 0))
    with pytest.raises(UsageError, match="answer is 4"):
        list(chooser.choices([made()], "rationale", 4))
    assert chooser.model.tokens.max_length == 80  # type: ignore[attr-defined]


def test_the_command_scores_what_is_labelled_and_writes_the_file(
    exported: Path, spec: dict[str, Any], store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [vcr_toys.item(i) for i in range(6)]
    (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["choose", str(tmp_path / "some.jsonl"), "--pictures", spec["pictures"], "--store", str(store)]
    words += ["--model", str(exported)]
    out = tmp_path / "out.csv"
    assert main([*words, "--json", "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    items = read_vcr({**spec, "vcr": str(tmp_path / "some.jsonl")})
    chooser = featx.Chooser(exported, store)
    right = [one["pred"] == item.answer for one, item in zip(chooser.choices(items), items, strict=True)]
    assert said["items"] == 6
    assert set(said) == {"items", "Q->A", "QA->R", "Q->AR"}
    assert said["Q->A"] == round(100 * sum(right) / 6, 2)
    assert out.read_text() == chooser.leaderboard(items)
    bare = [{k: v for k, v in line.items() if not k.endswith("_label")} for line in lines]
    (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, bare)))
    assert main(words) == 2
    assert "has no labels" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "bare.csv")]) == 0
    assert capsys.readouterr().out == "6 items\n"
    assert (tmp_path / "bare.csv").read_text() == out.read_text()
