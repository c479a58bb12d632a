"""Network and vocabulary of a task, from its section ``model``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place, locate_model
from featx.data import AnswerSpace
from featx.errors import UsageError, WeightsError
from featx.lxmert.folder import check_fits, load_tokens
from featx.lxmert.heads import REGIONS
from featx.lxmert.network import Sizes, load_network, new_answering, new_pretraining, with_answers
from featx.lxmert.place import named
from featx.store import Manifest
from featx.tasks import cut
from featx.tasks import vocabulary as wanted
from featx.tasks.dimension import dimension
from featx.tasks.options import AnsweringOptions, ModelOptions, PretrainOptions
from featx.tasks.stores import manifests, sampled
from featx.tasks.whiten import whiten
from featx.text.wordpiece import MAX_LENGTH, Tokens
from featx.vocabulary import stated_answers

# objective about names -> (whether there is a head, how many there are), fields of LxmertConfig
_NAMES = {
    "objects": ("visual_obj_loss", "num_object_labels"),
    "attributes": ("visual_attr_loss", "num_attr_labels"),
}


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
        place = locate_model(named(options.weights))
        return cls(place, stated_answers(place, options.answers), read_config(place.beside("featx.json")))

    @property
    def own_answers(self) -> AnswerSpace | None:
        """Its answers, if it is a model of featx that answers questions, and not one that is still to learn that."""
        return self.answers if self.about.get("loss") else None

    @property
    def max_length(self) -> int:
        """The longest question it was trained with."""
        return int(self.about.get("max_length", MAX_LENGTH))

    def network(self, options: ModelOptions) -> Any:
        """All its tensors, in the network they are of."""
        return load_network(self.place, heads=options.heads, dropout=options.dropout)


def vocabulary(options: ModelOptions, start: Start | None, texts: Iterable[str]) -> Tokens:
    """The word pieces of ``model.tokenizer``, learned from ``texts`` where it asks for that."""
    length, place = options.max_length or (start.max_length if start else MAX_LENGTH), start.place if start else None
    return wanted.vocabulary(
        options.tokenizer, start is not None,
        lambda size: Tokens.train(texts, size, length), lambda given: load_tokens(place, given, length),
    )  # fmt: skip


def answering(
    options: AnsweringOptions, start: Start | None, tokens: Tokens, answers: AnswerSpace
) -> tuple[Any, list[str]]:
    """The network of a task that answers questions: fresh, as it was, or with another list of answers.

    Also returns what a person should know of that.
    """
    notes: list[str] = []
    if start is None:
        network = new_answering(fresh_sizes(options.model, tokens, options.store), len(answers))
        whitened(network, options.model, options.store)
    else:
        network = start.network(options.model)
        if not hasattr(network, "answer_head") or hasattr(network, "cls") or start.answers != answers:
            headless = not hasattr(network, "answer_head")
            network, known = with_answers(network, start.answers, answers)
            notes.append(_transferred(options.model, headless, start.answers, known, answers))
    check_fits(network, tokens, answers, options.model.weights or "the network")
    return network, notes


def _transferred(options: ModelOptions, headless: bool, old: AnswerSpace | None, known: int, new: AnswerSpace) -> str:
    """What became of the answer head of the weights."""
    if headless:
        return f"{options.weights} has no answer head: it begins anew"
    if old is None:
        return f"{options.weights} does not say which answers it knows (model.answers): the last layer begins anew"
    others = ": the others begin at zero" if known < len(new) else ""
    return f"of {len(new)} answers, {options.weights} knows {known}{others}"


def cut_short(tokens: Tokens, questions: Sequence[str]) -> list[str]:
    """A note when questions are longer than the model reads."""
    return cut.cut_short(questions, lambda some: tokens.encode(some).truncated, tokens.max_length, pieces="word pieces")


def fresh_sizes(options: ModelOptions, tokens: Tokens, store: Any) -> Sizes:
    """The sizes of fresh weights: those given, LXMERT's where none are; the features' from the store if need be."""
    dim = dimension(options.dim, store)
    plain = Sizes(len(tokens), dim)
    hidden = options.hidden or plain.hidden
    return Sizes(
        len(tokens), dim, hidden, options.feedforward or 4 * hidden, options.heads or max(1, hidden // 64),
        options.layers or plain.layers,
        plain.positions if hidden == plain.hidden else max(tokens.max_length, 32),
        options.dropout, options.init_std or plain.init_std, options.box_std,
    )  # fmt: skip


def whitened(network: Any, options: ModelOptions, store: Any) -> None:
    """Fit a fresh network to features of the training store, where ``model.whiten`` asks for it."""
    if options.whiten is not None:
        layer = network.lxmert.encoder.visn_fc.visn_fc
        whiten(layer, torch.cat(sampled(store, "model.whiten")), options.whiten)


def pretraining(options: PretrainOptions, start: Start | None, tokens: Tokens, answers: AnswerSpace | None) -> Any:
    """The network of pre-training, fresh, or a snapshot with a head for everything that is asked."""
    if "answers" in options.objectives and answers is None:
        raise UsageError(
            "objectives has answers, and there is no list of them", "set data.answers, or leave answers out"
        )
    stated = manifests(options.store)
    if start is not None:
        network = start.network(options.model)
        if not hasattr(network, "cls"):
            raise WeightsError(f"{options.model.weights} has no heads of pre-training", "give a pre-training snapshot")
    else:
        sizes = fresh_sizes(options.model, tokens, options.store)
        network = new_pretraining(sizes, **_heads(options, next(iter(stated.values()), None), answers))
        whitened(network, options.model, options.store)
    check_fits(network, tokens, answers if hasattr(network, "answer_head") else None, "the network")
    _check_heads(network, options, stated)
    return network


def _heads(options: PretrainOptions, manifest: Manifest | None, answers: AnswerSpace | None) -> dict[str, Any]:
    """The fields of LxmertConfig about the heads of pre-training."""
    wanted, labels = options.objectives, manifest.labels if manifest else {}
    heads: dict[str, Any] = {"task_qa": "answers" in wanted}
    if heads["task_qa"] and answers is not None:
        heads["num_qa_labels"] = len(answers)
    for name, (flag, field) in _NAMES.items():
        heads[flag] = name in wanted
        count = getattr(options, name) or len(labels.get(name) or ())
        if heads[flag] and not count:
            raise UsageError(f"the store does not name its {name}", f"set {name} to their number, or leave them out")
        if heads[flag]:
            heads[field] = count
    heads["visual_feat_loss"] = "features" in wanted
    heads["task_obj_predict"] = heads["visual_obj_loss"] or heads["visual_attr_loss"] or heads["visual_feat_loss"]
    return heads


def _check_heads(network: Any, options: PretrainOptions, stated: Mapping[str, Manifest]) -> None:
    """Raise UsageError for an objective without a head, and for stores with other numbers of names than the heads."""
    regions = network.obj_predict_head.decoder_dict if hasattr(network, "obj_predict_head") else {}
    has = {"words", "matched", *(name for name, (head, _, _) in REGIONS.items() if head in regions)}
    has |= {"answers"} if hasattr(network, "answer_head") else set()
    if missing := [name for name in options.objectives if name not in has]:
        raise UsageError(
            f"objectives has {', '.join(missing)}, for which {options.model.weights} has no head",
            f"leave it out, or begin with other weights; there are heads for {', '.join(sorted(has))}",
        )
    for name, (_, field) in _NAMES.items():
        for path, manifest in stated.items():
            known, count = len(manifest.labels.get(name) or ()), getattr(network.config, field)
            if name in options.objectives and known and known != count:
                raise UsageError(
                    f"the store {path} names {known} {name}, the network chooses from {count}",
                    f"extract with the extractor the weights belong to, or leave {name} out of objectives",
                )
