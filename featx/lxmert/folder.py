"""A trained model on disk: what transformers reads, its answers, and what it expects of a store.

``config.json`` and ``model.safetensors`` in the form of transformers; ``tokenizer.json``, ``tokenizer_config.json`` and
``vocab.txt``; ``answers.json``, the answers in the order of the classes; and ``featx.json``: task, loss, longest
question, what it wants of a store (dimension, hash of the extractor's profile, sha256 of its weights), how the pictures
it was trained on became features, and the figures it reached.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place, locate, locate_model
from featx.checkpoint.save import SaveDtype, write_json, write_tensors
from featx.data import AnswerSpace
from featx.errors import UsageError, WeightsError
from featx.lxmert.network import load_network
from featx.lxmert.place import named
from featx.lxmert.weights import TIED
from featx.text.wordpiece import MAX_LENGTH, Tokens
from featx.vocabulary import stated_answers


@dataclass(frozen=True)
class Model:
    """A network with the words it reads and the answers it knows; ``about`` is ``featx.json``, empty if foreign."""

    network: Any
    tokens: Tokens
    answers: AnswerSpace | None
    about: Mapping[str, Any] = field(default_factory=dict)


def load_model(
    location: str | Path,
    *,
    tokenizer: str | Path | None = None,
    answers: str | Path | None = None,
    heads: int | None = None,
) -> Model:
    """A model that answers questions, from a folder, a weights file or a hub id.

    tokenizer, answers: where these are, if not beside the weights, as for published models. heads: see
    :func:`featx.lxmert.network.load_network`. Raises WeightsError, UsageError, MissingDependency.
    """
    return model_at(locate_model(named(location)), str(location), tokenizer=tokenizer, answers=answers, heads=heads)


def model_at(
    place: Place,
    location: str,
    *,
    tokenizer: str | Path | None = None,
    answers: str | Path | None = None,
    heads: int | None = None,
) -> Model:
    """:func:`load_model` of a place that is found already, which messages call ``location``."""
    about = read_config(place.beside("featx.json"))
    known = stated_answers(place, None if answers is None else str(answers))
    if known is None:
        raise UsageError(
            f"{location} does not say which answers its classes are",
            "give its label2ans file (a JSON list of the answers in the order of the classes)",
        )
    tokens = load_tokens(place, tokenizer, int(about.get("max_length", MAX_LENGTH)))
    network = load_network(place, heads=heads)
    if not hasattr(network, "answer_head"):
        raise WeightsError(f"{location} has no answer head", "give a model that was trained to answer questions")
    check_fits(network, tokens, known, location)
    return Model(network, tokens, known, about)


def load_tokens(place: Place | None, given: str | Path | None, max_length: int) -> Tokens:
    """The vocabulary ``given`` by location, or the one beside the weights in ``place``."""
    if given is None and place is not None:
        return Tokens.load(place.folder, max_length)
    path = Path(str(given)).expanduser()
    return Tokens.load(path if path.exists() else locate(str(given), weights=False).folder, max_length)


def check_fits(network: Any, tokens: Tokens, answers: AnswerSpace | None, where: str) -> None:
    """Raise WeightsError when words or answers are not as many as the network has."""
    config = network.config
    if len(tokens) != config.vocab_size or tokens.max_length > config.max_position_embeddings:
        raise WeightsError(
            f"{where} knows {config.vocab_size} word pieces and texts of {config.max_position_embeddings}, "
            f"the vocabulary has {len(tokens)} and texts may have {tokens.max_length}",
            "give the vocabulary that belongs to the weights",
        )
    if answers is not None and len(answers) != config.num_qa_labels:
        raise WeightsError(
            f"{where} chooses from {config.num_qa_labels} answers, the list has {len(answers)}",
            "give the list that belongs to the weights",
        )


def save_model(folder: Path, model: Model, dtype: SaveDtype = "float32") -> None:
    """Write all of it into ``folder``; float16 halves the file and is read back as float32."""
    save_network(folder, model.network, dtype, model.answers)
    model.tokens.save(folder)
    if model.answers is not None:
        model.answers.write(folder / "answers.json")
    write_json(folder / "featx.json", model.about)


def save_network(folder: Path, network: Any, dtype: SaveDtype = "float32", answers: AnswerSpace | None = None) -> None:
    """``config.json`` and ``model.safetensors``, as transformers' from_pretrained reads them."""
    config = network.config.to_dict() | {"architectures": [type(network).__name__], "dtype": "float32"}
    names = [] if answers is None else list(answers)
    config["id2label"] = {str(i): name for i, name in enumerate(names)}
    config["label2id"] = {name: i for i, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    tensors = {name: t for name, t in network.state_dict().items() if name not in TIED}
    write_tensors(folder / "model.safetensors", tensors, dtype)
