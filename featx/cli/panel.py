"""The models that are asked, side by side, and what they are asked with: from flags, or a YAML file."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from featx.errors import PictureRefused, UsageError

if TYPE_CHECKING:
    from featx.consumer import Consumer
    from featx.predictor import Predictor
    from featx.record import Record
    from featx.translate import Translator

_SECTIONS = ("models", "translators", "extractor")
_MODEL = {"model": str, "answers": str, "tokenizer": str, "heads": int, "score": str}
_WAYS = ("question", "answer")


@dataclass
class Panel:
    """Predictors by name; translators by language: ``{"question": model, "answer": model}``.

    dictionary: a JSON file in place of translators. device: of the translators; predictors have their own.
    """

    predictors: Mapping[str, Predictor]
    translators: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dictionary: str | None = None
    device: str = "cpu"
    _made: dict[str, tuple[Predictor, Record]] = field(default_factory=dict)

    def record(self, name: str, picture: str) -> Record:
        """The picture's record for one model; models of one extractor share it, which has to fit each of them."""
        predictor = self.predictors[name]
        made = json.dumps([picture, predictor.sight.recipe], sort_keys=True)
        if made not in self._made:
            try:
                self._made[made] = predictor, predictor.record(picture)
            except PictureRefused as refusal:  # of many pictures one may be refused; the only one is a mistake
                raise UsageError(refusal.message, refusal.hint) from None
        first, record = self._made[made]
        predictor.sight.share(first.sight)
        return record

    def translator(self, language: str) -> Translator:
        """Between ``language`` and English."""
        from featx.translate import Dictionary, Marian

        if self.dictionary:
            return Dictionary.read(self.dictionary)
        ways = self.translators.get(language, {})
        names = {"question": f"{language}>en", "answer": f"en>{language}"}
        return Marian({names[way]: model for way, model in ways.items()}, self.device)

    def notes(self) -> list[str]:
        """What does not fit the models and was allowed."""
        return [
            f"{name}: {note}" if len(self.predictors) > 1 else note
            for name, predictor in self.predictors.items()
            for note in predictor.notes
        ]


def read_panel(options: argparse.Namespace, store: str | None) -> Panel:
    """The panel of a command's options. Raises UsageError, WeightsError, ..."""
    from featx.predictor import Predictor

    settings = _read(options.config)
    models = _models(options, settings)
    extractor = dict(settings.get("extractor") or {})
    if options.weights:
        extractor["weights"] = options.weights
    translators = {str(k): _ways(str(k), v) for k, v in (settings.get("translators") or {}).items()}
    dictionary = None
    if options.translator and options.translator.endswith(".json"):
        dictionary = options.translator
    elif options.translator:
        translators[options.language] = _two(options.translator)
    predictors = {
        name: Predictor(
            one.get("model"), store, extractor or None, answers=one.get("answers"), tokenizer=one.get("tokenizer"),
            heads=one.get("heads"), score=options.score or one.get("score"), device=options.device,
            allow_mismatch=options.allow_mismatch,
        )
        for name, one in models.items()
    }  # fmt: skip
    return Panel(predictors, translators, dictionary, options.device)


def pieces(model: Consumer) -> str:
    """How much of a text a model reads, in words."""
    return "the model reads" if model.max_length is None else f"{model.max_length} word pieces"


def _models(options: argparse.Namespace, settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name -> what a Predictor is made from; flags win over the file."""
    beside = {"answers": options.answers, "tokenizer": options.tokenizer}
    if options.model:
        found = _named(options.model)
        if len(dict(found)) < len(found):
            raise UsageError("two models have one name", "give each its own: --model vqa=DIR --model gqa=DIR")
        return {name: {"model": location, **beside} for name, location in found}
    stated = settings.get("models") or {}
    for name, one in stated.items():
        if not isinstance(one, Mapping) or set(one) - set(_MODEL):
            raise UsageError(f"models.{name} of {options.config} is {one!r}", f"give a mapping of {', '.join(_MODEL)}")
        for key, value in one.items():
            if value is not None and type(value) is not _MODEL[key]:
                expected = "a whole number" if _MODEL[key] is int else "text"
                raise UsageError(f"models.{name}.{key} of {options.config} is {value!r}", f"give {expected}")
    return {str(name): one for name, one in stated.items()} or {"default": beside}


def _named(models: Sequence[str]) -> list[tuple[str, str]]:
    """``vqa=runs/vqa/best`` -> (vqa, runs/vqa/best); locations alone are called by as many of their last parts as tell
    them apart."""
    pairs = [text.partition("=") if re.match(r"[^/=]+=", text) else ("", "", text) for text in models]
    bare = {location: Path(location).parts for name, _, location in pairs if not name}
    depth = next((n for n in range(1, 9) if len({parts[-n:] for parts in bare.values()}) == len(bare)), 1)
    return [(name or "/".join(bare[location][-depth:]), location) for name, _, location in pairs]


def _two(text: str) -> dict[str, str]:
    """``IN,OUT`` of ``--translator`` -> its models by way; either may be left out."""
    names = [name.strip() for name in text.split(",")]
    if len(names) > len(_WAYS):
        raise UsageError(
            f"--translator names {len(names)} models: {text}", "give one to English and one back: --translator IN,OUT"
        )
    return {way: name for way, name in zip(_WAYS, names, strict=False) if name}


def _ways(language: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or set(value) - set(_WAYS) or not all(isinstance(v, str) for v in value.values()):
        raise UsageError(f"translators.{language} is {value!r}", "give {question: MODEL, answer: MODEL}")
    return dict(value)


def _read(path: str | None) -> dict[str, Any]:
    """The sections of the file. Raises UsageError."""
    if path is None:
        return {}
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"the configuration {path} cannot be read: {error}", "see configs/lxmert_ask.yaml") from None
    data = {} if data is None else data
    if not isinstance(data, dict) or set(data) - set(_SECTIONS):
        raise UsageError(f"{path} is not a configuration of `featx ask`", f"its sections are {', '.join(_SECTIONS)}")
    for name in _SECTIONS:
        if not isinstance(data.get(name) or {}, Mapping):
            raise UsageError(f"{name} of {path} is {data[name]!r}", "give a mapping")
    return data
