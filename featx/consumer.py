"""Consumer: a trained model that reads records, of whatever kind; found by entry point (group ``featx.models``).

What it can do is said by the abilities it implements: :class:`Answers` questions, :class:`Captions` pictures,
:class:`Matches` texts and pictures, :class:`Grounds` a text in the regions it is about. Where its records come from, a
store or a photo, is not its business: a task that trains it and a predictor that shows it photos use the same methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place
from featx.data import AnswerSpace
from featx.data.vcr import VcrItem
from featx.wants import Wants

if TYPE_CHECKING:
    import torch

    from featx.record import RecordBatch


Score = Literal["softmax", "sigmoid", "logit"]


@dataclass(frozen=True)
class Card:
    """What `featx models` says of a kind of model, in words.

    reads: what it wants from a store. checkpoints: layouts and published names it loads. verified: against what.
    tasks: entry points of ``featx.tasks`` that train it. recipes: files of ``configs/`` with published settings.
    """

    title: str
    reads: str
    checkpoints: Sequence[str]
    verified: str
    tasks: Sequence[str]
    recipes: Sequence[str]


class Consumer(ABC):
    """A network with the words it reads. ``about`` is the ``featx.json`` of its folder, empty if foreign.

    A class method ``check_available``, where there is one, raises MissingDependency for a package it cannot do without.

    Every tensor is computed on the device of the network, and without gradients and in eval mode, where whoever calls
    has seen to that.
    """

    name: ClassVar[str]  # the model_type of its config.json
    card: ClassVar[Card]
    network: torch.nn.Module
    about: Mapping[str, Any]
    max_length: int | None = None  # how much of a text it reads, in its own pieces of words; None: it cannot say

    def is_cut(self, text: str) -> bool:
        """Whether a question, or another text, is longer than the model reads, so that its end is lost."""
        return False

    @classmethod
    def recognises(cls, place: Place) -> bool:
        """Whether the checkpoint there is of this kind: by ``model_type`` in its ``config.json``."""
        return read_config(place.beside("config.json")).get("model_type") == cls.name

    @classmethod
    @abstractmethod
    def load(cls, place: Place, *_: Any, **options: Any) -> Consumer:
        """The model of a place. ``options`` are paths of what may not be beside the weights (answers, tokenizer), and
        whatever the kind documents. Raises WeightsError, UsageError, MissingDependency.
        """

    @property
    @abstractmethod
    def wants(self) -> Wants:
        """What it reads from a store; of a checkpoint with a tower of its own, with the hash of that tower."""


class Answers(Consumer):
    """A model that chooses from a list of answers.

    score: what its loss made of the logits.
    """

    answers: AnswerSpace
    score: Score = "softmax"

    @abstractmethod
    def logits(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        """Logits ``[B, C]`` of the answers to each question about the record in its place; None: about no picture."""

    def attended(self, records: RecordBatch, questions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Logits ``[B, C]`` and how much each region was looked at ``[B, N]`` (rows sum to 1); None: it cannot say."""
        return None


class JudgesAnswerable(Consumer):
    """A model that says whether a picture answers a question at all, as VizWiz asks."""

    @abstractmethod
    def answerable(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        """Chance ``[B]``, 0 to 1, that each question can be answered by the record in its place; None: by none."""


class Captions(Consumer):
    """A model that writes sentences."""

    languages: Sequence[str]

    @property
    def room(self) -> int | None:
        """The most tokens that a caption may have; None: any number."""
        return None

    @abstractmethod
    def caption(self, records: RecordBatch, language: str, beams: int = 4, max_length: int = 64) -> list[str]:
        """A sentence for each record."""


class Matches(Consumer):
    """A model that says whether a text is about a picture."""

    @abstractmethod
    def match(self, records: RecordBatch, texts: Sequence[str]) -> torch.Tensor:
        """Logits ``[B, 2]``: column 1 is that of a match."""


class Grounds(Consumer):
    """A model that says which regions a text is about."""

    @abstractmethod
    def ground(self, records: RecordBatch, texts: Sequence[str]) -> torch.Tensor:
        """Logits ``[B, N, 2]`` of the regions: column 1 says that the text is about the region."""


class Chooses(Consumer):
    """A model that chooses among four answers to a question about the objects of a picture, or four reasons (VCR).

    chooses: which of both it was made for, ``answer``, ``rationale``.
    """

    @property
    @abstractmethod
    def chooses(self) -> frozenset[str]: ...

    @abstractmethod
    def choose(self, records: RecordBatch, items: Sequence[VcrItem]) -> torch.Tensor:
        """Logits ``[B, 4]`` of the answers. Raises UsageError for a model that was not made for these."""

    @abstractmethod
    def reason(self, records: RecordBatch, items: Sequence[VcrItem], answers: Sequence[int]) -> torch.Tensor:
        """Logits ``[B, 4]`` of the rationales of one answer to each. Raises UsageError likewise."""


class TextEmbeddings(Consumer):
    """A model that is given texts as vectors of the network which belongs to its pictures'.

    embed: texts -> ``[B, P]`` float32; set by whoever shows it pictures, before a text is put to it. cut: whether a
    text is longer than what ``embed`` reads, set likewise.
    """

    embed: Callable[[Sequence[str]], torch.Tensor] | None = None
    cut: Callable[[str], bool] | None = None

    def is_cut(self, text: str) -> bool:
        return self.cut is not None and self.cut(text)
