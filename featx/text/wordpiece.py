"""Questions -> word pieces, as BERT (uncased) cuts them; read from files, or learned from the words of a corpus.

Files are those of transformers (``tokenizer.json``, ``tokenizer_config.json``, ``vocab.txt``), in both directions.
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

from featx.errors import WeightsError
from featx.text.library import tokenizers

MAX_LENGTH = 20  # word pieces with [CLS] and [SEP], of the published models
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_FILES = "tokenizer.json or vocab.txt"


@dataclass(frozen=True)
class Encoded:
    """ids ``[B, L]`` and mask ``[B, L]``, int64, L the longest of the batch; how many of the B texts were cut short."""

    ids: torch.Tensor
    mask: torch.Tensor
    truncated: int = 0


class Tokens:
    """A WordPiece vocabulary and the rules around it: lower case, [CLS] text [SEP], padding 0."""

    def __init__(self, backend: Any, max_length: int = MAX_LENGTH) -> None:
        backend.no_padding()
        backend.enable_truncation(max_length)
        absent = [token for token in SPECIAL if backend.token_to_id(token) is None]
        if absent or backend.token_to_id("[PAD]") != 0:
            what = f"has no {', '.join(absent)}" if absent else "does not give [PAD] the id 0"
            raise WeightsError(f"the vocabulary {what}", "give the vocabulary of an uncased BERT, or one made like it")
        self.backend, self.max_length = backend, max_length
        self.special_ids = frozenset(int(backend.token_to_id(token)) for token in SPECIAL)
        self.mask_id = int(backend.token_to_id("[MASK]"))
        self._pieces = lru_cache(maxsize=1 << 16)(self._cut)  # data sets repeat their questions

    def __len__(self) -> int:
        """Size of the vocabulary."""
        return int(self.backend.get_vocab_size())

    @classmethod
    def load(cls, folder: Path, max_length: int = MAX_LENGTH) -> Tokens:
        """From ``tokenizer.json`` or ``vocab.txt`` in ``folder`` (or from such a file). Raises WeightsError."""
        package, inner = tokenizers(), folder if folder.is_dir() else folder.parent
        whole, words = (inner / "tokenizer.json", inner / "vocab.txt") if folder.is_dir() else (folder, folder)
        try:
            if whole.is_file() and whole.suffix == ".json":
                return cls(package.Tokenizer.from_file(str(whole)), max_length)
            if words.is_file():
                vocabulary = words.read_text(encoding="utf-8").splitlines()
                return cls(_wordpiece({word: i for i, word in enumerate(vocabulary)}, _lower(inner)), max_length)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(f"the vocabulary in {folder} cannot be read: {error}", "get a complete copy") from None
        except WeightsError:
            raise
        except Exception as error:  # what tokenizers raises has no class of its own
            raise WeightsError(f"the vocabulary in {folder} cannot be read: {error}", "get a complete copy") from None
        raise WeightsError(
            f"{folder} has no {_FILES}", "give the folder of a tokenizer, for example of an uncased BERT"
        )

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 1000, max_length: int = MAX_LENGTH) -> Tokens:
        """The letters of ``texts`` and their most frequent words, together ``size`` pieces (more, if letters are more).

        The same texts give the same vocabulary, in any order and in every process, which the trainer of ``tokenizers``
        does not promise where pieces are equally frequent; a data set drawn from a grammar has whole words anyway.
        """
        empty = _wordpiece({token: i for i, token in enumerate(SPECIAL)}, lower=True)
        counts = Counter(
            word
            for text in texts
            for word, _ in empty.pre_tokenizer.pre_tokenize_str(empty.normalizer.normalize_str(text))
        )
        letters = {word[0] for word in counts} | {f"##{letter}" for word in counts for letter in word[1:]}
        words = sorted((word for word in counts if word not in letters), key=lambda word: (-counts[word], word))
        chosen = [*SPECIAL, *sorted(letters), *sorted(words[: max(0, size - len(SPECIAL) - len(letters))])]
        return cls(_wordpiece({piece: i for i, piece in enumerate(chosen)}, lower=True), max_length)

    def save(self, folder: Path) -> None:
        """Write the files into ``folder``; transformers' AutoTokenizer reads them."""
        vocabulary = sorted(self.backend.get_vocab().items(), key=lambda item: item[1])
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in vocabulary), encoding="utf-8")
        whole = type(self.backend).from_str(self.backend.to_str())  # a copy: threads may be encoding with ours
        whole.no_truncation()
        whole.save(str(folder / "tokenizer.json"))
        about: dict[str, Any] = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
        about |= {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
        about["model_max_length"] = self.max_length
        (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n")

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids of ``texts``, padded to the longest; texts of more than ``max_length`` pieces lose their end."""
        pieces = [self._pieces(text) for text in texts]
        longest = max((len(ids) for ids, _ in pieces), default=0)
        ids = torch.zeros(len(texts), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, (own, _) in enumerate(pieces):
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = 1
        return Encoded(ids, mask, sum(cut for _, cut in pieces))

    def _cut(self, text: str) -> tuple[tuple[int, ...], bool]:
        found = self.backend.encode(text)  # one by one: encode_batch starts threads, which do not survive a fork
        return tuple(found.ids), bool(found.overflowing)


def _wordpiece(vocabulary: dict[str, int], lower: bool) -> Any:
    """The tokenizer of BERT around a vocabulary."""
    package = tokenizers()
    backend = package.Tokenizer(package.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = package.normalizers.BertNormalizer(lowercase=lower)
    backend.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
    backend.decoder = package.decoders.WordPiece()
    backend.add_special_tokens([token for token in SPECIAL if token in vocabulary])
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]") if token in vocabulary]
    if len(ends) == 2:
        backend.post_processor = package.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
    return backend


def _lower(folder: Path) -> bool:
    """What ``tokenizer_config.json`` says about letters; published LXMERT has lower ones."""
    path = folder / "tokenizer_config.json"
    return bool(json.loads(path.read_bytes()).get("do_lower_case", True)) if path.is_file() else True
