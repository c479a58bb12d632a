"""A vocabulary for the text tower: the words of the texts, between two ends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from featx.text.library import tokenizers

BEGIN, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"


class Letters:
    """Words and marks in lower case; others are unknown."""

    def __init__(self, words: Sequence[str], length: int) -> None:
        package = tokenizers()
        self.words = {word: i for i, word in enumerate((UNKNOWN, *words, BEGIN, END))}
        backend = package.Tokenizer(package.models.WordLevel(self.words, unk_token=UNKNOWN))
        backend.normalizer = _normalizer(package)
        backend.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
        backend.add_special_tokens([UNKNOWN, BEGIN, END])
        backend.post_processor = package.processors.TemplateProcessing(
            single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, self.begin), (END, self.end)]
        )
        backend.enable_truncation(length)
        self.backend, self.length = backend, length

    @classmethod
    def of(cls, texts: Iterable[str], most: int, length: int) -> Letters:
        """The ``most`` frequent words, of equally frequent ones those that come first in the alphabet."""
        package = tokenizers()
        normal, cut = _normalizer(package), package.pre_tokenizers.BertPreTokenizer()
        counts = Counter(word for text in texts for word, _ in cut.pre_tokenize_str(normal.normalize_str(text)))
        return cls(sorted(counts, key=lambda word: (-counts[word], word))[:most], length)

    @property
    def begin(self) -> int:
        """Id of the end in front."""
        return self.words[BEGIN]

    @property
    def end(self) -> int:
        """Id of the end behind, which is also the padding."""
        return self.words[END]

    def __len__(self) -> int:
        """Size of the vocabulary."""
        return len(self.words)

    def encode(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask ``[B, L]`` int64, L the longest of them."""
        found = [self.backend.encode(text).ids for text in texts]
        longest = max(map(len, found))
        ids = torch.tensor([one + [self.end] * (longest - len(one)) for one in found])
        mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in found])
        return ids, mask

    def save(self, folder: Path) -> None:
        """``tokenizer.json`` and ``tokenizer_config.json``, as transformers reads them."""
        whole: Any = type(self.backend).from_str(self.backend.to_str())  # a copy: threads may be encoding with ours
        whole.no_truncation()
        whole.save(str(folder / "tokenizer.json"))
        about = {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END, "pad_token": END,
            "unk_token": UNKNOWN, "model_max_length": self.length,
        }  # fmt: skip
        (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n")


def _normalizer(package: Any) -> Any:
    return package.normalizers.BertNormalizer(lowercase=True, strip_accents=False)
