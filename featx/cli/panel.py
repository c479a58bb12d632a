"""The models that are asked, side by side, and what they are asked with: from flags, or a YAML file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from featx.errors import PictureRefused, UsageError

if TYPE_CHECKING:
    from featx.predictor import Predictor
    from featx.record import Record
    from featx.translate import Translator

_SECTIONS = ("models", "translators", "extractor")
_MODEL = ("model", "answers", "tokenizer", "heads", "score")
_WAYS = ("question", "answer")


@dataclass
class Panel:
    """Predictors by name, "" for the only one; translators by language: ``{"question": model, "answer": model}``."""

    predictors: Mapping[str, Predictor]
    translators: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dictionary: str | None = None
    _records: dict[str, Record] = field(default_factory=dict)

    def record(self, name: str, picture: str) -> Record:
        """The picture's record for one model; models of one extractor share it."""
        predictor = self.predictors[name]
        made = json.dumps([picture, (predictor.model.about.get("wants") or {}).get("extractor")], sort_keys=True)
        if made not in self._records:
            try:
                self._records[made] = predictor.record(picture)
            except PictureRefused as refusal:  # of many pictures one may be refused; the only one is a mistake
                raise UsageError(refusal.message, refusal.hint) from None
        return self._records[made]

    def translator(self, language: str) -> Translator:
        """Between ``language`` and English."""
        from featx.translate import Dictionary, Marian

        if self.dictionary:
            return Dictionary.read(self.dictionary)
        ways = self.translators.get(language, {})
        names = {"question": f"{language}>en", "answer": f"en>{language}"}
        return Marian({names[way]: model for way, model in ways.items()})


def read_panel(options: argparse.Namespace, store: str | None) -> Panel:
    """The panel of a command's options. Raises UsageError, WeightsError, ..."""
    from featx.predictor import Predictor

    settings = _read(options.config)
    models = _models(options, settings)
    extractor = dict(settings.get("extractor") or {})
    if options.weights:
        extractor["weights"] = options.weights
    score = options.score
    predictors = {
        name: Predictor(
            one.get("model"), store, extractor or None, answers=one.get("answers"), tokenizer=one.get("tokenizer"),
            heads=one.get("heads"), score=score or one.get("score"), device=options.device,
            allow_mismatch=options.allow_mismatch,
        )
        for name, one in models.items()
    }  # fmt: skip
    translators = {str(k): _ways(str(k), v) for k, v in (settings.get("translators") or {}).items()}
    dictionary = None
    if options.translator and options.translator.endswith(".json"):
        dictionary = options.translator
    elif options.translator:
        translators[options.language] = dict(zip(_WAYS, options.translator.split(","), strict=False))
    return Panel(predictors, translators, dictionary)


def _models(options: argparse.Namespace, settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name -> what a Predictor is made from; flags win over the file."""
    beside = {"answers": options.answers, "tokenizer": options.tokenizer}
    if options.model:
        found = dict(_named(text) for text in options.model)
        if len(found) < len(options.model):
            raise UsageError("two models have one name", "give each its own: --model vqa=DIR --model gqa=DIR")
        return {name: {"model": location, **beside} for name, location in found.items()}
    stated = settings.get("models") or {}
    for name, one in stated.items():
        unknown = sorted(set(one) - set(_MODEL)) if isinstance(one, Mapping) else ["?"]
        if unknown:
            raise UsageError(f"models.{name} of {options.config} is {one!r}", f"give a mapping of {', '.join(_MODEL)}")
    return {str(name): one for name, one in stated.items()} or {"": beside}


def _named(text: str) -> tuple[str, str]:
    """``vqa=runs/vqa/best`` -> (vqa, runs/vqa/best); a location alone is called by its last part."""
    name, equals, location = text.partition("=")
    return (name, location) if equals and name and "/" not in name else (Path(text).name, text)


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
