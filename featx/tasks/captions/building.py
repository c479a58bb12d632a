"""Network and vocabulary of the task, from its section ``model``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place, locate_model
from featx.clip_mbart.consumer import ClipVisionMbart, check_fits, load_vocabulary
from featx.clip_mbart.network import Loaded, Sizes, load_decoder, load_network, new_network
from featx.clip_mbart.vocabulary import MAX_LENGTH, Vocabulary
from featx.data import Caption
from featx.tasks import vocabulary as wanted
from featx.tasks.captions.options import ModelOptions
from featx.tasks.dimension import dimension
from featx.tasks.stores import sampled
from featx.tasks.whiten import whiten


@dataclass(frozen=True)
class Start:
    """Weights to start from, with what stands beside them."""

    place: Place
    about: Mapping[str, Any]

    @classmethod
    def of(cls, options: ModelOptions) -> Start | None:
        """The weights of the section, None for fresh ones."""
        if options.weights is None:
            return None
        place = locate_model(options.weights)
        return cls(place, read_config(place.beside("featx.json")))

    @property
    def whole(self) -> bool:
        """Whether it is a model of captions, and not an mBART that is to become one."""
        return ClipVisionMbart.recognises(self.place)


def vocabulary(options: ModelOptions, start: Start | None, captions: Iterable[Caption]) -> Vocabulary:
    """The vocabulary of ``model.tokenizer``, learned from the captions where it asks for that."""
    length = int(options.max_length or (start.about.get("max_length") if start else None) or MAX_LENGTH)
    place, found = start.place if start else None, list(captions)
    return wanted.vocabulary(
        options.tokenizer, start is not None,
        lambda size: Vocabulary.train((c.text for c in found), (c.language for c in found), size, length),
        lambda given: load_vocabulary(place, given, length),
    )  # fmt: skip


def network(options: ModelOptions, start: Start | None, words: Vocabulary, store: Any) -> Loaded:
    """The network: fresh, as it was, or an mBART with a fresh projection."""
    if start is not None and start.whole:
        loaded = load_network(start.place, options.dropout)
    elif start is not None:
        loaded = load_decoder(start.place, dimension(options.dim, store), options.dropout)
    else:
        loaded = Loaded(*new_network(fresh_sizes(options, words, store)), None)
    if options.whiten is not None and (start is None or not start.whole):
        rows = torch.cat(sampled(store, "model.whiten"))
        whiten(loaded.network.model.visual_projection, rows, options.whiten)
    check_fits(loaded.network, words)
    return loaded


def fresh_sizes(options: ModelOptions, words: Vocabulary, store: Any) -> Sizes:
    """The sizes of fresh weights: those given, mBART-large's where none are."""
    plain = Sizes(len(words), dimension(options.dim, store))
    hidden = options.hidden or plain.hidden
    return Sizes(
        len(words), plain.dim, hidden, options.feedforward or 4 * hidden, options.heads or max(1, hidden // 64),
        options.layers or plain.layers,
        plain.positions if hidden == plain.hidden else max(words.max_length + 1, 32),
        options.dropout, options.init_std or plain.init_std,
    )  # fmt: skip
