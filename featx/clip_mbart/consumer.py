"""The model as a consumer of records: the published checkpoint, or a folder that was exported after training.

A folder has ``config.json`` in the published layout, ``model.safetensors`` under the published names without the vision
tower, the files of the vocabulary, and ``featx.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place, locate
from featx.checkpoint.save import SaveDtype, write_json, write_tensors
from featx.clip_mbart.generate import Search, Start, write
from featx.clip_mbart.languages import PUBLISHED
from featx.clip_mbart.network import TIED, Loaded, encoded, load_network
from featx.clip_mbart.vocabulary import MAX_LENGTH, Vocabulary
from featx.consumer import Captions, Card
from featx.errors import UsageError, WeightsError
from featx.grids import grid
from featx.text.library import tokenizers, transformers
from featx.towered import of_checkpoint, wants_of_grid
from featx.wants import Wants

if TYPE_CHECKING:
    from featx.record import RecordBatch


class ClipVisionMbart(Captions):
    """CLIP-Vision-mBART50 and smaller ones like it.

    network: see :mod:`featx.clip_mbart.network`. config: the ``config.json`` it was made by. languages: ``en``, ... it
    writes. start: see :class:`featx.clip_mbart.generate.Search`.
    """

    name: ClassVar[str] = "clip-vision-mbart"
    card: ClassVar[Card] = Card(
        title="CLIP-Vision-mBART50: captions in several languages",
        reads="a grid of CLIP (ViT-B/32 at 224: 50 x 768): last_hidden_state with CLS, of the model's own tower",
        checkpoints=(
            "flax-community/clip-vit-base-patch32_mbart-large-50: flax_model.msgpack",
            "the same as pytorch_model.bin or model.safetensors",
            "facebook/mbart-large-50, to begin training with",
        ),
        verified="the Flax model of gchhablani/multilingual-image-captioning: every depth, losses, generated ids",
        tasks=("clip-mbart-captions",),
        recipes=("clip_vision_mbart_captions.yaml", "clip_mbart_scenes.yaml"),
    )

    network: Any

    def __init__(self, loaded: Loaded, vocabulary: Vocabulary, about: Mapping[str, Any]) -> None:
        self.network, self.config, self.tokens, self.about = loaded.network, loaded.config, vocabulary, about
        self.languages: Sequence[str] = [
            language for language in about.get("languages", PUBLISHED) if language in vocabulary.codes
        ]
        self.start: Start = about.get("start_token", "eos")
        check_fits(loaded.network, vocabulary)

    @classmethod
    def check_available(cls) -> None:
        """Raise MissingDependency without transformers or tokenizers."""
        transformers()
        tokenizers()

    @classmethod
    def load(cls, place: Place, *, tokenizer: str | Path | None = None) -> ClipVisionMbart:
        """tokenizer: folder or hub id of the vocabulary, if it is not beside the weights."""
        about = read_config(place.beside("featx.json"))
        loaded = load_network(place)
        length = about.get("max_length") or min(MAX_LENGTH, loaded.network.config.max_position_embeddings)
        vocabulary = load_vocabulary(place, tokenizer, int(length))
        return cls(loaded, vocabulary, about or {"languages": list(PUBLISHED), **of_checkpoint(place, loaded.tower)})

    @property
    def dim(self) -> int:
        """D of the features."""
        return int(self.network.model.visual_projection.in_features)

    @property
    def wants(self) -> Wants:
        return wants_of_grid(self.about, self.dim)

    def caption(self, records: RecordBatch, language: str, beams: int = 4, max_length: int | None = None) -> list[str]:
        """A sentence for each record. max_length: tokens with the one it starts from, language code and end, by
        default 64, or the fewer that there is room for. Raises UsageError for more of them than :attr:`room`.
        """
        max_length = min(64, self.room) if max_length is None else max_length
        if max_length > self.room:
            raise UsageError(f"max_length is {max_length}, the model has room for {self.room}", f"{self.room} or fewer")
        return self.search(records, language, Search(beams, max_length, start=self.start))

    @property
    def room(self) -> int:
        """The most tokens that a caption may have in a search."""
        return int(self.network.config.max_position_embeddings)

    @torch.no_grad()
    def search(self, records: RecordBatch, language: str, how: Search) -> list[str]:
        """:meth:`caption` with every setting of the search. Raises UsageError for a language it does not write."""
        code = self.tokens.code(language)
        device = next(self.network.parameters()).device
        looked = grid(records)
        seen, mask = encoded(self.network, looked["features"].to(device)), looked["image_mask"].to(device)
        return self.tokens.decode(write(self.network, seen, mask, code, how).ids.tolist())


def load_vocabulary(place: Place | None, given: str | Path | None, max_length: int) -> Vocabulary:
    """The vocabulary ``given`` by location, or the one beside the weights in ``place``."""
    if given is None and place is not None:
        return Vocabulary.load(place.folder, max_length)
    path = Path(str(given)).expanduser()
    return Vocabulary.load(path if path.exists() else locate(str(given), weights=False).folder, max_length)


def check_fits(network: Any, vocabulary: Vocabulary) -> None:
    """Raise WeightsError when the network has not a row for every piece, or a place for every token."""
    config = network.config
    if len(vocabulary) != config.vocab_size or vocabulary.max_length > config.max_position_embeddings:
        raise WeightsError(
            f"the network knows {config.vocab_size} pieces and captions of {config.max_position_embeddings}, the "
            f"vocabulary has {len(vocabulary)} and captions may have {vocabulary.max_length}",
            "give the vocabulary that belongs to the weights",
        )


def save(
    folder: Path, network: Any, config: Mapping[str, Any], vocabulary: Vocabulary, about: Mapping[str, Any],
    dtype: SaveDtype = "float32",
) -> None:  # fmt: skip
    """Write all of it into ``folder``; float16 halves the file and is read back as float32."""
    mbart = {**config["mbart_config"], "layer_norm_eps": network.model.decoder.layer_norm.eps}
    write_json(folder / "config.json", {**config, "mbart_config": mbart})
    write_tensors(folder / "model.safetensors", {n: t for n, t in network.state_dict().items() if n not in TIED}, dtype)
    vocabulary.save(folder)
    write_json(folder / "featx.json", about)
