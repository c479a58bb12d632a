"""Network, vocabulary and answers of the task, from its section ``model``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place, locate_model
from featx.clip_bert.consumer import MAX_LENGTH, check_fits
from featx.clip_bert.places import spread
from featx.clip_bert.sizes import Sizes
from featx.clip_bert.weights import Loaded, give_answers, load_network, new_network, with_answers
from featx.data import AnswerSpace
from featx.errors import UsageError
from featx.tasks import vocabulary as wanted
from featx.tasks.clip_bert.options import ModelOptions
from featx.tasks.dimension import dimension
from featx.tasks.kept import kept
from featx.tasks.stores import first, manifests, sampled
from featx.tasks.whiten import whiten
from featx.text.wordpiece import Tokens
from featx.towered import of_checkpoint, wants_of_grid
from featx.vocabulary import load_tokens, stated_answers
from featx.wants import Wants


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
        about = read_config(place.beside("featx.json")) or of_checkpoint(place, loaded.tower)
        return cls(place, loaded, about, stated_answers(place, options.answers))

    @property
    def own_answers(self) -> AnswerSpace | None:
        """Its answers, if it answers questions already."""
        return self.answers if self.loaded.network.answers else None


@dataclass(frozen=True)
class Built:
    """What the task trains: network with its ``config.json``, what it wants, and what a person should know."""

    loaded: Loaded
    wants: Wants
    notes: Sequence[str] = ()


def vocabulary(options: ModelOptions, start: Start | None, texts: Iterable[str]) -> Tokens:
    """The word pieces of ``model.tokenizer``, learned from ``texts`` where it asks for that."""
    length = int(options.max_length or (start.about.get("max_length") if start else None) or MAX_LENGTH)
    place = start.place if start else None
    return wanted.vocabulary(
        options.tokenizer, start is not None,
        lambda size: Tokens.train(texts, size, length), lambda given: load_tokens(place, given, length),
    )  # fmt: skip


def build(options: ModelOptions, start: Start | None, store: Any, tokens: Tokens, answers: AnswerSpace) -> Built:
    """The network: fresh, as it was, or with another list of answers."""
    notes: list[str] = []
    if start is None:
        loaded = fresh(options, store, tokens, len(answers))
        wants = Wants(dim=loaded.network.dim)
    else:
        loaded, wants = start.loaded, wants_of_grid(start.about, start.loaded.network.dim)
        if start.own_answers is not None and start.own_answers != answers:
            rows, note = kept(answers, start.own_answers, options.weights)
            give_answers(loaded.network, rows)
            notes.append(note)
        elif start.own_answers is None:
            loaded = Loaded(with_answers(loaded.network, len(answers)), loaded.config, loaded.tower)
            notes.append(f"the answers are others than those of {options.weights}: the last layer begins anew")
    check_fits(loaded.network, tokens, answers)
    return Built(loaded, wants, notes)


def build_words(options: ModelOptions, start: Start | None, store: Any, tokens: Tokens) -> Built:
    """The network with its head over masked words: fresh, or as it was. Raises UsageError for one that answers."""
    if start is not None and start.loaded.network.answers is not None:
        raise UsageError(
            f"{options.weights} answers questions and guesses no words", "give weights from before that, or none"
        )
    loaded = fresh(options, store, tokens, None) if start is None else start.loaded
    wants = Wants(dim=loaded.network.dim) if start is None else wants_of_grid(start.about, loaded.network.dim)
    check_fits(loaded.network, tokens, None)
    return Built(loaded, wants)


def fresh(options: ModelOptions, store: Any, tokens: Tokens, answers: int | None) -> Loaded:
    """Fresh weights, fitted to the features of the training store where that is asked for."""
    network, config = new_network(fresh_sizes(options, tokens, store), answers)
    if options.whiten is not None:
        rows = torch.cat(sampled(store, "model.whiten"))
        whiten(network.model.embeddings.visual_projection, rows, options.whiten)
    if options.place_std is not None:
        record = first(store, "model.place_std")
        table, boxes = network.model.embeddings.visual_position_embeddings, torch.tensor(record.boxes[: len(record)])
        spread(table, boxes, record.size, options.place_std)
    return Loaded(network, config, None)


def fresh_sizes(options: ModelOptions, tokens: Tokens, store: Any) -> Sizes:
    """The sizes of fresh weights: those given, BERT's where none are; the features' from the store if need be."""
    dim = dimension(options.dim, store)
    manifest = None if options.dim else next(iter(manifests(store).values()), None)
    rows = (manifest.schema.rows if manifest else None) or 0
    plain = Sizes(len(tokens), dim)
    hidden = options.hidden or plain.hidden
    small = max(tokens.max_length, rows + 1, 64)  # the places of the picture's tokens are called by their number
    return Sizes(
        len(tokens), dim, hidden, options.feedforward or 4 * hidden, options.heads or max(1, hidden // 64),
        options.layers or plain.layers, plain.positions if hidden == plain.hidden else small,
        options.dropout, options.init_std or plain.init_std, "count" if options.place_std is None else "each",
    )  # fmt: skip
