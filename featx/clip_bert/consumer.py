"""CLIP-Vision-BERT as a consumer of records: a published checkpoint, or a folder that was exported after training.

A folder has ``config.json`` in the published layout, ``model.safetensors`` under the published names without the vision
tower, the files of the vocabulary, ``answers.json``, and ``featx.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place
from featx.checkpoint.save import SaveDtype, write_json, write_tensors
from featx.clip_bert.network import ClipBert
from featx.clip_bert.weights import Loaded, load_network
from featx.consumer import Answers, Card, Score
from featx.data import AnswerSpace
from featx.errors import UsageError, WeightsError
from featx.grids import blind, grid, words
from featx.text.library import tokenizers, transformers
from featx.text.wordpiece import Tokens
from featx.towered import of_checkpoint, wants_of_grid
from featx.vocabulary import load_tokens, save_tokens, stated_answers
from featx.wants import Wants

if TYPE_CHECKING:
    from featx.record import RecordBatch

MAX_LENGTH = 78  # of the published recipe: 128 with the 50 tokens of the picture


class ClipVisionBert(Answers):
    """The network with its vocabulary and answers; config: the ``config.json`` it was made by."""

    name: ClassVar[str] = "clip-vision-bert"
    card: ClassVar[Card] = Card(
        title="CLIP-Vision-BERT: questions in several languages (Chhablani et al. 2021)",
        reads="a grid of CLIP (ViT-B/32 at 224: 50 x 768): last_hidden_state with CLS, of the model's own tower",
        checkpoints=(
            "flax-community/clip-vision-bert-vqa-ft-6k: flax_model.msgpack, with a tokenizer and a list of answers",
            "flax-community/clip-vision-bert-cc12m-60k, to begin training with",
            "the same as pytorch_model.bin or model.safetensors",
        ),
        verified="the Flax model of gchhablani/multilingual-vqa: every depth, logits and losses of both heads",
        tasks=("clip-bert-mlm", "clip-bert-vqa"),
        recipes=(
            "clip_vision_bert_vqa.yaml",
            "clip_bert_scenes_mlm.yaml",
            "clip_bert_scenes_en.yaml",
            "clip_bert_scenes.yaml",
        ),
    )

    network: ClipBert
    score: Score = "softmax"
    max_length: int | None

    def __init__(self, loaded: Loaded, tokens: Tokens, answers: AnswerSpace, about: Mapping[str, Any]) -> None:
        self.network, self.config, self.tokens, self.about = loaded.network, loaded.config, tokens, about
        self.answers, self.max_length = answers, tokens.max_length
        if about.get("loss") == "bce_soft":
            self.score = "sigmoid"
        check_fits(loaded.network, tokens, answers)

    @classmethod
    def check_available(cls) -> None:
        """Raise MissingDependency without transformers or tokenizers."""
        transformers()
        tokenizers()

    @classmethod
    def load(
        cls, place: Place, *, answers: str | Path | None = None, tokenizer: str | Path | None = None
    ) -> ClipVisionBert:
        """answers, tokenizer: list of answers and vocabulary, if they are not beside the weights, as for the published
        ones, whose vocabulary is that of bert-base-multilingual-uncased.
        """
        about, loaded = read_config(place.beside("featx.json")), load_network(place)
        if loaded.network.answers is None:
            raise WeightsError(
                f"{place.folder} has no head that answers", "give a model that was trained to answer questions"
            )
        known = stated_answers(place, answers)
        if known is None:
            raise UsageError(
                f"{place.folder} does not say which answers its classes are",
                "give its list of answers, such as answers_vqa.txt, or id2label in config.json",
            )
        longest = min(MAX_LENGTH, int(loaded.network.config.max_position_embeddings))
        tokens = load_tokens(place, tokenizer, int(about.get("max_length") or longest))
        return cls(loaded, tokens, known, about or of_checkpoint(place, loaded.tower))

    @property
    def wants(self) -> Wants:
        return wants_of_grid(self.about, self.network.dim)

    def is_cut(self, text: str) -> bool:
        return self.tokens.encode([text]).truncated > 0

    def logits(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        return self.network.answer_logits(self.batch(records, questions))

    def attended(self, records: RecordBatch, questions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network.attended(self.batch(records, questions))

    def batch(self, records: RecordBatch | None, questions: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the network is given, on its device."""
        seen = blind(len(questions), self.network.dim) if records is None else grid(records)
        device = next(self.network.parameters()).device
        return {name: tensor.to(device) for name, tensor in {**words(self.tokens, questions), **seen}.items()}


def check_fits(network: ClipBert, tokens: Tokens, answers: AnswerSpace | None) -> None:
    """Raise WeightsError when words, places or answers are not as many as the network has; None: it has no answers."""
    config = network.config
    if len(tokens) > config.vocab_size or tokens.max_length > config.max_position_embeddings:
        raise WeightsError(
            f"the network knows {config.vocab_size} word pieces and texts of {config.max_position_embeddings}, the "
            f"vocabulary has {len(tokens)} and texts may have {tokens.max_length}",
            "give the vocabulary that belongs to the weights",
        )
    if answers is not None and network.answers != len(answers):
        raise WeightsError(
            f"the network chooses from {network.answers} answers, the list has {len(answers)}",
            "give the list of answers that belongs to the weights",
        )


def save(
    folder: Path, network: ClipBert, config: Mapping[str, Any], tokens: Tokens, answers: AnswerSpace | None,
    about: Mapping[str, Any], dtype: SaveDtype = "float32",
) -> None:  # fmt: skip
    """Write all of it into ``folder``; float16 halves the file and is read back as float32."""
    labels = {} if answers is None else {"id2label": {str(i): a for i, a in enumerate(answers)}}
    write_json(folder / "config.json", {**config, **labels})
    write_tensors(folder / "model.safetensors", network.state_dict(), dtype)
    save_tokens(tokens, folder)
    if answers is not None:
        answers.write(folder / "answers.json")
    write_json(folder / "featx.json", about)
