"""The model as a consumer of records, and its folder: ``config.json``, ``model.safetensors``, ``answers.json``,
``featx.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.fill import fill
from featx.checkpoint.place import Place
from featx.checkpoint.save import SaveDtype, write_json, write_tensors
from featx.checkpoint.tensors import read_tensors
from featx.clip_linear.network import LinearClip, Scores, Sizes
from featx.consumer import Answers, Card, JudgesAnswerable, TextEmbeddings
from featx.data import AnswerSpace
from featx.errors import UsageError, WeightsError
from featx.wants import Wants, wants_of

if TYPE_CHECKING:
    from featx.record import RecordBatch


class ClipLinear(Answers, JudgesAnswerable, TextEmbeddings):
    """Linear layers on the embeddings of a picture and of a question. types: names of the types of answers."""

    name: ClassVar[str] = "clip-linear"
    card: ClassVar[Card] = Card(
        title="Linear layers on CLIP, for VizWiz (Deuser et al. 2022)",
        reads="one projected embedding of the picture (features [1, D], or a row for each rotation), and one of the "
        "question, both of one CLIP: ViT-L/14@336 or RN50x64",
        checkpoints=("folders that `featx train` exported; none was published",),
        verified="the published formulas by hand; VizWiz accuracy and answerability by the challenge's evaluation",
        tasks=("clip-linear-vizwiz",),
        recipes=("vizwiz_linear_l14_336.yaml", "vizwiz_linear_rn50x64.yaml", "vizwiz_scenes.yaml"),
    )

    network: LinearClip

    def __init__(
        self, network: LinearClip, answers: AnswerSpace, types: Sequence[str], about: Mapping[str, Any]
    ) -> None:
        self.network, self.answers, self.types, self.about = network, answers, tuple(types), about
        check_fits(network, answers, types)

    @classmethod
    def load(cls, place: Place, *, answers: str | None = None) -> ClipLinear:
        """answers: the list of answers, if it is not beside the weights."""
        where, config = str(place.folder), read_config(place.beside("config.json"))
        found = answers or place.beside("answers.json")
        if place.weights is None or found is None:
            raise WeightsError(
                f"{where} has no {'answers.json' if place.weights else 'weights'}", "get a complete copy"
            )
        network = LinearClip(Sizes.of(config, where))
        fill(network, read_tensors(place.weights), str(place.weights))
        types = config.get("type_names") or [str(i) for i in range(network.sizes.types)]
        if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
            raise WeightsError(f"{where}: type_names in config.json is {types!r}", "expected a list of names")
        return cls(network, AnswerSpace.read(found), types, read_config(place.beside("featx.json")))

    @property
    def wants(self) -> Wants:
        return wants_of(self.about, self.network.sizes.image)

    def scores(self, records: RecordBatch | None, questions: Sequence[str]) -> Scores:
        """Of each question about the record in its place, its first row: the picture as it is. None: zeros for it."""
        device = next(self.network.parameters()).device
        text = self._embedded(questions)
        image = torch.zeros(len(questions), self.network.sizes.image) if records is None else records.features[:, 0]
        scores: Scores = self.network(text.to(device), image.to(device))
        return scores

    def logits(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        return self.scores(records, questions).answers

    def answerable(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        return torch.sigmoid(self.scores(records, questions).answerable)

    def _embedded(self, questions: Sequence[str]) -> torch.Tensor:
        if self.embed is None:
            raise UsageError(
                "the model reads questions as vectors, and nothing makes these",
                "give a store of texts, or an extractor with a text tower",
            )
        text, wanted = self.embed(questions).float(), self.network.sizes.text
        if text.shape[1] != wanted:
            raise UsageError(
                f"the embeddings of the questions have {text.shape[1]} numbers, the model reads {wanted}",
                "use the text tower of the CLIP that the model was trained with",
            )
        return text


def check_fits(network: LinearClip, answers: AnswerSpace, types: Sequence[str]) -> None:
    """Raise WeightsError when answers or types are not as many as the network has."""
    sizes = network.sizes
    if (len(answers), len(types)) != (sizes.answers, sizes.types):
        raise WeightsError(
            f"the network chooses from {sizes.answers} answers of {sizes.types} types, the lists have "
            f"{len(answers)} and {len(types)}",
            "give the lists that belong to the weights",
        )


def save(folder: Path, model: ClipLinear, dtype: SaveDtype = "float32") -> None:
    """Write all of it into ``folder``; float16 halves the file and is read back as float32."""
    write_json(folder / "config.json", {**model.network.sizes.to_config(), "type_names": list(model.types)})
    write_tensors(folder / "model.safetensors", model.network.state_dict(), dtype)
    model.answers.write(folder / "answers.json")
    write_json(folder / "featx.json", model.about)
