"""VCR on grids: four candidates that share the rows of a picture, behind which stand rows of their objects.

Axes: B items, C candidates of each (4 times the number of questions), N rows of the picture, M objects (the most of any
candidate of the batch), L tokens, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from featx.data.vcr import CHOICES, Box, VcrItem
from featx.errors import UsageError
from featx.vle.heads import Q2A, QA2R
from featx.vle.network import IMAGE, States, Vle
from featx.vle.patches import patches_of
from featx.vle.vcr_text import (
    FIRST_TYPE,
    PLAIN,
    Cut,
    Pieces,
    answer_texts,
    check_types,
    named,
    names_of,
    rationale_texts,
    token_types,
)

if TYPE_CHECKING:
    from featx.record import RecordBatch
    from featx.text.wordpiece import Tokens

Batch = Mapping[str, torch.Tensor]
_LEAST = 8  # tokens of a text: both ends, two separators, a few pieces
_POINT = 1e-3  # pixels: as wide as a box without any width is taken to be


@dataclass(frozen=True)
class Reading:
    """How items become tensors.

    cut, first, sep: text -> ids of its pieces, and the ids of [CLS] and [SEP]; max_length: tokens of a text with both
    ends. types: how many token types the network has. upstream_geometry: patches are those that a box would touch if
    the picture had been stretched to a square, as the original has it; otherwise those whose cells in the record it
    overlaps. in_set_order: see :func:`featx.vle.vcr_text.named`.
    """

    cut: Cut
    first: int
    sep: int
    max_length: int
    types: int
    upstream_geometry: bool = False
    in_set_order: bool = False

    def __post_init__(self) -> None:
        if self.max_length < _LEAST:
            raise UsageError(f"max_length is {self.max_length}", f"VCR needs {_LEAST} tokens or more; published are 80")

    @classmethod
    def of(cls, tokens: Tokens, network: Vle, **more: Any) -> Reading:
        """By a vocabulary and a network. more: the other fields."""
        backend = tokens.backend

        @lru_cache(maxsize=1 << 16)  # words come again and again
        def cut(text: str) -> Sequence[int]:
            return tuple(backend.encode(text, add_special_tokens=False).ids)

        first, sep = (int(backend.token_to_id(one)) for one in ("[CLS]", "[SEP]"))
        types = network.vle.token_type_embeddings.num_embeddings
        return cls(cut, first, sep, tokens.max_length, types, **more)

    def answers(self, item: VcrItem) -> list[Pieces]:
        """The four texts of question and answer."""
        return answer_texts(item, names_of(item.objects)[0], self.cut, self.sep, self.max_length)

    def rationales(self, item: VcrItem, answer: int) -> list[Pieces]:
        """The four texts of question, answer and rationale."""
        return rationale_texts(item, answer, names_of(item.objects)[0], self.cut, self.sep, self.max_length)

    def texts(self, item: VcrItem, head: str, answer: int | None = None) -> list[Pieces]:
        """The candidates of a head. answer: which one rationales are about, by default the right one."""
        if head == Q2A:
            return self.answers(item)
        given = item.answer if answer is None else answer
        if given is None:
            raise UsageError(f"{item.id} does not say which answer is right", "say which one rationales are about")
        return self.rationales(item, given)

    def batch(
        self, items: Sequence[VcrItem], texts: Sequence[Sequence[Pieces]], records: RecordBatch, rows: int
    ) -> dict[str, torch.Tensor]:
        """Of each item the same number C of texts, as tensors.

        input_ids, attention_mask, text_types ``[B, C, L]``; means ``[B, C, M, N]``, image_types ``[B, C, N + M]`` and
        object_mask ``[B, C, M]``. rows: N, of which row 0 is the class token. Raises UsageError for too many objects.
        """
        framed = [[Pieces([self.first], [PLAIN]) + one + Pieces([self.sep], [PLAIN]) for one in own] for own in texts]
        orders = [[named(one.objects, self.in_set_order) for one in own] for own in framed]
        for item, own in zip(items, orders, strict=True):
            check_types(FIRST_TYPE + max(map(len, own)), self.types, item.id)
        shares = [self.shares(item, records, place, rows) for place, item in enumerate(items)]
        return padded(framed, orders, shares, rows)

    def shares(self, item: VcrItem, records: RecordBatch, place: int, rows: int) -> torch.Tensor:
        """Of each object, the share of every row of the picture: ``[O, N]``; zeros where no patch shows it."""
        real = records.mask[place, :rows]
        if not real.any():  # a picture without rows
            return torch.zeros(len(item.boxes), rows)
        if self.upstream_geometry:
            touched = stretched(item.boxes, item.size, int(real.sum()), rows)
        else:
            height, width = (float(value) for value in records.sizes[place])
            scale = (width / item.size[1], height / item.size[0])
            boxes = [(b[0] * scale[0], b[1] * scale[1], b[2] * scale[0], b[3] * scale[1]) for b in item.boxes]
            touched = overlapped(records.boxes[place, :rows], boxes)
            touched[:, ~real] = False
        touched[:, 0] = False  # the class token
        return touched.float() / touched.sum(dim=1, keepdim=True).clamp(min=1)


def overlapped(cells: torch.Tensor, boxes: Sequence[Box]) -> torch.Tensor:
    """Which cells ``[N, 4]`` each box overlaps: bool ``[O, N]``. A box without extent lies in the cell it begins in."""
    if not boxes:
        return torch.zeros(0, len(cells), dtype=torch.bool)
    wanted = torch.tensor(boxes, dtype=torch.float32)
    low = wanted[:, None, :2]
    high = torch.maximum(wanted[:, 2:], wanted[:, :2] + _POINT)[:, None]
    return ((low < cells[None, :, 2:]) & (high > cells[None, :, :2])).all(dim=2)


def stretched(boxes: Sequence[Box], size: tuple[int, int], real: int, rows: int) -> torch.Tensor:
    """The rows of the patches that boxes touch on a stretched picture: bool ``[O, N]``. Raises UsageError."""
    side = math.isqrt(real - 1)
    if side * side != real - 1:
        raise UsageError(
            f"a picture has {real - 1} patches, which are no square",
            "upstream_geometry is of square grids: turn it off",
        )
    touched = torch.zeros(len(boxes), rows, dtype=torch.bool)
    for place, box in enumerate(boxes):
        touched[place, [1 + one for one in patches_of(box, size[1], size[0], side, 1)]] = True
    return touched


def padded(
    texts: Sequence[Sequence[Pieces]], orders: Sequence[Sequence[Sequence[int]]], shares: Sequence[torch.Tensor],
    rows: int,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """The tensors of :meth:`Reading.batch`. orders: the objects of each text; shares: ``[O, N]`` of each item."""
    items, each = len(texts), len(texts[0]) if texts else 0
    length = max((len(one) for own in texts for one in own), default=0)
    most = max((len(one) for own in orders for one in own), default=0)
    found = {name: torch.zeros(items, each, length, dtype=torch.int64)
             for name in ("input_ids", "attention_mask", "text_types")}  # fmt: skip
    found["means"] = torch.zeros(items, each, most, rows)
    found["image_types"] = torch.zeros(items, each, rows + most, dtype=torch.int64)
    found["image_types"][:, :, :rows] = IMAGE
    for item, (own, objects) in enumerate(zip(texts, orders, strict=True)):
        for place, (text, order) in enumerate(zip(own, objects, strict=True)):
            size, at = len(text), (item, place)
            found["input_ids"][at][:size] = torch.tensor(text.ids)
            found["attention_mask"][at][:size] = 1
            found["text_types"][at][:size] = torch.tensor(token_types(text.objects, order))
            found["means"][at][: len(order)] = shares[item][list(order)]
            found["image_types"][at][rows : rows + len(order)] = FIRST_TYPE + torch.arange(len(order))
    found["object_mask"] = found["means"].sum(dim=3) > 0.5  # a row of padding, or of what no patch shows, is not read
    return found


def states(network: Vle, batch: Batch, prefix: str = "") -> States:
    """Both streams of all candidates ``[B * C, ...]`` behind the last layer, of :meth:`Reading.batch` and a grid.

    What is made of the picture is made once for all candidates. prefix: of the names of the batch that are of texts.
    """
    found = {name: batch[prefix + name] for name in ("input_ids", "attention_mask", "text_types", "means",
             "image_types", "object_mask")}  # fmt: skip
    each = found["input_ids"].shape[1]
    flat = {name: tensor.flatten(0, 1) for name, tensor in found.items()}
    trunk = network.vle
    image = trunk.see(batch["features"]).repeat_interleave(each, dim=0)
    image = torch.cat([image, flat["means"].to(image.dtype) @ image], dim=1)
    mask = torch.cat([batch["image_mask"].bool().repeat_interleave(each, dim=0), flat["object_mask"]], dim=1)
    text = trunk.read(flat["input_ids"], flat["attention_mask"])
    return trunk.fuse(text, image, flat["attention_mask"], mask, flat["text_types"], flat["image_types"])


def choice_logits(network: Vle, head: str, batch: Batch, prefix: str = "") -> torch.Tensor:
    """Logits ``[B, C]`` of the candidates, of one of the heads of VCR; see :func:`states`."""
    logits: torch.Tensor = network.get_submodule(head)(states(network, batch, prefix).pooled)
    return logits.reshape(batch[f"{prefix}input_ids"].shape[:2])


def needed_types(item: VcrItem, heads: Sequence[str] = (Q2A, QA2R)) -> int:
    """The token types with which any text of an item could be read, if it were not cut."""
    of = {name: [_objects(one) for one in words] for name, words in
          (("question", [item.question]), ("answers", item.answers), ("rationales", item.rationales))}  # fmt: skip
    most = max(len(of["question"][0] | one) for one in of["answers"])
    if QA2R in heads:
        given = range(CHOICES) if item.answer is None else [item.answer]
        most = max(most, *(len(of["question"][0] | of["answers"][i] | one) for i in given for one in of["rationales"]))
    return FIRST_TYPE + most


def _objects(words: Sequence[Any]) -> frozenset[int]:
    return frozenset(one for word in words if not isinstance(word, str) for one in word)
