"""Network and vocabulary of a task, from its section ``model``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featx.data import AnswerSpace
from featx.errors import UsageError, WeightsError
from featx.lxmert.folder import check_fits, load_tokens
from featx.lxmert.network import Sizes, load_network, new_answering, new_pretraining, stated_answers, with_answers
from featx.lxmert.place import Place, locate
from featx.lxmert.sizes import read_config
from featx.lxmert.tokens import Tokens
from featx.lxmert.whiten import whiten
from featx.store import Manifest, open_store
from featx.tasks.options import AnsweringOptions, ModelOptions, PretrainOptions

WHITEN_PICTURES = 1000  # of the training store, evenly spaced


@dataclass(frozen=True)
class Start:
    """Weights to start from, with what stands beside them."""

    place: Place
    answers: AnswerSpace | None
    about: Mapping[str, Any]

    @classmethod
    def of(cls, options: ModelOptions) -> Start | None:
        """The weights of the section, None for fresh ones."""
        if options.weights is None:
            return None
        place = locate(options.weights)
        return cls(place, stated_answers(place, options.answers), read_config(place.beside("featx.json")))

    @property
    def own_answers(self) -> AnswerSpace | None:
        """Its answers, if it is a model of featx that answers questions, and not one that is still to learn that."""
        return self.answers if self.about.get("loss") else None

    def network(self, options: ModelOptions) -> Any:
        """All its tensors, in the network they are of."""
        return load_network(self.place, heads=options.heads, dropout=options.dropout)


def vocabulary(options: ModelOptions, start: Start | None, texts: Iterable[str]) -> Tokens:
    """The word pieces of ``model.tokenizer``, learned from ``texts`` where it asks for that."""
    given = options.tokenizer
    if isinstance(given, Mapping):
        if set(given) != {"size"} or type(given["size"]) is not int or given["size"] < 10:
            raise UsageError(f"model.tokenizer is {dict(given)}", "give a folder, a hub id, or {size: N}")
        if start is not None:
            raise UsageError("model.weights with a vocabulary of their own", "leave model.tokenizer {size: N} out")
        return Tokens.train(texts, given["size"], options.max_length)
    if given is None and start is None:
        raise UsageError("no vocabulary is given", "set model.tokenizer to a folder, a hub id, or {size: N}")
    return load_tokens(start.place if start else None, given, options.max_length)


def answering(options: AnsweringOptions, start: Start | None, tokens: Tokens, answers: AnswerSpace) -> Any:
    """The network of a task that answers questions: fresh, as it was, or with another list of answers."""
    if start is None:
        network = new_answering(fresh_sizes(options.model, tokens, options.store), len(answers))
        whitened(network, options.model, options.store)
    else:
        network = start.network(options.model)
        if not hasattr(network, "answer_head") or hasattr(network, "cls") or start.answers != answers:
            network, _ = with_answers(network, start.answers, answers)
    check_fits(network, tokens, answers, options.model.weights or "the network")
    return network


def fresh_sizes(options: ModelOptions, tokens: Tokens, store: Any) -> Sizes:
    """The sizes of fresh weights: those given, LXMERT's where none are; the features' from the store if need be."""
    manifest = None if options.dim else store_manifest(store)
    dim = manifest.schema.dim if manifest else options.dim
    if dim is None:
        raise UsageError("the dimension of the features is not known", "set model.dim, or a store that exists")
    hidden = options.hidden or 768
    plain = Sizes(len(tokens), dim)
    return Sizes(
        len(tokens), dim, hidden, options.feedforward or 4 * hidden, options.heads or max(1, hidden // 64),
        tuple(options.layers or plain.layers),  # type: ignore[arg-type]
        max(options.max_length, 32) if options.hidden else plain.positions,
        options.dropout, options.init_std or plain.init_std, options.box_std,
    )  # fmt: skip


def whitened(network: Any, options: ModelOptions, store: Any) -> None:
    """Fit a fresh network to features of the training store, where ``model.whiten`` asks for it."""
    if options.whiten is None:
        return
    path = _training_store(store)
    if path is None:
        raise UsageError("model.whiten looks at the features of a store", "name the store, or leave it out")
    with open_store(path) as reader:
        keys = list(reader.keys())
        records = [reader[key] for key in keys[:: max(1, len(keys) // WHITEN_PICTURES)][:WHITEN_PICTURES]]
    if not records:
        raise UsageError(f"the store {path} is empty, so model.whiten has nothing to look at", "extract pictures first")
    rows = [torch.from_numpy(record.features[: len(record)].astype("float32")) for record in records]
    whiten(network, torch.cat(rows), options.whiten)


def store_manifest(store: Any) -> Manifest | None:
    """The manifest of the training store a configuration names, None when it names none."""
    path = _training_store(store)
    return None if path is None else Manifest.load(path)


def _training_store(store: Any) -> Path | None:
    path = store.get("train", next(iter(store.values()), None)) if isinstance(store, Mapping) else store
    return None if path is None else Path(str(path))


def pretraining(options: PretrainOptions, start: Start | None, tokens: Tokens, answers: AnswerSpace | None) -> Any:
    """The network of pre-training: fresh, or a snapshot with all its heads."""
    if start is not None:
        network = start.network(options.model)
        if not hasattr(network, "cls"):
            raise WeightsError(f"{options.model.weights} has no heads of pre-training", "give a pre-training snapshot")
    else:
        sizes = fresh_sizes(options.model, tokens, options.store)
        network = new_pretraining(sizes, **_heads(options, store_manifest(options.store), answers))
        whitened(network, options.model, options.store)
    check_fits(network, tokens, answers if hasattr(network, "answer_head") else None, "the network")
    return network


def _heads(options: PretrainOptions, manifest: Manifest | None, answers: AnswerSpace | None) -> dict[str, Any]:
    """The fields of LxmertConfig about the heads of pre-training."""
    wanted, labels = options.objectives, manifest.labels if manifest else {}
    heads: dict[str, Any] = {"task_qa": "answers" in wanted and answers is not None}
    if heads["task_qa"] and answers is not None:
        heads["num_qa_labels"] = len(answers)
    for name, flag, field in (
        ("objects", "visual_obj_loss", "num_object_labels"),
        ("attributes", "visual_attr_loss", "num_attr_labels"),
    ):
        heads[flag] = name in wanted
        count = getattr(options, name) or len(labels.get(name) or ())
        if heads[flag] and not count:
            raise UsageError(f"the store does not name its {name}", f"set {name} to their number, or leave them out")
        if heads[flag]:
            heads[field] = count
    heads["visual_feat_loss"] = "features" in wanted
    heads["task_obj_predict"] = heads["visual_obj_loss"] or heads["visual_attr_loss"] or heads["visual_feat_loss"]
    return heads
