"""Network and vocabulary of a task, from its section ``model``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place, locate_model
from featx.data import AnswerSpace
from featx.tasks import vocabulary as wanted
from featx.tasks.cut import cut_short
from featx.tasks.dimension import dimension
from featx.tasks.kept import kept
from featx.tasks.stores import sampled
from featx.tasks.vle.options import ModelOptions
from featx.tasks.whiten import whiten
from featx.text.wordpiece import Tokens
from featx.towered import SWITCHES, wants_of_grid
from featx.vle.consumer import check_fits, own_answers, usual_length
from featx.vle.network import Vle
from featx.vle.sizes import Sizes
from featx.vle.weights import Loaded, give_answers, give_heads, give_types, load_network, new_network, spread
from featx.vocabulary import load_tokens
from featx.wants import Wants

_BUCKETS = 32  # of a small fresh network


@dataclass(frozen=True)
class Start:
    """Weights to start from, with what stands beside them."""

    place: Place
    loaded: Loaded
    about: Mapping[str, Any]
    answers: AnswerSpace | None

    @classmethod
    def of(cls, options: ModelOptions) -> Start | None:
        """The weights of the section, None for fresh ones."""
        if options.weights is None:
            return None
        place = locate_model(options.weights)
        loaded = load_network(place, options.dropout)
        known = own_answers(place, loaded, options.answers)
        return cls(place, loaded, read_config(place.beside("featx.json")), known)


@dataclass(frozen=True)
class Built:
    """What a task trains: network, its ``config.json``, vocabulary, what it wants, what a person should know."""

    network: Vle
    config: Mapping[str, Any]
    tokens: Tokens
    wants: Wants
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def build(
    options: ModelOptions, start: Start | None, store: Any, heads: Sequence[str], texts: Sequence[str],
    answers: AnswerSpace | None = None,
) -> Built:  # fmt: skip
    """A network with these ``heads`` and no other, fresh or from weights. texts: those of training."""
    tokens, classes, notes = vocabulary(options, start, texts, heads), len(answers or ()), []
    config: Mapping[str, Any]
    if start is None:
        network, config = new_network(fresh_sizes(options, tokens, store), heads, classes)
        if options.whiten is not None:
            whitened(network, store, options.whiten)
        about: Mapping[str, Any] = {}
        wants = Wants(dim=network.vle.dim)
    else:
        network, config, about = start.loaded.network, start.loaded.config, start.about
        if answers is not None and start.answers is not None and start.answers != answers:
            rows, note = kept(answers, start.answers, options.weights)
            give_answers(network, rows)
            notes.append(note)
        anew = give_heads(network, config, heads, classes)
        notes += [f"the head {head} begins anew: {options.weights} has none" for head in anew]
        if options.types is not None and give_types(network, options.types, spread(config)):
            config = {**config, "num_token_types": options.types}
            notes.append(f"token types begin anew from {start.loaded.config['num_token_types']} on")
        wants = wants_of_grid(about, network.vle.dim)
        if start.loaded.tower is not None:
            wants = Wants(dim=network.vle.dim, weights=start.loaded.tower, switches=SWITCHES)
    check_fits(network, tokens, answers)
    cut = cut_short(texts, lambda some: tokens.encode(some).truncated, tokens.max_length)
    return Built(network, config, tokens, wants, about, [*notes, *cut])


def vocabulary(options: ModelOptions, start: Start | None, texts: Iterable[str], heads: Sequence[str]) -> Tokens:
    """The vocabulary of ``model.tokenizer``, learned from ``texts`` where it asks for that."""
    length = int(options.max_length or (start.about.get("max_length") if start else None) or usual_length(heads))
    place = start.place if start else None
    return wanted.vocabulary(
        options.tokenizer, start is not None,
        lambda size: Tokens.train(texts, size, length), lambda given: load_tokens(place, given, length),
    )  # fmt: skip


def fresh_sizes(options: ModelOptions, tokens: Tokens, store: Any) -> Sizes:
    """The sizes of fresh weights: those given, VLE-base's where none are; the features' from the store if need be."""
    dim = dimension(options.dim, store)
    plain = Sizes(len(tokens), dim)
    hidden = options.hidden or plain.hidden
    small = hidden != plain.hidden
    return Sizes(
        len(tokens), dim, hidden, options.feedforward or 4 * hidden, options.heads or max(1, hidden // 64),
        options.layers or plain.layers, options.buckets or (_BUCKETS if small else plain.buckets),
        max(tokens.max_length, 64) if small else plain.positions, options.types or plain.types, options.dropout,
        options.init_std or plain.init_std,
    )  # fmt: skip


@torch.no_grad()
def whitened(network: Vle, store: Any, directions: int) -> None:
    """Fit a fresh network to features of the training store, as its layer norm lets them through."""
    rows = network.vle.post_layernorm(torch.cat(sampled(store, "model.whiten")))
    whiten(network.vle.image_projection_layer, rows, directions)
