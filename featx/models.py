"""The kinds of models there are, and the one that a checkpoint is of: entry points of the group ``featx.models``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place, locate_model
from featx.consumer import Answers, Captions, Chooses, Consumer, Grounds, JudgesAnswerable, Matches
from featx.errors import UsageError, WeightsError
from featx.registry import load, plugins

GROUP = "featx.models"
Kind = type[Consumer]
C = TypeVar("C", bound=Consumer)

# ability (a class) -> what a model does that has it
ABILITIES: dict[Any, str] = {
    Answers: "answer questions",
    JudgesAnswerable: "judge whether a question can be answered",
    Captions: "write captions",
    Matches: "match texts and pictures",
    Grounds: "find what a text is about",
    Chooses: "choose among the answers and rationales of VCR",
}


def recognise(place: Place) -> Kind:
    """The kind of the checkpoint there. Raises WeightsError when no kind, or more than one, says it is its own.

    The kind that is called as ``model_type`` in ``config.json`` says is asked first, and alone if it agrees, so that
    others are not even imported.
    """
    stated = read_config(place.beside("config.json")).get("model_type")
    for entry in plugins(GROUP):
        if entry.name == stated and (named := cast(Kind, load(GROUP, entry.name))).recognises(place):
            return named
    found = [kind for kind in _usable() if kind.recognises(place)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(entry.name for entry in plugins(GROUP))
    what = place.weights or place.folder
    if found:
        raise WeightsError(f"{what} is claimed by {', '.join(k.name for k in found)}", "say model_type in config.json")
    raise WeightsError(
        f"{what} is a model of the kind {stated!r}, which nobody here reads",
        f"known are {known}; `featx models` tells what they read",
    )


def load_consumer(location: str | os.PathLike[str], ability: Callable[..., C], **options: Any) -> C:
    """The model of a folder, weights file or hub id, in eval mode.

    ability: what it must be able to do (Answers, Captions, ...). options: those of its kind's ``load``; None is not
    given. Raises UsageError for an option its kind does not have and for another ability, WeightsError,
    MissingDependency.
    """
    place = locate_model(location if isinstance(location, str) else Path(location))
    kind, given = recognise(place), {name: value for name, value in options.items() if value is not None}
    known = inspect.signature(kind.load).parameters.values()
    taken = {one.name for one in known if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)} - {"place"}
    for name in given:
        if name not in taken and not any(one.kind is one.VAR_KEYWORD for one in known):
            raise UsageError(
                f"{name} is given, and models of the kind {kind.name} have none",
                f"they take {', '.join(sorted(taken)) or 'no options'}",
            )
    model = kind.load(place, **given)
    wanted = cast(Kind, ability)  # a class; mypy takes an abstract one for a callable only
    if not isinstance(model, wanted):
        able = ", ".join(abilities(type(model))) or "nothing that has a command"
        raise UsageError(
            f"{location} is a model of the kind {kind.name}, and does not {ABILITIES.get(wanted, wanted.__name__)}",
            f"what it does: {able}",
        )
    model.network.eval()
    return cast(C, model)


def abilities(kind: Kind) -> list[str]:
    """What models of a kind do, in words."""
    return [words for ability, words in ABILITIES.items() if issubclass(kind, ability)]


def _usable() -> Iterator[Kind]:
    """Every kind that can be imported."""
    for entry in plugins(GROUP):
        try:
            yield cast(Kind, load(GROUP, entry.name))
        except Exception:  # a stranger's module may fail in any way, which `featx models` tells
            continue
