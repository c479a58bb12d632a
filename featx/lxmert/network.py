"""The network of transformers: made from sizes, read from weights, given another list of answers to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn

from featx.checkpoint.config import read_config
from featx.checkpoint.fill import fill
from featx.checkpoint.place import Place
from featx.data import AnswerSpace, convert_answer
from featx.errors import UsageError, WeightsError
from featx.lxmert.inputs import Batch, arguments
from featx.lxmert.sizes import VISUAL_LOSS_NORMALIZER, config_of
from featx.lxmert.weights import TIED, read_weights
from featx.text.library import transformers


@dataclass(frozen=True)
class Sizes:
    """Sizes of a new network; the defaults are LXMERT's. ``layers``: of language, of the regions, and across both.

    init_std: of the weights. box_std: of those that read boxes, see :func:`spread_boxes`; None: like the rest.
    """

    vocabulary: int
    dim: int = 2048
    hidden: int = 768
    feedforward: int = 3072
    heads: int = 12
    layers: tuple[int, int, int] = (9, 5, 5)
    positions: int = 512
    dropout: float = 0.1
    init_std: float = 0.02
    box_std: float | None = None

    def config(self, **more: Any) -> Any:
        """As an LxmertConfig; ``more`` are further fields of it. Raises UsageError for sizes that do not fit."""
        language, regions, cross = self.layers
        if self.hidden % self.heads or min(self.hidden, self.feedforward, self.heads, self.dim, cross) < 1:
            raise UsageError(
                f"a network of width {self.hidden} cannot have {self.heads} heads and layers {list(self.layers)}",
                "the heads divide the width, and at least one layer goes across",
            )
        return transformers().LxmertConfig(
            vocab_size=self.vocabulary, visual_feat_dim=self.dim, hidden_size=self.hidden,
            intermediate_size=self.feedforward, num_attention_heads=self.heads, l_layers=language, r_layers=regions,
            x_layers=cross, max_position_embeddings=self.positions, hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout, initializer_range=self.init_std, **more,
        )  # fmt: skip


def new_answering(sizes: Sizes, answers: int) -> Any:
    """A LxmertForQuestionAnswering with fresh weights, drawn from torch's global generator."""
    return spread_boxes(transformers().LxmertForQuestionAnswering(sizes.config(num_qa_labels=answers)), sizes.box_std)


def new_pretraining(sizes: Sizes, **heads: Any) -> Any:
    """A LxmertForPreTraining with fresh weights; ``heads`` are the fields of LxmertConfig that shape its heads."""
    config = sizes.config(visual_loss_normalizer=VISUAL_LOSS_NORMALIZER, **heads)
    return spread_boxes(transformers().LxmertForPreTraining(config), sizes.box_std)


def spread_boxes(model: Any, std: float | None) -> Any:
    """Draw the layer that reads boxes so that places can be told apart from the first step; returns ``model``.

    A LayerNorm follows that layer, and with no bias it undoes every change of length: (.1, .1, .2, .2) and
    (.4, .4, .8, .8) look the same until a bias is learned, which takes a small model longer than all the rest. Weights
    of deviation ``std`` around the middle of the picture, and a random bias, keep the published form and cure that.
    """
    if std is not None:
        layer = model.lxmert.encoder.visn_fc.box_fc
        with torch.no_grad():
            layer.weight.normal_(0.0, std)
            layer.bias.normal_().sub_(0.5 * layer.weight.sum(dim=1))
    return model


def load_network(place: Place, *, heads: int | None = None, dropout: float | None = None) -> Any:
    """The network of a weights file, all tensors of it and no others, in eval mode.

    It is a LxmertForPreTraining, LxmertForQuestionAnswering or LxmertModel, whichever the tensors are for. Sizes come
    from their shapes, the rest from a ``config.json`` beside them. heads: how many attention heads, where that file is
    absent and they are not 64 wide. Raises WeightsError.
    """
    if place.weights is None:
        raise WeightsError(
            f"the folder {place.folder} holds no weights",
            "expected model.safetensors, pytorch_model.bin or a .pth file",
        )
    stated = read_config(place.beside("config.json"))
    if dropout is not None:
        stated |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return network_of(read_weights(place.weights), stated, str(place.weights), heads)


def network_of(
    tensors: Mapping[str, torch.Tensor], stated: Mapping[str, Any], where: str, heads: int | None = None
) -> Any:
    """:func:`load_network` of tensors that are read already, under transformers' names; ``stated``: a config.json."""
    config, library = config_of(tensors, stated, where, heads), transformers()
    if any(name.startswith("cls.") for name in tensors):
        kind = library.LxmertForPreTraining
    elif any(name.startswith("answer_head.") for name in tensors):
        kind = library.LxmertForQuestionAnswering
    else:
        kind, tensors = library.LxmertModel, {n.removeprefix("lxmert."): t for n, t in tensors.items()}
    with torch.device("meta"):  # neither time nor random numbers for weights that are replaced at once
        model = kind(config)
    fill(model, tensors, where, TIED)
    return model.eval()


def with_answers(network: Any, old: AnswerSpace | None, new: AnswerSpace) -> tuple[Any, int]:
    """A LxmertForQuestionAnswering for the answers ``new`` on the trunk of ``network``, and how many answers it knows.

    The head's first layers are copied. Row i of its last layer is that of the same answer in ``old``, else that of the
    answer in the form of LXMERT's answer table, else zero (``load_lxmert_qa`` of airsplay/lxmert, whose old list is in
    that form). Where ``old`` is None, or the network has no head, what cannot be copied is drawn anew.
    """
    library = transformers()
    trunk = getattr(network, "lxmert", network)
    config = library.LxmertConfig.from_dict(trunk.config.to_dict() | {"num_qa_labels": len(new)})
    with torch.device("meta"):
        model = library.LxmertForQuestionAnswering(config)
    head = import_module("transformers.models.lxmert.modeling_lxmert").LxmertVisualAnswerHead(config, len(new))
    head.apply(model._init_weights)
    source, known = getattr(network, "answer_head", None), 0
    if source is not None:
        known = _copy_head(source, head, old, new)
    model.lxmert, model.answer_head = trunk, head
    return model.eval(), known


@torch.no_grad()
def _copy_head(source: nn.Module, head: nn.Module, old: AnswerSpace | None, new: AnswerSpace) -> int:
    rows = source.logit_fc[3].out_features  # type: ignore[index, union-attr]
    if old is not None and len(old) != rows:
        raise WeightsError(f"the weights choose from {rows} answers, their list has {len(old)}", "give their own list")
    names = ["logit_fc.0.weight", "logit_fc.0.bias", "logit_fc.2.weight", "logit_fc.2.bias"]
    mine, theirs = head.state_dict(keep_vars=True), source.state_dict()
    for name in names:
        mine[name].copy_(theirs[name])
    if old is None:
        return 0
    same, converted = (torch.from_numpy(new.remap(old, convert)) for convert in (str, convert_answer))
    places = torch.where(same >= 0, same, converted)
    for name in ("logit_fc.3.weight", "logit_fc.3.bias"):
        taken = theirs[name][places.clamp(min=0)]
        taken[places < 0] = 0
        mine[name].copy_(taken)
    return int((places >= 0).sum())


def answer_logits(model: Any, batch: Batch) -> torch.Tensor:
    """Logits ``[B, C]`` of the answers."""
    logits: torch.Tensor = model(**arguments(batch)).question_answering_score
    return logits


@torch.no_grad()
def attended(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[B, C]``, and what the answer looked at: weights ``[B, N]`` of the regions, which sum to 1.

    Each word of the question attends to the regions, wherever a layer crosses over; a region weighs as much as the word
    that looks at it most, on the average of layers and heads. Neither the mean over the words, in which those that say
    nothing drown the others, nor the first token alone, off which the answer is read, shows both things of a relation
    as often. Padded words are left out; padded regions weigh nothing.
    """
    found = model(**arguments(batch), output_attentions=True)
    each = torch.stack(found.cross_encoder_attentions).mean(dim=(0, 2))  # [B, L, N]
    words = batch["attention_mask"][:, :, None].to(each.dtype)
    weights = (each * words).amax(dim=1)
    return found.question_answering_score, weights / weights.sum(dim=1, keepdim=True)
