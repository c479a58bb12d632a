"""``vle/``: VCR's texts, objects, depths, logits and losses, and with them all else of VLE's references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from featx.data.vcr import VcrItem, Words
from featx.vle.heads import Q2A, QA2R
from featx.vle.vcr import choice_logits, padded, stretched
from featx.vle.vcr_text import Pieces, answer_texts, named, names_of, rationale_texts, spoken, token_types
from featx.vle.weights import give_heads
from tests.parity import vle
from tests.parity.folder import Arrays, Folder
from tests.parity.table import Table
from tests.parity.vle import PEER, Blank, Case, Watch, compare_names, compare_tower, plain

CHOICES = range(4)


@torch.no_grad()
def compare(folder: Folder, table: Table) -> None:
    """All of the folder."""
    vle.compare(folder, table)
    compare_orders(folder, table)
    compare_texts(folder, table)
    case = Case(folder, "vcr_q2a", table)
    compare_names(case)
    compare_choices(case)


def compare_orders(folder: Folder, table: Table) -> None:
    """Objects in the order of a Python set, which is sorted as long as numbers are small, and token types by it."""
    for number, row in enumerate(plain(one) for one in folder.entries("helpers/related_boxes.json").rows()):
        tags = row["obj_tags"]
        order = named(tags, in_set_order=True)
        table.equal(PEER, f"related_boxes {number} ids", order, row["related_box_ids"])
        table.equal(PEER, f"related_boxes {number} image", np.arange(2, 2 + len(order)),
                    row["image_added_token_type_ids"])  # fmt: skip
        table.equal(PEER, f"related_boxes {number} text", token_types(tags, order), row["text_token_type_ids"])
        table.equal(PEER, f"related_boxes {number} sorted", named(tags), sorted(row["related_box_ids"]))


class Toy:
    """The tokenizer of the references: words in pieces of four letters, ids by their first appearance."""

    def __init__(self) -> None:
        self.ids = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2}

    def __call__(self, text: str) -> list[int]:
        words = [f"_{word}" for word in text.split()]
        pieces = [word[i : i + 4] for word in words for i in range(0, len(word), 4)]
        return [self.ids.setdefault(piece, len(self.ids)) for piece in pieces]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        names = {number: piece for piece, number in self.ids.items()}
        return [names[one] for one in ids]


def compare_texts(folder: Folder, table: Table) -> None:
    """Pieces, ids, tags and words of both questions of every item, with the counter of names as it ran on."""
    for number, row in enumerate(plain(one) for one in folder.entries("helpers/vcr_text.json").rows()):
        item, length = item_of(row), row["max_text_len"]
        for kind in ("q2a", "qa2r"):
            names, _ = names_of(item.objects, row[f"{kind}_person_name_id_before"])
            toy, label = Toy(), row["answer_label"]
            if kind == "q2a":
                found = answer_texts(item, names, toy, 2, length)
                parts = [[item.question, one] for one in item.answers]
            else:
                found = rationale_texts(item, label, names, toy, 2, length)
                parts = [[item.question, item.answers[label], one] for one in item.rationales]
            raw = [[text for words in one for text, _ in spoken(words, names)] for one in parts]
            wanted, name = row[kind], f"vcr_text {number} {kind}"
            table.equal(PEER, f"{name} tokens", [toy.pieces(one.ids) for one in found] == wanted["text_tokens"], True)
            table.equal(PEER, f"{name} ids", [one.ids for one in found] == wanted["text_ids"], True)
            table.equal(PEER, f"{name} tags", [one.objects for one in found] == wanted["obj_tags"], True)
            table.equal(PEER, f"{name} raw", raw == wanted["text_raw"], True)


def item_of(row: dict[str, Any]) -> VcrItem:
    def words(given: list[Any]) -> Words:
        return tuple(tuple(one) if isinstance(one, list) else one for one in given)

    objects = tuple(row["objects"])
    boxes = ((0.0, 0.0, 1.0, 1.0),) * len(objects)
    return VcrItem("item", "p", "p.jpg", objects, boxes, (1, 1), words(row["question"]),
                   tuple(map(words, row["answer_choices"])), tuple(map(words, row["rationale_choices"])))  # fmt: skip


def compare_choices(case: Case) -> None:
    """Each candidate by itself, every depth; then all of them as one batch that shares the picture's rows."""
    stored = plain(case.folder.entries("vcr_q2a/objects.json"))
    inputs = case.arrays("inputs.npz")
    features = compare_tower(case, inputs.tensor("pixel_values"), case.arrays("outputs_choice0.npz"))
    rows, items = features.shape[1], range(len(features))
    shares = []
    for item in items:
        width, height = stored["image_sizes_wh"][item]
        touched = stretched([box[:4] for box in stored["boxes"][item]], (height, width), rows, rows)
        wanted = [one["patch_ids"] for one in map(plain, stored_rows(stored["patch_boxes"][item]))]
        ids = [(np.flatnonzero(one) - 1).tolist() for one in touched.numpy()]
        case.table.equal(PEER, f"vcr_q2a {item} patches", ids == wanted, True)
        shares.append(touched.float() / touched.sum(dim=1, keepdim=True))
    texts = [[pieces(inputs, choice, item, stored["obj_tags"][choice][item]) for choice in CHOICES] for item in items]
    orders = [[named(one.objects) for one in own] for own in texts]
    compare_objects(case, stored, orders)
    batch = {**padded(texts, orders, shares, rows), "features": features,
             "image_mask": torch.ones(features.shape[:2], dtype=torch.bool)}  # fmt: skip
    for choice in CHOICES:
        compare_depths(case, choice, batch)
    labels = inputs.tensor("labels")
    compare_logits(case, Q2A, batch, labels, case.arrays("logits.npz"))
    compare_rationales(case, batch, labels)


def stored_rows(entries: Any) -> list[Any]:
    return list(entries.values()) if isinstance(entries, dict) else list(entries)


def pieces(inputs: Arrays, choice: int, item: int, tags: list[int]) -> Pieces:
    """A text of the batch; behind the tags there are the pieces that have none."""
    real = int(inputs["attention_mask"][choice, item].sum())
    ids = inputs["input_ids"][choice, item, :real].tolist()
    return Pieces(ids, [*tags, *[-1] * (real - len(tags))][:real])


def compare_objects(case: Case, stored: dict[str, Any], orders: list[list[list[int]]]) -> None:
    """Which objects each candidate names, their patches and token types."""
    for choice in CHOICES:
        for item, own in enumerate(orders):
            name, order = f"vcr_q2a {item} choice {choice}", own[choice]
            tags = stored["obj_tags"][choice][item]
            patches = stored_rows(stored["patch_boxes"][item])
            case.table.equal(PEER, f"{name} objects", order, stored["related_box_ids"][choice][item])
            case.table.equal(
                PEER, f"{name} patches", [patches[one]["patch_ids"] for one in order] ==
                stored["patch_ids"][choice][item], True)  # fmt: skip
            case.table.equal(PEER, f"{name} image types", np.arange(2, 2 + len(order)),
                             stored["image_added_token_type_ids"][choice][item])  # fmt: skip
            case.table.equal(PEER, f"{name} text types", token_types(tags, order),
                             stored["text_token_type_ids"][choice][item])  # fmt: skip


def compare_depths(case: Case, choice: int, batch: dict[str, torch.Tensor]) -> None:
    """One candidate of every item through :meth:`featx.vle.network.VleModel.forward`, cut to its own most objects."""
    wanted, trunk = case.arrays(f"outputs_choice{choice}.npz"), case.network.vle
    rows, many = batch["features"].shape[1], wanted["image_mask"].shape[1]
    types, means = batch["image_types"][:, choice, :many], batch["means"][:, choice, : many - rows]
    mask = torch.cat([batch["image_mask"], batch["object_mask"][:, choice, : many - rows]], dim=1)
    length = wanted["text_token_type_ids"].shape[1]
    ids, real, text_types = (
        nn.functional.pad(tensor[:, choice], (0, length - tensor.shape[2]))
        for tensor in (batch["input_ids"], batch["attention_mask"], batch["text_types"])
    )
    case.table.equal(PEER, f"vcr_q2a {choice} image_mask", mask.long(), wanted["image_mask"])
    case.table.equal(PEER, f"vcr_q2a {choice} image types", types, wanted["image_token_type_ids"])
    case.table.equal(PEER, f"vcr_q2a {choice} text types", text_types, wanted["text_token_type_ids"])
    modules: dict[str, nn.Module] = {
        "vision_post_layernorm": trunk.post_layernorm, "image_projected": trunk.image_projection_layer,
        "text_embeddings": trunk.text_model.embeddings, "text_projected": trunk.text_projection_layer,
        "text_pooled": trunk.cross_modal_text_pooler, "image_pooled": trunk.cross_modal_image_pooler,
    }  # fmt: skip
    modules |= {f"text_layer_{i}": layer for i, layer in enumerate(trunk.text_model.encoder.layer)}
    modules |= {f"fusion_text_{i}": layer for i, layer in enumerate(trunk.cross_modal_text_layers)}
    modules |= {f"fusion_image_{i}": layer for i, layer in enumerate(trunk.cross_modal_image_layers)}
    with Blank(trunk.text_model), Watch(modules) as seen:
        case.network(ids, real, batch["features"], mask, text_types, types, means)
    for name, got in seen.items():
        if name in wanted:
            case.close(name, got, wanted, f"choice {choice}")
    image, embed = seen["image_projected"], trunk.token_type_embeddings
    case.close("fusion_text_in", seen["text_projected"] + embed(text_types), wanted, f"choice {choice}")
    both = torch.cat([image, means @ image], dim=1) + embed(types)
    case.close("fusion_image_in", both, wanted, f"choice {choice}")


def compare_logits(case: Case, head: str, batch: Any, labels: torch.Tensor, wanted: Arrays) -> None:
    """Of one batch of all candidates, and of one candidate at a time."""
    whole = choice_logits(case.network, head, batch)
    case.close("logits", whole, wanted, head)
    case.close("loss", cross_entropy(whole, labels), wanted, head)
    ours = ("features", "image_mask")

    def one(choice: int) -> dict[str, torch.Tensor]:
        return {name: tensor if name in ours else tensor[:, choice : choice + 1] for name, tensor in batch.items()}

    parts = torch.cat([choice_logits(case.network, head, one(choice)) for choice in CHOICES], dim=1)
    case.close("logits", parts, wanted, f"{head}, one candidate at a time")


def compare_rationales(case: Case, batch: Any, labels: torch.Tensor) -> None:
    """The other head on the same network."""
    give_heads(case.network, {**case.loaded.config}, [QA2R])
    stored = case.folder.arrays("vcr_qa2r/head.safetensors")
    state = {name.removeprefix(f"{QA2R}."): stored.tensor(name) for name in stored}
    case.network.get_submodule(QA2R).load_state_dict(state)
    case.part = "vcr_qa2r"
    compare_logits(case, QA2R, batch, labels, case.folder.arrays("vcr_qa2r/logits.npz"))
