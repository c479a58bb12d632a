"""The models that answer: which there are, in which languages, about which stores. Loaded when first asked.

What can be known without loading one (its kind, its languages, what it wants of a store) is read from the JSON beside
its weights, so that nobody waits for torch to hear of it.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.checkpoint.config import read_config
from featx.checkpoint.place import locate_model
from featx.errors import FeatxError, UsageError
from featx.lxmert.place import named
from featx.serve.problems import Problem, log
from featx.wants import Wants, mismatches, wants_of

if TYPE_CHECKING:
    from featx.live import Live
    from featx.predictor import Predictor
    from featx.store import Manifest

ENGLISH = ("en",)  # what a model reads that does not say
RETRY = 60  # seconds for which a model that could not be loaded is left alone
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_SPEC = re.compile(r"(?:(?P<name>[^/=@]+)(?:@(?P<languages>[^/=]*))?=)?(?P<location>.+)")


@dataclass(frozen=True)
class ModelSpec:
    """A model to be served. languages: of its questions; none: those of its ``featx.json``, or else English."""

    name: str
    location: str
    languages: tuple[str, ...] = ()


def read_model(text: str) -> ModelSpec:
    """``[NAME[@LANG,LANG]=]DIR`` of a command line: ``mqa@en,fr,de,es=runs/mqa/best``.

    A model without a name is called as its folder, or as the one around it where that is ``best``, as in a run. Raises
    UsageError.
    """
    found = _SPEC.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} names no model", "give [NAME[@LANG,LANG]=]DIR")
    path = Path(found["location"])
    name = found["name"] or (path.parent.name if path.name == "best" and path.parent.name else path.name) or "model"
    if not found["name"]:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    languages = tuple(one.strip() for one in (found["languages"] or "").split(",") if one.strip())
    if not _NAME.fullmatch(name):
        raise UsageError(f"a model cannot be called {name!r}", "use letters, digits, dots, - and _")
    if bad := [one for one in languages if not _LANGUAGE.fullmatch(one)]:
        raise UsageError(f"{bad[0]!r} is no language", "give codes such as en,fr")
    return ModelSpec(name, found["location"], languages)


class Model:
    """One model, loaded by whichever thread needs it first.

    Raises what :func:`featx.checkpoint.place.locate_model` does where there is none.
    """

    def __init__(self, spec: ModelSpec, device: str, extractor: Mapping[str, Any] | None) -> None:
        self.name, self.location = spec.name, str(named(spec.location))
        place = locate_model(self.location)
        self.about = read_config(place.beside("featx.json"))
        self.kind = read_config(place.beside("config.json")).get("model_type")
        stated = self.about.get("languages")
        self.languages = spec.languages or (tuple(map(str, stated)) if isinstance(stated, list) else ENGLISH)
        self._device, self._extractor = device, dict(extractor or {})
        self._lock = threading.RLock()
        self._predictor: Predictor | None = None
        self._failed: tuple[float, FeatxError] | None = None

    @property
    def recipe(self) -> dict[str, Any] | None:
        """What makes its records of photos; None: it does not say, and cannot be shown any."""
        stated = (self.about.get("wants") or {}).get("extractor")
        if stated is None and "name" not in self._extractor:
            return None
        return {"stated": stated, "changes": self._extractor}

    @property
    def eye(self) -> str:
        """Equal for models whose photos go through the same extractor with the same options."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()

    @property
    def is_loaded(self) -> bool:
        """Whether the network is in memory."""
        return self._predictor is not None

    @property
    def predictor(self) -> Predictor:
        """The loaded model. Raises FeatxError: WeightsError, MissingDependency, ..."""
        with self._lock:
            if self._predictor is None:
                self._predictor = self._load()
            return self._predictor

    @property
    def wants(self) -> Wants:
        """What it reads from a store; only a model that does not say in its ``featx.json`` is loaded for that."""
        if self._predictor is None and self.about.get("wants"):
            return wants_of(self.about, None)
        return self.predictor.sight.wants

    def amiss(self, manifest: Manifest) -> str:
        """What of a store does not fit it, in words; empty when all does."""
        return "; ".join(map(str, mismatches(self.wants, manifest.schema, manifest.provenance)))

    def _load(self) -> Predictor:
        if self._failed is not None and time.monotonic() - self._failed[0] < RETRY:
            raise self._failed[1]
        from featx.predictor import Predictor

        try:
            loaded = Predictor(self.location, extractor=self._extractor or None, device=self._device)
        except FeatxError as error:
            self._failed = time.monotonic(), error
            raise
        log.info("the model %s is loaded", self.name)
        return loaded


class Models(Mapping[str, Model]):
    """All models by name, in the order in which they were given.

    Raises UsageError for two of one name, WeightsError for one that is not there.
    """

    def __init__(
        self, specs: Sequence[ModelSpec], device: str = "cpu", extractor: Mapping[str, Any] | None = None
    ) -> None:
        self._models: dict[str, Model] = {}
        for spec in specs:
            if spec.name in self._models:
                raise UsageError(f"two models are called {spec.name!r}", "give each a name of its own: NAME=DIR")
            self._models[spec.name] = Model(spec, device, extractor)
        self._eyes: dict[str, Predictor] = {}
        self._looking = threading.RLock()

    def __getitem__(self, name: str) -> Model:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def choose(self, name: str | None, language: str | None, store: tuple[str, Manifest] | None) -> Model:
        """The model of that name, or the first that reads the language and fits the store (name, manifest).

        May load a model, which takes its time. Raises Problem: there is none, or not for this.
        """
        able = self._asked(name, language)
        if store is None:
            return able[0]
        why = ""
        for model in able:
            amiss = model.amiss(store[1])
            if not amiss:
                return model
            why = why or f"the store {store[0]} does not fit the model {model.name}: {amiss}"
        raise Problem(422, "mismatch", why, "GET /v1/models says which model reads which store")

    def _asked(self, name: str | None, language: str | None) -> list[Model]:
        if not self._models:
            raise Problem(404, "no_model", "no model is served here", "start the server with --model")
        if name is not None and name not in self._models:
            raise Problem(404, "unknown_model", f"no model {name[:200]!r} is served here", "GET /v1/models lists them")
        models = [self._models[name]] if name is not None else list(self._models.values())
        able = [model for model in models if language is None or _reads(model, language)]
        if not able:
            said = "; ".join(f"{model.name}: {', '.join(model.languages)}" for model in models)
            raise Problem(422, "language", f"no model here reads {str(language)[:40]!r}", f"there are {said}")
        return able

    def live(self, model: Model) -> Live:
        """The extractor of a model, which those of one recipe share. For one thread at a time: see :meth:`looking`."""
        predictor = model.predictor
        with self._looking:
            first = self._eyes.setdefault(model.eye, predictor)
            predictor.sight.share(first.sight)
            return predictor.live

    @property
    def looking(self) -> threading.RLock:
        """Held while an extractor works: on pictures, or on texts for a model that reads their embeddings."""
        return self._looking


def _reads(model: Model, language: str) -> bool:
    """``pt-BR`` is read by a model of ``pt``, too."""
    wanted = language.lower()
    return any(wanted in (one.lower(), f"{one.lower()}-{wanted.partition('-')[2]}") for one in model.languages)
