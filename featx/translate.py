"""Questions and answers in other languages: a translator on either side of a model that knows one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from featx.errors import MissingDependency, UsageError, WeightsError

# Marian models of the OPUS-MT project exist for most pairs of languages, under this name.
MARIAN = "Helsinki-NLP/opus-mt-{source}-{target}"
_BEAMS, _LONGEST = 4, 64
_BESIDE = ("*.json", "*.spm", "*.txt")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Translator(Protocol):
    """Whatever translates."""

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """Each text in the language ``target``; languages are codes such as ``en``, ``fr``, ``ko``."""
        ...


class Dictionary:
    """A translator that looks whole texts up and leaves alone what it does not know.

    entries: ``{"fr>en": {"Quelle couleur ?": "What colour?"}, "en>fr": {"red": "rouge"}}``. Letter case and the number
    of spaces do not matter.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, str]]) -> None:
        self._entries = {
            pair: {_plain(text): translation for text, translation in texts.items()} for pair, texts in entries.items()
        }

    @classmethod
    def read(cls, path: str | Path) -> Dictionary:
        """From a JSON file. Raises UsageError."""
        try:
            entries = json.loads(Path(path).read_bytes())
            return cls({str(pair): dict(texts) for pair, texts in entries.items()})
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UsageError(
                f"the dictionary {path} cannot be read: {error}", 'expected {"fr>en": {"rouge": "red"}, ...} as JSON'
            ) from None

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        if f"{source}>{target}" not in self._entries:
            known = ", ".join(self._entries) or "nothing"
            raise UsageError(f"the dictionary has no {source}>{target}", f"it has {known}")
        words = self._entries[f"{source}>{target}"]
        return [words.get(_plain(text), text) for text in texts]


class Marian:
    """MarianMT models of transformers, by folder or hub id.

    names: direction (``fr>en``) -> model; other directions use the template ``MARIAN``. A model is loaded on ``device``
    when its direction is first asked for. beams: of the search. longest: pieces of a translation, at most.
    """

    def __init__(
        self,
        names: Mapping[str, str] | None = None,
        device: str = "cpu",
        *,
        beams: int = _BEAMS,
        longest: int = _LONGEST,
    ) -> None:
        self.names, self.device, self.beams, self.longest = dict(names or {}), device, beams, longest
        self._loaded: dict[str, tuple[Any, Any]] = {}

    def model(self, source: str, target: str) -> str:
        """The model of a direction."""
        return self.names.get(f"{source}>{target}") or MARIAN.format(source=source, target=target)

    def about(self, source: str, target: str) -> dict[str, Any]:
        """What decides how a text is translated."""
        return {
            "from": source, "to": target, "model": self.model(source, target), "beams": self.beams,
            "longest": self.longest,
        }  # fmt: skip

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """Raises WeightsError for a model that cannot be found, MissingDependency without transformers."""
        if not texts:
            return []
        name = self.model(source, target)
        if name not in self._loaded:
            self._loaded[name] = _load(name, self.device)
        tokenizer, model = self._loaded[name]
        batch = tokenizer(list(texts), return_tensors="pt", padding=True, truncation=True).to(self.device)
        wanted = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask")}
        out = model.generate(**wanted, num_beams=self.beams, max_new_tokens=self.longest)
        return [str(text).strip() for text in tokenizer.batch_decode(out, skip_special_tokens=True)]


def _load(name: str, device: str) -> tuple[Any, Any]:
    """Tokenizer and model."""
    try:
        import huggingface_hub
        import transformers
    except ImportError:
        raise MissingDependency("translating needs transformers", "pip install 'featx[translate]'") from None
    try:
        folder = name if Path(name).expanduser().is_dir() else _download(huggingface_hub, name)
        with _without_bars(transformers.utils.logging):
            tokenizer = transformers.AutoTokenizer.from_pretrained(Path(folder).expanduser())
            model = transformers.AutoModelForSeq2SeqLM.from_pretrained(Path(folder).expanduser())
    except ImportError as error:
        reason = str(error).strip().splitlines()[0]
        raise MissingDependency(f"{name} needs another package: {reason}", "pip install 'featx[translate]'") from None
    except Exception as error:  # the hub's, the tokenizer's or the file reader's, by version
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"the translation model {name} cannot be loaded: {reason}",
            "check the name and the connection, or give the folder of a local copy",
        ) from None
    return tokenizer, model.to(device).eval()


def _download(hub: Any, name: str) -> str:
    """The folder of a hub id in the cache. transformers alone tries for a minute, aloud, where there is no network."""
    for weights in _WEIGHTS:
        folder = str(hub.snapshot_download(name, allow_patterns=[*_BESIDE, weights]))
        if (Path(folder) / weights).is_file():
            break
    return folder


@contextmanager
def _without_bars(logging: Any) -> Iterator[None]:
    """Nothing of transformers' progress among the answers; left as it was found."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
