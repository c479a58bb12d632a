"""The model of the task, from its section ``model``."""

from __future__ import annotations

from collections.abc import Iterable

from featx.checkpoint.place import locate_model
from featx.clip_linear.consumer import ClipLinear
from featx.clip_linear.network import LinearClip, Sizes
from featx.data import AnswerSpace, Question
from featx.data.answer_types import TYPINGS
from featx.data.selection import Selector
from featx.errors import UsageError
from featx.tasks.stores import manifests
from featx.tasks.vizwiz.options import VizwizOptions
from featx.tasks.vizwiz.texts import Texts

_VECTORS = ("projected", "pooled")  # tensors that are one vector a picture


def fresh(options: VizwizOptions, texts: Texts, selector: Selector, asked: Iterable[Question]) -> ClipLinear:
    """Fresh weights for the answers of the training questions, and the dimensions of the two stores."""
    stated, names, form = options.data.answers, TYPINGS[options.data.types].names, options.model
    answers = AnswerSpace.read(stated.file) if stated.file else selector.space(asked, stated.least)
    sizes = Sizes(
        texts.dim, dimension(options), len(answers), len(names), form.hidden or Sizes.hidden,
        Sizes.dropout if form.dropout is None else form.dropout, form.gate or Sizes.gate,
    )  # fmt: skip
    return ClipLinear(LinearClip(sizes), answers, names, {})


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


def dimension(options: VizwizOptions) -> int:
    """Of a picture's embedding, as given or as the training store has it. Raises UsageError for a store of grids."""
    found = manifests(options.store)
    for where, manifest in found.items():
        tensor = (manifest.provenance.get("profile") or {}).get("tensor", _VECTORS[0])
        if tensor not in _VECTORS:
            raise UsageError(
                f"{where} holds {tensor}, and one vector a picture is wanted", "extract with tensor: projected"
            )
    dim = options.model.dim or next((manifest.schema.dim for manifest in found.values()), None)
    if dim is None:
        raise UsageError("the dimension of the features is not known", "set model.dim, or a store that exists")
    return int(dim)
