"""The vocabulary of a text model on disk: BERT's or DeBERTa's, or word pieces that were learned from texts.

And that of what it says: the list of its answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place, locate
from featx.data import AnswerSpace
from featx.errors import MissingDependency, WeightsError
from featx.text.library import tokenizers, transformers
from featx.text.wordpiece import SPECIAL, Tokens


def load_tokens(place: Place | None, given: str | Path | None, max_length: int) -> Tokens:
    """The vocabulary ``given`` by folder or hub id, or the one beside the weights in ``place``. Raises WeightsError."""
    if given is None and place is not None:
        return tokens_in(place.folder, max_length)
    path = Path(str(given)).expanduser()
    return tokens_in(path if path.exists() else locate(str(given), weights=False).folder, max_length)


def tokens_in(folder: Path, max_length: int) -> Tokens:
    """From ``tokenizer.json``, ``vocab.txt`` or DeBERTa's ``spm.model`` in ``folder``.

    Raises WeightsError, and MissingDependency where ``spm.model`` needs a package to be converted.
    """
    if (
        (folder / "tokenizer.json").is_file()
        or (folder / "vocab.txt").is_file()
        or not (folder / "spm.model").is_file()
    ):
        return Tokens.load(folder, max_length)
    try:
        read: Any = transformers().DebertaV2Tokenizer.from_pretrained(str(folder))
    except ImportError as error:
        raise MissingDependency(
            f"{folder / 'spm.model'} is converted by packages of which one is absent ({error})",
            "pip install sentencepiece protobuf, or give a folder with tokenizer.json",
        ) from None
    except Exception as error:  # what tokenizers and sentencepiece raise has no class of its own
        raise WeightsError(f"the vocabulary in {folder} cannot be read: {error}", "get a complete copy") from None
    return Tokens(read._tokenizer, max_length)


def stated_answers(place: Place, given: str | Path | None = None) -> AnswerSpace | None:
    """The answers of weights: those of the file ``given``, beside them, or in their ``config.json``; None without."""
    path = given or place.beside("answers.json")
    if path is not None:
        return AnswerSpace.read(path)
    names: Any = read_config(place.beside("config.json")).get("id2label") or {}
    if not names or (isinstance(names, dict) and all(str(name).startswith("LABEL_") for name in names.values())):
        return None  # transformers' way to say nothing
    return AnswerSpace.read(place.folder / "config.json")


def save_tokens(tokens: Tokens, folder: Path) -> None:
    """Write the files into ``folder``; transformers' AutoTokenizer reads them."""
    if isinstance(tokens.backend.model, tokenizers().models.WordPiece):
        tokens.save(folder)
        return
    whole = type(tokens.backend).from_str(tokens.backend.to_str())  # a copy: threads may be encoding with ours
    whole.no_truncation()
    whole.save(str(folder / "tokenizer.json"))
    about: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": tokens.max_length}
    about |= {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
