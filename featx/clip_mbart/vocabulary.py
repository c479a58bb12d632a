"""Captions <-> numbers: the vocabulary of mBART-50, or one of our own that is learned from captions.

Both are laid out alike: ``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, the pieces of words, a code for each language,
``<mask>``. ``▁`` stands for the space in front of a word. A caption is its language's code, its pieces, ``</s>``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from featx.clip_mbart.languages import CODES, language_of
from featx.errors import UsageError, WeightsError
from featx.text.library import tokenizers, transformers

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
PAD, EOS = 1, 2
MAX_LENGTH = 64  # tokens of a caption with its code and </s>, of the published training script
_MASK = "<mask>"


@dataclass(frozen=True)
class Encoded:
    """ids ``[B, L]`` int64, padded; mask ``[B, L]`` bool; how many of the B captions were cut short."""

    ids: torch.Tensor
    mask: torch.Tensor
    truncated: int = 0


class Vocabulary:
    """Pieces of words and codes of languages, around a tokenizer of the package tokenizers. Letters keep their case."""

    def __init__(self, backend: Any, max_length: int = MAX_LENGTH) -> None:
        found = [backend.token_to_id(token) for token in SPECIAL]
        if found != list(range(len(SPECIAL))):
            raise WeightsError(
                f"the vocabulary gives {', '.join(SPECIAL)} the ids {found}, expected 0, 1, 2, 3",
                "give the vocabulary of mBART-50, or one made like it",
            )
        backend.no_padding()
        backend.no_truncation()
        self.backend, self.max_length = backend, max_length
        ids = {language: backend.token_to_id(code) for language, code in CODES.items()}
        self.codes = {language: int(i) for language, i in ids.items() if i is not None}
        self._silent = {0, PAD, EOS, *self.codes.values()} | {backend.token_to_id(_MASK)}
        self._pieces = lru_cache(maxsize=1 << 16)(self._cut)  # epochs repeat their captions

    def __len__(self) -> int:
        """Size of the vocabulary: the largest id and one."""
        return int(max(self.backend.get_vocab().values())) + 1

    @classmethod
    def load(cls, folder: Path, max_length: int = MAX_LENGTH) -> Vocabulary:
        """From ``tokenizer.json`` or mBART-50's ``sentencepiece.bpe.model`` in ``folder``. Raises WeightsError."""
        whole, model = folder / "tokenizer.json", folder / "sentencepiece.bpe.model"
        try:
            if whole.is_file():
                return cls(tokenizers().Tokenizer.from_file(str(whole)), max_length)
            if model.is_file():
                return cls(transformers().MBart50Tokenizer.from_pretrained(str(folder))._tokenizer, max_length)
        except WeightsError:
            raise
        except Exception as error:  # what tokenizers raises has no class of its own
            raise WeightsError(f"the vocabulary in {folder} cannot be read: {error}", "get a complete copy") from None
        raise WeightsError(
            f"{folder} has no tokenizer.json and no sentencepiece.bpe.model",
            "give the folder of a tokenizer, for example of facebook/mbart-large-50",
        )

    @classmethod
    def train(
        cls, texts: Iterable[str], languages: Iterable[str], size: int = 1000, max_length: int = MAX_LENGTH
    ) -> Vocabulary:
        """The letters of ``texts`` and their most frequent words, together about ``size`` entries.

        The same texts give the same vocabulary, in any order and in every process. A caption of known letters and
        single spaces comes back from its pieces letter by letter. Raises UsageError for a language without a code.
        """
        codes = [CODES[language_of(name)] for name in sorted(set(languages))]
        empty = _tokenizer([])
        counts = Counter(word for text in texts for word, _ in empty.pre_tokenizer.pre_tokenize_str(text))
        letters = {letter for word in counts for letter in word} | {"▁"}
        words = sorted((word for word in counts if word not in letters), key=lambda word: (-counts[word], word))
        room = max(0, size - len(SPECIAL) - len(letters) - len(codes) - 1)
        return cls(_tokenizer([*sorted(letters), *sorted(words[:room]), *codes, _MASK], [*codes, _MASK]), max_length)

    def save(self, folder: Path) -> None:
        """Write the files into ``folder``; transformers' AutoTokenizer reads them."""
        self.backend.save(str(folder / "tokenizer.json"))
        about = {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "pad_token": "<pad>",
            "eos_token": "</s>", "unk_token": "<unk>", "mask_token": _MASK, "model_max_length": self.max_length,
            "additional_special_tokens": [CODES[language] for language in self.codes],
            "clean_up_tokenization_spaces": False,
        }  # fmt: skip
        (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n")

    def code(self, language: str) -> int:
        """The id of a language, named ``en`` or ``en_XX``. Raises UsageError."""
        short = language_of(language)
        if short not in self.codes:
            raise UsageError(f"the vocabulary has no language {language!r}", f"known are {', '.join(self.codes)}")
        return self.codes[short]

    def encode(self, texts: Sequence[str], languages: Sequence[str]) -> Encoded:
        """Codes, pieces and ``</s>``; captions of more than ``max_length`` tokens lose their end, but not ``</s>``."""
        room, rows, cut = self.max_length - 2, [], 0
        for text, language in zip(texts, languages, strict=True):
            pieces = self._pieces(text)
            cut += len(pieces) > room
            rows.append([self.code(language), *pieces[:room], EOS])
        ids = torch.full((len(rows), max(map(len, rows), default=0)), PAD, dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        return Encoded(ids, torch.arange(ids.shape[1]) < lengths[:, None], cut)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row, up to the first ``</s>`` behind its first token, without codes and padding."""
        return [self.backend.decode(self._spoken(row), skip_special_tokens=False).strip() for row in ids]

    def _spoken(self, row: Sequence[int]) -> list[int]:
        end = next((place for place, i in enumerate(row) if i == EOS and place), len(row))
        return [int(i) for i in row[:end] if i not in self._silent]

    def _cut(self, text: str) -> tuple[int, ...]:
        return tuple(self.backend.encode(text, add_special_tokens=False).ids)  # one by one: no threads before a fork


def _tokenizer(entries: Sequence[str], special: Sequence[str] = ()) -> Any:
    """Words as they are, and what is no word of the vocabulary as its longest pieces from the left."""
    package = tokenizers()
    ids = {token: i for i, token in enumerate([*SPECIAL, *entries])}
    backend = package.Tokenizer(
        package.models.WordPiece(ids, unk_token="<unk>", continuing_subword_prefix="", max_input_chars_per_word=1000)
    )
    metaspace, punctuation = package.pre_tokenizers.Metaspace(), package.pre_tokenizers.Punctuation()
    backend.pre_tokenizer = package.pre_tokenizers.Sequence([metaspace, punctuation])
    backend.decoder = package.decoders.Metaspace()
    backend.add_special_tokens([token for token in (*SPECIAL, *special) if token in ids])
    return backend
