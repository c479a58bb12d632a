"""VLE as a consumer of records: a published checkpoint, or a folder that was exported after training.

What a checkpoint can do depends on the heads it has: answers, matches, patches, in any combination. A folder has
``config.json`` in the published layout, ``model.safetensors`` under the published names without the vision tower, the
files of the vocabulary, ``answers.json`` where there are answers, and ``featx.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place
from featx.checkpoint.save import SaveDtype, write_json, write_tensors
from featx.consumer import Answers, Card, Chooses, Consumer, Grounds, Matches, Score
from featx.data import AnswerSpace
from featx.data.vcr import VcrItem
from featx.errors import UsageError, WeightsError
from featx.grids import blind, grid, words
from featx.text.library import tokenizers, transformers
from featx.text.wordpiece import Tokens
from featx.towered import of_checkpoint, wants_of_grid
from featx.vle.heads import ITM, PBC, Q2A, QA2R, VQA
from featx.vle.inputs import arguments
from featx.vle.network import States, Vle
from featx.vle.vcr import Reading, choice_logits
from featx.vle.vcr_text import Pieces
from featx.vle.weights import Loaded, load_network
from featx.vocabulary import load_tokens, save_tokens, stated_answers
from featx.wants import Wants

if TYPE_CHECKING:
    from featx.record import RecordBatch

MAX_LENGTH = 50  # tokens with [CLS] and [SEP], of the published recipe
MAX_LENGTH_VCR = 80


class VleConsumer(Consumer):
    """The network with its vocabulary; config: the ``config.json`` it was made by."""

    name: ClassVar[str] = "vle"
    network: Vle
    max_length: int | None
    upstream_geometry: bool = False

    def __init__(
        self, loaded: Loaded, tokens: Tokens, about: Mapping[str, Any], answers: AnswerSpace | None = None
    ) -> None:
        self.network, self.config, self.tokens, self.about = loaded.network, loaded.config, tokens, about
        self.max_length = tokens.max_length
        check_fits(loaded.network, tokens, answers)
        if answers is not None:
            self.answers = answers

    @classmethod
    def check_available(cls) -> None:
        """Raise MissingDependency without transformers or tokenizers."""
        transformers()
        tokenizers()

    @classmethod
    def load(
        cls,
        place: Place,
        *,
        answers: str | Path | None = None,
        tokenizer: str | Path | None = None,
        upstream_geometry: bool | None = None,
    ) -> VleConsumer:
        """answers: file with the list of answers, if the checkpoint has none. tokenizer: folder or hub id of the
        vocabulary, if it is not beside the weights. upstream_geometry: of the objects of VCR, see
        :class:`featx.vle.vcr.Reading`. What comes back can do what the checkpoint has heads for.
        """
        about = read_config(place.beside("featx.json"))
        loaded = load_network(place)
        heads = loaded.network.heads
        tokens = load_tokens(place, tokenizer, int(about.get("max_length") or usual_length(heads)))
        known = own_answers(place, loaded, answers)
        model = kind_of(heads)(loaded, tokens, about or of_checkpoint(place, loaded.tower), known)
        model.upstream_geometry = bool(
            about.get("upstream_geometry") if upstream_geometry is None else upstream_geometry
        )
        return model

    @property
    def wants(self) -> Wants:
        return wants_of_grid(self.about, self.network.vle.dim)

    def is_cut(self, text: str) -> bool:
        return self.tokens.encode([text]).truncated > 0

    def states(self, records: RecordBatch | None, texts: Sequence[str]) -> States:
        """Both streams behind the last layer; ``records`` None: about no picture."""
        seen = blind(len(texts), self.network.vle.dim) if records is None else grid(records)
        device = next(self.network.parameters()).device
        batch = {name: tensor.to(device) for name, tensor in {**words(self.tokens, texts), **seen}.items()}
        states: States = self.network(**arguments(batch))
        return states


class VleAnswers(VleConsumer, Answers):
    """With the head ``vqa_classifier``. The original shows a softmax, although the loss is that of a sigmoid."""

    score: Score = "softmax"

    def logits(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        return self.network.answer_logits(self.states(records, questions))


class VleMatches(VleConsumer, Matches):
    """With the head ``itm_score``."""

    def match(self, records: RecordBatch, texts: Sequence[str]) -> torch.Tensor:
        return self.network.match_logits(self.states(records, texts))


class VleGrounds(VleConsumer, Grounds):
    """With the head ``pbc_classifier``. Row 0, the class token, has logits too, and is no patch."""

    def ground(self, records: RecordBatch, texts: Sequence[str]) -> torch.Tensor:
        return self.network.patch_logits(self.states(records, texts))


class VleChoices(VleConsumer, Chooses):
    """With the heads ``vcr_q2a_logit`` and ``vcr_qa2r_logit``, or one of them, as they were published."""

    @property
    def chooses(self) -> frozenset[str]:
        return frozenset(what for head, what in ((Q2A, "answer"), (QA2R, "rationale")) if head in self.network.heads)

    def choose(self, records: RecordBatch, items: Sequence[VcrItem]) -> torch.Tensor:
        reading = self.reading(Q2A)
        return self._chosen(Q2A, records, items, [reading.answers(one) for one in items])

    def reason(self, records: RecordBatch, items: Sequence[VcrItem], answers: Sequence[int]) -> torch.Tensor:
        reading = self.reading(QA2R)
        texts = [reading.rationales(one, answer) for one, answer in zip(items, answers, strict=True)]
        return self._chosen(QA2R, records, items, texts)

    def reading(self, head: str) -> Reading:
        """How items become tensors. Raises UsageError when the model has not this head."""
        if head not in self.network.heads:
            what = "answers" if head == Q2A else "rationales"
            raise UsageError(f"the model does not choose among {what}: it has no {head}", f"give one with {head}")
        return Reading.of(self.tokens, self.network, upstream_geometry=self.upstream_geometry)

    def _chosen(
        self, head: str, records: RecordBatch, items: Sequence[VcrItem], texts: Sequence[Sequence[Pieces]]
    ) -> torch.Tensor:
        seen = grid(records)
        batch = {**self.reading(head).batch(items, texts, records, seen["features"].shape[1]), **seen}
        device = next(self.network.parameters()).device
        return choice_logits(self.network, head, {name: tensor.to(device) for name, tensor in batch.items()})


class VleAll(VleAnswers, VleMatches, VleGrounds, VleChoices):
    """What VLE can do where a checkpoint has all heads; this is the kind that is registered."""

    card: ClassVar[Card] = Card(
        title="VLE: answers, matches, patches and the choices of VCR, by text and grid fused (Feng et al. 2023)",
        reads="a grid of CLIP (11 blocks of ViT-B/16, 23 of ViT-L/14): last_hidden_state with CLS, of the model's own "
        "tower",
        checkpoints=(
            "hfl/vle-base, hfl/vle-large: matches, patches, masked words",
            "hfl/vle-base-for-vqa, hfl/vle-large-for-vqa",
            "hfl/vle-base-for-vcr-q2a, -qa2r, hfl/vle-large-for-vcr-q2a, -qa2r",
            "pytorch_model.bin or model.safetensors, with or without the prefix vle.",
        ),
        verified="iflytek/VLE: every depth, logits and losses of answers, matches, patches, masked words, and of VCR",
        tasks=("vle-vqa", "vle-itm", "vle-pbc", "vle-vcr"),
        recipes=(
            "vle_base_vqa.yaml",
            "vle_large_vqa.yaml",
            "vle_itm.yaml",
            "vle_vcr.yaml",
            "vle_vqa_scenes.yaml",
            "vle_itm_scenes.yaml",
            "vle_pbc_scenes.yaml",
        ),
    )


_ABLE: dict[str, type[VleConsumer]] = {
    VQA: VleAnswers, ITM: VleMatches, PBC: VleGrounds, Q2A: VleChoices, QA2R: VleChoices,
}  # fmt: skip


def kind_of(heads: Sequence[str]) -> type[VleConsumer]:
    """The class of models with these heads, which can do what these are for and nothing else."""
    able = tuple(dict.fromkeys(kind for head, kind in _ABLE.items() if head in heads))
    if len(able) < 2:
        return able[0] if able else VleConsumer
    return (
        VleAll
        if len(able) == len(set(_ABLE.values()))
        else type("Vle", able, {"__doc__": "VLE with some of its heads."})
    )


def usual_length(heads: Sequence[str]) -> int:
    """How many tokens published weights with these heads read."""
    return MAX_LENGTH_VCR if {Q2A, QA2R} & set(heads) and VQA not in heads else MAX_LENGTH


def own_answers(place: Place, loaded: Loaded, given: str | Path | None = None) -> AnswerSpace | None:
    """The answers of a checkpoint, None without a head for them; see :func:`featx.vocabulary.stated_answers`.

    Raises WeightsError for a head whose answers nobody says, UsageError for answers without a head.
    """
    if VQA not in loaded.network.heads:
        if given is not None:
            raise UsageError(
                f"{place.folder} has no head that answers, and answers are given",
                f"leave them out: it has {', '.join(loaded.network.heads) or 'no heads'}",
            )
        return None
    found = stated_answers(place, given)
    if found is None:
        raise WeightsError(
            f"{place.folder} does not say which answers it chooses from",
            "give them: answers=FILE, or id2label in its config.json",
        )
    return found


def check_fits(network: Vle, tokens: Tokens, answers: AnswerSpace | None) -> None:
    """Raise WeightsError when the network has not a row for every token, or not one for every answer."""
    rows = int(network.vle.text_config.vocab_size)
    if len(tokens) > rows:
        raise WeightsError(
            f"the network knows {rows} tokens, the vocabulary has {len(tokens)}",
            "give the vocabulary that belongs to the weights",
        )
    if answers is not None and network.classes != len(answers):
        raise WeightsError(
            f"the network chooses from {network.classes} answers, the list has {len(answers)}",
            "give the list of answers that belongs to the weights",
        )


def save(
    folder: Path, network: Vle, config: Mapping[str, Any], tokens: Tokens, about: Mapping[str, Any],
    answers: AnswerSpace | None = None, dtype: SaveDtype = "float32",
) -> None:  # fmt: skip
    """Write all of it into ``folder``; float16 halves the file and is read back as float32."""
    stated = {k: v for k, v in config.items() if k not in ("id2label", "label2id")}
    if answers is not None:
        stated |= {"id2label": {str(i): a for i, a in enumerate(answers)},
                   "label2id": {a: i for i, a in enumerate(answers)}}  # fmt: skip
        answers.write(folder / "answers.json")
    write_json(folder / "config.json", stated)
    write_tensors(folder / "model.safetensors", network.state_dict(), dtype)
    save_tokens(tokens, folder)
    write_json(folder / "featx.json", about)
