"""The model of the task, from its section ``model``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from featx.checkpoint.place import locate_model
from featx.clip_linear.consumer import ClipLinear
from featx.clip_linear.network import LinearClip, Sizes
from featx.data import AnswerSpace, Question
from featx.data.answer_types import TYPINGS
from featx.data.selection import Selector
from featx.errors import UsageError
from featx.store import open_store
from featx.tasks import dimension as features
from featx.tasks.stores import locations, manifests
from featx.tasks.vizwiz.options import VizwizOptions
from featx.tasks.vizwiz.texts import Texts
from featx.tasks.whiten import whiten

SAMPLE = 2000  # questions that are looked at before the first step
_VECTORS = ("projected", "pooled")  # tensors that are one vector a picture


def fresh(options: VizwizOptions, texts: Texts, selector: Selector, asked: Sequence[Question]) -> ClipLinear:
    """Fresh weights for the answers of the training questions, and the dimensions of the two stores."""
    stated, names, form = options.data.answers, TYPINGS[options.data.types].names, options.model
    answers = AnswerSpace.read(stated.file) if stated.file else selector.space(asked, stated.least)
    sizes = Sizes(
        texts.dim, dimension(options), len(answers), len(names), form.hidden or Sizes.hidden,
        Sizes.dropout if form.dropout is None else form.dropout, form.gate or Sizes.gate,
    )  # fmt: skip
    network = LinearClip(sizes)
    if form.whiten is not None:
        rows = network.ln1(torch.cat([embedded(texts, asked), pictures(options, asked)], dim=1)).detach()
        whiten_both(network, rows, form.whiten)
    return ClipLinear(network, answers, names, {})


def further(options: VizwizOptions, texts: Texts) -> ClipLinear:
    """A model that is trained further keeps its answers and types. Raises UsageError when others are asked for."""
    where = options.model.weights
    start = ClipLinear.load(locate_model(str(where)))
    if start.types != TYPINGS[options.data.types].names:
        raise UsageError(
            f"{where} knows answers of the types {', '.join(start.types)}", "set data.types as it was trained with"
        )
    if start.network.sizes.text != texts.dim:
        raise UsageError(
            f"texts have {texts.dim} numbers, {where} reads {start.network.sizes.text}",
            "embed the questions with the CLIP the model was trained with",
        )
    texts.check_same(start.wants.weights)
    return start


def sampled(asked: Sequence[Question]) -> Sequence[Question]:
    """At most ``SAMPLE`` of the questions, evenly spaced."""
    return asked[:: max(1, -(-len(asked) // SAMPLE))]


@torch.no_grad()
def whiten_both(network: LinearClip, rows: torch.Tensor, directions: tuple[int, int]) -> None:
    """Draw fc1 from rows of ln1 ``[n, Dt + Di]`` so that both halves count alike, and their directions within them.

    The embeddings of a data set's questions differ most in what they are about, and little in what they ask of it.
    """
    fc1, widths = network.fc1, [network.sizes.text, network.sizes.image]
    halves = [nn.Linear(width, fc1.out_features) for width in widths]
    for half, part, kept in zip(halves, rows.split(widths, dim=1), directions, strict=True):
        whiten(half, part, kept)
    fc1.weight.copy_(torch.cat([half.weight for half in halves], dim=1) / len(halves) ** 0.5)
    fc1.bias.copy_(sum(half.bias for half in halves) / len(halves) ** 0.5)


def embedded(texts: Texts, asked: Sequence[Question]) -> torch.Tensor:
    """Embeddings ``[n, Dt]`` of :func:`sampled` questions."""
    return texts.gather("train", [q.text for q in sampled(asked)])


def pictures(options: VizwizOptions, asked: Sequence[Question]) -> torch.Tensor:
    """Embeddings ``[n, Di]`` of the pictures of :func:`sampled` questions. Raises UsageError without a store."""
    where = next(iter(locations(options.store)), None)
    if where is None:
        raise UsageError("model.whiten looks at the features of a store, and none is named", "name the store")
    with open_store(where) as store:
        return store.get_batch([q.picture for q in sampled(asked)]).features[:, 0]


def dimension(options: VizwizOptions) -> int:
    """Of a picture's embedding, as given or as the training store has it. Raises UsageError for a store of grids."""
    for where, manifest in manifests(options.store).items():
        tensor = (manifest.provenance.get("profile") or {}).get("tensor", _VECTORS[0])
        if tensor not in _VECTORS:
            raise UsageError(
                f"{where} holds {tensor}, and one vector a picture is wanted", "extract with tensor: projected"
            )
    return features.dimension(options.model.dim, options.store)
