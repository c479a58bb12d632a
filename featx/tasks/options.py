"""The sections of a configuration that LXMERT's tasks read, as dataclasses that refuse what they do not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from featx.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class ModelOptions:
    """Section ``model``.

    weights: folder, file (airsplay's ``.pth`` too) or hub id to start from; None: fresh weights. answers: the list of
    answers of these weights, if it is not beside them. tokenizer: folder or hub id, or ``{size: N}`` to learn N word
    pieces from the training questions; by default beside the weights. Sizes, for fresh weights: hidden, feedforward
    (default four times hidden), heads (default one per 64), layers [language, regions, across both], dim of the
    features (default: what the store holds), init_std, box_std (how far apart places look at first; small networks
    need about 1), whiten (how many directions of the features count alike at first, see :mod:`featx.lxmert.whiten`).
    max_length: word pieces of a question with both ends; what is longer loses its end.
    """

    weights: str | None = None
    answers: str | None = None
    tokenizer: str | Mapping[str, Any] | None = None
    hidden: int | None = None
    feedforward: int | None = None
    heads: int | None = None
    layers: Sequence[int] | None = None
    dim: int | None = None
    init_std: float | None = None
    box_std: float | None = None
    whiten: int | None = None
    dropout: float = 0.1
    max_length: int = 20

    def __post_init__(self) -> None:
        set_by_weights = [
            n for n in ("hidden", "feedforward", "layers", "init_std", "box_std", "whiten", "dim") if getattr(self, n)
        ]
        if self.weights and set_by_weights:
            raise UsageError(
                f"model.weights and model.{set_by_weights[0]} are both given", "the weights decide sizes: leave it out"
            )
        if self.layers is not None and (
            isinstance(self.layers, str) or len(self.layers) != 3 or any(type(n) is not int for n in self.layers)
        ):
            raise UsageError(
                f"model.layers is {self.layers!r}", "give [language, regions, across], for example [9, 5, 5]"
            )
        for name in ("hidden", "feedforward", "heads", "dim", "whiten", "max_length"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise UsageError(f"model.{name} is {value!r}", f"give a whole number of 1 or more for model.{name}")
        for name in ("init_std", "box_std"):
            value = getattr(self, name)
            if value is not None and (type(value) not in (int, float) or not value > 0):
                raise UsageError(f"model.{name} is {value!r}", f"give a number above 0 for model.{name}")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise UsageError(f"model.dropout is {self.dropout!r}", "give a number from 0 to below 1")


@dataclass(frozen=True)
class DataOptions:
    """Section ``data``: one specification or a list of them for each split, see :mod:`featx.tasks.corpus`.

    answers: a file with the list of answers, or ``{least: N}``: those that N questions of both splits settled on.
    """

    train: Any = field(default_factory=list)
    val: Any = field(default_factory=list)
    answers: str | Mapping[str, Any] | None = None


@dataclass(frozen=True)
class AnsweringOptions:
    """A task that answers questions.

    loss: ``bce_soft``, ``mce`` (both published), or ``ce``. zero_features: one region of zeros in place of the picture,
    for a baseline that knows the question alone. shuffle_pictures: evaluation gives every question another picture's
    regions. decay: weight decay on ``all`` parameters (published) or not on biases and LayerNorm (``usual``).
    save_dtype: of the exported weights. extractor: options with which the exported model makes features of a photo,
    besides those the store states (``{weights: tiny}``, since a store names its weights by their hash).
    """

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    loss: Literal["bce_soft", "mce", "ce"] = "bce_soft"
    zero_features: bool = False
    shuffle_pictures: bool = False
    decay: Literal["all", "usual"] = "all"
    save_dtype: Literal["float32", "float16"] = "float32"
    extractor: Mapping[str, Any] = field(default_factory=dict)
    store: Any = None


@dataclass(frozen=True)
class PretrainOptions:
    """The task of pre-training.

    objectives: some of ``words``, ``matched``, ``objects``, ``attributes``, ``features``, ``answers``. swap: how often
    a sentence is replaced by one of another picture. objects, attributes: numbers of names, where the store has none.
    The others are as for :class:`AnsweringOptions`.
    """

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    objectives: Sequence[str] = ("words", "matched", "objects", "attributes", "features", "answers")
    swap: float = 0.5
    objects: int | None = None
    attributes: int | None = None
    decay: Literal["all", "usual"] = "all"
    save_dtype: Literal["float32", "float16"] = "float32"
    extractor: Mapping[str, Any] = field(default_factory=dict)
    store: Any = None


def read(kind: type[T], section: str, values: Any) -> T:
    """A section as the dataclass ``kind``; nested sections too. Raises UsageError for a key it does not have."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{section or 'the configuration'} is {values!r}", "expected a mapping of settings")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            place = f"{section}.{name}" if section else str(name)
            raise UsageError(f"{place} is not a setting of this task", f"{hint}known are {', '.join(known)}")
    sections = {"model": ModelOptions, "data": DataOptions}
    given = {k: read(sections[k], k, v) if k in sections and not section else v for k, v in values.items()}
    if not isinstance(given.get("extractor", {}), Mapping):
        raise UsageError(f"extractor is {given['extractor']!r}", "give a mapping of its options")
    return kind(**given)


def choose(section: str, value: Any, known: Sequence[str]) -> None:
    """Raise UsageError unless ``value`` is one of ``known``."""
    if value not in known:
        raise UsageError(f"{section} is {value!r}", f"choose one of {', '.join(known)}")
