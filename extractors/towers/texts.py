"""The text tower of a CLIP with its tokenizer: texts -> vectors in the space shared with pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featx.checkpoint.fill import fill
from featx.checkpoint.place import locate
from featx.checkpoint.tower import tower_hash, tower_of
from featx.device import usable_device
from featx.errors import UsageError, WeightsError
from featx.text.library import transformers
from featx_extractors.towers.family import Family, check_numbers, constructed, family_of, sizes, vision_section
from featx_extractors.towers.loading import count_positions, read_checkpoint
from featx_extractors.towers.seeded import byte_tokenizer, seeded_location, seeded_tensors

# What decides the network in a ``text_config``.
_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
    "max_position_embeddings", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id", "projection_size",
    "project_dim", "type_vocab_size", "position_embedding_type", "pooler_fn",
)  # fmt: skip
_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
_COUNTS = (".position_ids", ".token_type_ids")
_OWN = ("text_model.", "text_projection.")


@dataclass(frozen=True, eq=False)
class TextTower:
    """model: a whole CLIP without its vision tower, in eval mode. vision, text: hashes of the two towers.

    words: sha256 of the tokenizer.
    """

    family: Family
    model: Any
    tokenizer: Any
    longest: int
    source: str
    trained: bool
    vision: str
    text: str
    words: str

    @property
    def dim(self) -> int:
        """P, the length of a vector."""
        return int(getattr(self.model.config, "projection_dim", 0) or self.model.config.text_config.projection_size)

    def ids(self, text: str) -> tuple[int, ...]:
        """The numbers of a text, begin and end included; of a long one the end is cut off."""
        filled = {"padding": "max_length"} if self.family.padded else {}
        found = self.tokenizer(text, truncation=True, max_length=self.longest, **filled)
        return tuple(found["input_ids"])

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the tower reads."""
        return len(self.tokenizer(text, verbose=False)["input_ids"]) > self.longest

    @torch.inference_mode()
    def __call__(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Vectors ``[B, P]`` float32 on the CPU, not normalised, of texts of one length: none is padded for another."""
        place = next(self.model.parameters()).device
        found = self.model.get_text_features(input_ids=torch.tensor([list(one) for one in ids], device=place))
        return torch.as_tensor(found.pooler_output).float().cpu()

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors ``[B, P]`` of texts of any lengths, each computed as if it were alone.

        Raises UsageError for a text that is no list.
        """
        if isinstance(texts, str):
            raise UsageError(f"one text is given, {texts[:40]!r}, where a list of them is expected", "write [text]")
        return torch.cat([self([self.ids(text)]) for text in texts]) if texts else torch.zeros(0, self.dim)


def load_texts(location: str | Path, device: str = "cpu") -> TextTower:
    """The text tower of a CLIP, or a friend, with both towers in one checkpoint. Raises WeightsError."""
    seed = seeded_location(str(location))
    if seed is not None:
        config, tensors = seeded_tensors(seed)
        return _build(config, tensors, byte_tokenizer(), str(location), device, trained=False)
    place = locate(location)
    config, tensors = read_checkpoint(place, str(location))
    if isinstance(config.get("text_config"), Mapping):  # the tokenizer reads them, too, and says less
        check_numbers(config["text_config"], str(place.folder))
    tokenizer = _tokenizer(place.folder)
    return _build(config, tensors, tokenizer, place.hub_id or str(place.weights), device, trained=True)


def _build(
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    tokenizer: Any,
    source: str,
    device: str,
    *,
    trained: bool,
) -> TextTower:
    family, model = text_network(config, tensors, source)
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(_OWN) and not name.endswith(_COUNTS)}
    longest = min(_longest(model.config.text_config), getattr(tokenizer, "model_max_length", 1 << 30))
    return TextTower(
        family, model.to(usable_device(device)), tokenizer, longest, source, trained,
        tower_hash(tower_of(tensors)), tower_hash(own), _hash_of_words(tokenizer),
    )  # fmt: skip


def text_network(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], source: str) -> tuple[Family, Any]:
    """A whole CLIP in eval mode, every tensor used; its vision tower is dropped. Raises WeightsError."""
    if not isinstance(config.get("text_config"), Mapping) or not any(n.startswith("text_model.") for n in tensors):
        raise WeightsError(
            f"there is no text tower in {source}", "texts are read by a whole CLIP: vision and text tower in one file"
        )
    section = vision_section(config) or {}
    family, library = family_of(section, source), transformers()
    text = {**config["text_config"], **(config.get("text_config_dict") or {})}
    settings: dict[str, Any] = {
        "vision_config": sizes(section, source),
        "text_config": {name: text[name] for name in _SIZES if text.get(name) is not None},
    }
    if "text_projection.weight" in tensors:
        settings["projection_dim"] = int(tensors["text_projection.weight"].shape[0])
    model = constructed(library, family.whole, settings, source)
    fill(model, {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTS)}, source)
    count_positions(model)
    model.vision_model = None
    return family, model.eval()


def _longest(config: Any) -> int:
    """Tokens a text may have: RoBERTa's positions begin behind the padding's number."""
    roberta = config.model_type.startswith(("altclip", "roberta", "xlm"))
    return int(config.max_position_embeddings) - (int(config.pad_token_id) + 1 if roberta else 0)


def _tokenizer(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in _FILES):
        raise WeightsError(f"{folder} has no tokenizer: none of {', '.join(_FILES)}", "get a complete copy")
    try:
        return transformers().AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # of transformers, tokenizers or sentencepiece, of any class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"the tokenizer in {folder} cannot be read: {reason}", "get a complete copy") from None


def _hash_of_words(tokenizer: Any) -> str:
    """sha256 (hex) of all that decides how a text is cut."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()
