"""A vocabulary for the text tower: the words of the texts, between two ends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from featx.errors import WeightsError
from featx.text.library import tokenizers

VOCABULARY = "tokenizer.json"
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

    @classmethod
    def read(cls, folder: Path, length: int) -> Letters:
        """Those that :meth:`save` left in a folder. Raises WeightsError for a vocabulary of another kind."""
        path = folder / VOCABULARY
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
            words = sorted(kept, key=kept.__getitem__)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path} holds no vocabulary: {error!r}", "give the folder of a clip-tower") from None
        if [*words[:1], *words[-2:]] != [UNKNOWN, BEGIN, END]:
            raise WeightsError(f"{path} is not the vocabulary of a clip-tower", "give what that task left behind")
        return cls(words[1:-2], length)

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
        whole.save(str(folder / VOCABULARY))
        about = {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END, "pad_token": END,
            "unk_token": UNKNOWN, "model_max_length": self.length,
        }  # fmt: skip
        (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n")


def _normalizer(package: Any) -> Any:
    return package.normalizers.BertNormalizer(lowercase=True, strip_accents=False)
